"""The router: typed questions to the best model, whatever other questions come along."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fits import SUMS, TOWNS, contents, exact, random_factorization
from sklearn.exceptions import NotFittedError

from embedllm import CorrectnessMatrix, MatrixFactorization, Router, encode_questions
from embedllm.datasets.encoder import find_encoder
from embedllm.datasets.encoder_check import check_encoder
from embedllm.matrix import EncoderName
from embedllm.protocol.routers import PredictedBest

COLUMNS = ["question", "model", "probability", "runner_up", "runner_up_probability", "unfamiliar"]


def with_questions(matrix, questions=None, embeddings=None):
    labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    questions = matrix.questions if questions is None else questions
    return CorrectnessMatrix(labels, questions, matrix.embeddings if embeddings is None else embeddings)


class TestRoute:
    def test_sends_questions_where_they_are_answered(self, router):
        routes = router.route(["What is 5 plus 99?", "Which country is Vienna the capital of?"])
        assert list(routes["model"]) == ["sums", "capitals"]
        assert (routes["probability"] > 0.5).all()

    def test_form(self, router):
        texts = ["What is 1 plus 1?", "a", "a"]
        routes = router.route(texts)
        assert list(routes.columns) == COLUMNS
        assert list(routes["question"]) == texts
        assert (routes["probability"] >= routes["runner_up_probability"]).all()
        assert (routes["model"] != routes["runner_up"]).all()
        assert routes.index.equals(pd.RangeIndex(3))
        assert routes.loc[1].equals(routes.loc[2])

    def test_shows_what_it_is(self, router):
        assert repr(router).startswith(f"Router of {len(router.model_names)} models: MatrixFactorization(")
        assert repr(router).endswith(f" on vectors of {router.encoder.name}")

    def test_no_questions_give_the_same_form(self, router):
        empty = router.route([])
        assert empty.shape == (0, 6)
        pd.testing.assert_series_equal(empty.dtypes, router.route(["a"]).dtypes)

    def test_agrees_with_the_policy_that_is_evaluated(self, router, matrix):
        routes = router.route(matrix.questions["prompt"])
        policy = PredictedBest("MF").fit(matrix, {"MF": router.factorization})
        chosen = matrix.model_names[policy.shares(matrix).argmax(axis=0)]
        assert list(routes["model"]) == list(chosen)
        predicted = np.sort(router.factorization.predict_proba(matrix.embeddings), axis=1)
        np.testing.assert_allclose(routes["probability"], predicted[:, -1], atol=1e-6)
        np.testing.assert_allclose(routes["runner_up_probability"], predicted[:, -2], atol=1e-6)

    def test_question_gets_the_same_answer_alone_and_among_others(self, router, matrix):
        prompts = matrix.questions["prompt"].tolist()
        alone = pd.concat([router.route([prompt]) for prompt in prompts], ignore_index=True)
        pd.testing.assert_frame_equal(alone, router.route(prompts), check_exact=True)

    @pytest.mark.parametrize("n_models", [2, 5, 56, 113])
    def test_ties_go_to_the_first_name_whatever_the_order(self, small_encoder, n_models):
        names = [f"model-{number:03}" for number in np.random.default_rng(n_models).permutation(n_models)]
        router = Router(random_factorization(names, equal_rows=True), small_encoder, "cpu")
        routes = router.route([f"question {number % 40}" for number in range(1000)])
        assert set(routes["model"]) == {"model-000"}
        assert set(routes["runner_up"]) == {"model-001"}

    def test_order_of_the_models_changes_nothing(self, router, small_encoder):
        texts = SUMS[:5] + TOWNS[:5] + ["something else"]
        order = [2, 0, 1]
        shuffled = exact()
        parameters = router.factorization.parameters_.of_models(torch.tensor(order))
        names = [router.factorization.model_names_[position] for position in order]
        shuffled.__dict__.update(vars(router.factorization))
        shuffled._restore(parameters, names, {"history_": {}})
        pd.testing.assert_frame_equal(
            Router(shuffled, small_encoder, "cpu").route(texts), router.route(texts), check_exact=True
        )

    def test_pool_of_one_model_has_no_runner_up(self, small_encoder):
        router = Router(random_factorization(["alone"]), small_encoder, "cpu")
        for texts in (["a", "b"], []):
            routes = router.route(texts)
            assert list(routes["model"]) == ["alone"] * len(texts)
            assert list(routes["runner_up"]) == [None] * len(texts)
            assert routes["runner_up_probability"].isna().all()
            assert routes["runner_up"].dtype == object

    def test_sure_predictions_are_still_ordered(self, small_encoder):
        factorization = random_factorization(["a", "b", "c"])
        factorization.intercept_[:] = [90, 100, 95]  # all 1 in float32
        routes = Router(factorization, small_encoder, "cpu").route(["x"])
        assert routes.loc[0, ["model", "runner_up"]].tolist() == ["b", "c"]
        assert routes.loc[0, "probability"] == 1

    def test_rank_lists_all_models_in_order(self, router):
        ranked = router.rank(SUMS[:3], top=9)
        assert list(ranked.columns) == ["question", "rank", "model", "probability", "unfamiliar"]
        assert ranked["rank"].tolist() == [1, 2, 3] * 3
        assert ranked["question"].tolist() == [text for text in SUMS[:3] for _ in range(3)]
        predicted = router.predictor.predict_proba(encode_questions(SUMS[:3], router.encoder.folder, device="cpu"))
        np.testing.assert_allclose(ranked["probability"], -np.sort(-predicted, axis=1).ravel(), atol=1e-6)
        routes = router.route(SUMS[:3])
        assert ranked.query("rank == 2")["model"].tolist() == routes["runner_up"].tolist()
        assert router.rank([]).empty

    def test_fallback_takes_what_no_model_is_likely_to_answer(self, router):
        texts = SUMS[:2] + TOWNS[:2]
        best = router.route(texts)
        limit = float(np.sort(best["probability"])[1:3].mean())
        routes = router.route(texts, min_probability=limit, fallback="nothing")
        low = best["probability"] < limit
        assert low.sum() == 2
        pd.testing.assert_frame_equal(routes[~low], best[~low])
        assert routes.loc[low, "model"].eq("nothing").all()
        assert routes.loc[low, "runner_up"].tolist() == best.loc[low, "model"].tolist()
        nothing = router.route(texts, models=["nothing"])
        np.testing.assert_array_equal(routes.loc[low, "probability"], nothing.loc[low, "probability"])
        assert nothing["runner_up"].isna().all()

    def test_choice_among_some_models(self, router):
        assert set(router.route(SUMS, models=["nothing", "capitals"])["model"]) <= {"nothing", "capitals"}
        assert router.rank(SUMS[:1], models=["sums", "sums"])["model"].tolist() == ["sums"]
        with pytest.raises(KeyError, match="unknown model 'x'"):
            router.route(SUMS, models=["x"])
        for minimum in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="min_probability must be between 0 and 1, got"):
                router.route(SUMS, min_probability=minimum)
        for one in ({"min_probability": 0.5}, {"fallback": "sums"}):
            with pytest.raises(ValueError, match="min_probability and fallback go together"):
                router.route(SUMS, **one)

    def test_questions_may_come_one_after_the_other(self, router):
        pd.testing.assert_frame_equal(router.route(text for text in SUMS[:3]), router.route(SUMS[:3]))
        assert router.rank((text for text in SUMS[:3]), 1)["question"].tolist() == SUMS[:3]

    def test_single_text_is_refused(self, router):
        with pytest.raises(TypeError, match=r"must be a list of questions, got the text 'What is .*': pass \[text\]"):
            router.route("What is 1 plus 1?")

    @pytest.mark.parametrize("empty", ["", " ", "\n\t"])
    def test_empty_question_is_named(self, router, empty):
        with pytest.raises(ValueError, match="question 1 is empty"):
            router.route(["a", empty])

    @pytest.mark.parametrize("entry", [None, 7, float("nan")])
    def test_entry_that_is_not_text_is_named(self, router, entry):
        with pytest.raises(TypeError, match="text 1 is not text"):
            router.route(["a", entry])

    def test_factorization_of_another_width_is_named(self, small_encoder):
        router = Router(random_factorization(["a", "b"], width=12), small_encoder, "cpu")
        for call in (router.route, lambda texts: router.add_model("new", dict.fromkeys(texts, 1))):
            with pytest.raises(ValueError, match=r"shape \(1, 384\); the fit was on shape \(n_questions, 12\): pass"):
                call(["x"])


class TestConstruct:
    def test_needs_a_fitted_factorization(self, small_encoder):
        with pytest.raises(TypeError, match="must be a CorrectnessPredictor, got str"):
            Router("mf.safetensors", small_encoder)
        with pytest.raises(NotFittedError, match="not fitted yet"):
            Router(MatrixFactorization(), small_encoder)

    def test_imports_no_encoder_library(self):
        code = "import sys, embedllm.router; assert 'sentence_transformers' not in sys.modules"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestFit:
    def test_learns_all_observed_answers_with_the_settings_given(self, router, matrix):
        by_name = matrix.subset(models=sorted(matrix.model_names))
        assert [value.numpy().tobytes() for value in exact().fit(by_name).parameters_] == [
            value.numpy().tobytes() for value in router.factorization.parameters_
        ]

    def test_embeddings_need_not_be_of_unit_length_or_full_precision(self, matrix, small_encoder):
        scaled = with_questions(matrix, embeddings=(matrix.embeddings * 3).astype(np.float16))
        Router.fit(scaled, exact(), encoder=small_encoder, device="cpu")

    def test_without_prompts(self, matrix, small_encoder):
        for questions in (matrix.questions.drop(columns="prompt"), matrix.questions.assign(prompt=None)):
            with pytest.raises(ValueError, match=r"have no prompt, .*: bring data with a column 'prompt'"):
                Router.fit(with_questions(matrix, questions), encoder=small_encoder)

    def test_with_some_prompts(self, matrix, small_encoder):
        questions = matrix.questions.copy()
        questions.iloc[::2, questions.columns.get_loc("prompt")] = None
        Router.fit(with_questions(matrix, questions), exact(), encoder=small_encoder, device="cpu")

    def test_single_question(self, matrix, small_encoder):
        one = matrix.subset(questions=["q3"])
        router = Router.fit(one, exact(), encoder=small_encoder, device="cpu")
        assert np.isfinite(router.route(["x"])["probability"]).all()

    def test_simulated_pool_is_refused(self, small_pool, small_encoder):
        with pytest.raises(ValueError, match=r"have no prompt|do not come from the encoder"):
            Router.fit(small_pool[0], encoder=small_encoder)

    def test_embeddings_of_another_encoder_are_refused(self, matrix, small_encoder):
        rng = np.random.default_rng(0)
        for other in (rng.standard_normal((28, 384)), matrix.embeddings[::-1], matrix.embeddings[:, ::-1]):
            with pytest.raises(ValueError, match=r"do not come from the encoder .* on question 'q.*the cosine"):
                Router.fit(with_questions(matrix, embeddings=other), encoder=small_encoder)
        with pytest.raises(ValueError, match="they have width 12, and it gives width 384"):
            Router.fit(with_questions(matrix, embeddings=matrix.embeddings[:, :12]), encoder=small_encoder)

    def test_one_swapped_pair_among_the_probes_is_found(self, matrix, small_encoder):
        swapped = matrix.embeddings.copy()
        swapped[[0, -1]] = swapped[[-1, 0]]
        with pytest.raises(ValueError, match="do not come from the encoder"):
            Router.fit(with_questions(matrix, embeddings=swapped), encoder=small_encoder)

    def test_something_else_than_a_matrix(self, matrix, small_encoder):
        with pytest.raises(TypeError, match="expected a CorrectnessMatrix, got ndarray"):
            Router.fit(matrix.labels, encoder=small_encoder)

    def test_encoder_that_the_matrix_names_is_the_default(self, matrix, router, small_encoder):
        found = find_encoder(small_encoder)
        named = matrix._with(encoder=EncoderName(found.name, found.fingerprint))
        fitted = Router.fit(named, exact(), device="cpu")
        assert fitted.encoder == router.encoder
        Router.fit(named, exact(), encoder=small_encoder, device="cpu")

    def test_another_encoder_than_the_matrix_names_is_refused(self, matrix, small_encoder):
        named = matrix._with(encoder=EncoderName("org/encoder", "0" * 64))
        with pytest.raises(
            ValueError, match=r"were made with the encoder org/encoder \(fingerprint 0{64}\), and .* is an"
        ):
            Router.fit(named, exact(), encoder=small_encoder, device="cpu")

    def test_encoder_of_another_machine_is_named(self, matrix):
        named = matrix._with(encoder=EncoderName("/no/such/encoder", "0" * 64))
        with pytest.raises(
            FileNotFoundError, match=r"folder /no/such/encoder, which is not on this machine: pass encoder"
        ):
            Router.fit(named, exact(), device="cpu")

    def test_zeroeval_with_the_paper_s_encoder(self, zeroeval, mpnet):
        check_encoder(zeroeval, mpnet, "cpu")


PRICES = {"sums": 3.0, "capitals": 2.0, "nothing": 0.5}
TEXTS = SUMS[:4] + TOWNS[:4]


class TestPrices:
    """What an answer costs: a limit, and a tradeoff against the probability that it is correct."""

    def test_without_a_tradeoff_it_is_plain_routing(self, router):
        plain = router.route(TEXTS)
        pd.testing.assert_frame_equal(router.route(TEXTS, prices=PRICES, max_cost=3.0), plain)
        with_minimum = {"min_probability": 0.99, "fallback": "a person"}
        without = router.route(TEXTS, prices=PRICES, tradeoff=0, **with_minimum)
        pd.testing.assert_frame_equal(without, router.route(TEXTS, **with_minimum))

    def test_only_affordable_models_are_chosen(self, router):
        routes = router.route(TEXTS, prices=PRICES, max_cost=2.0)
        pd.testing.assert_frame_equal(routes, router.route(TEXTS, models=["capitals", "nothing"]))
        (only,) = set(router.route(TEXTS, prices=pd.Series(PRICES), max_cost=0.5)["model"])
        assert only == "nothing"

    def test_choice_is_the_probability_minus_the_price(self, router):
        ranked = router.rank(TEXTS, top=3).pivot(index="question", columns="model", values="probability")
        tradeoffs = (0.02, 0.1, 0.3, 1e6)
        choices = [router.route(TEXTS, prices=PRICES, tradeoff=each) for each in tradeoffs]
        for tradeoff, routes in zip(tradeoffs, choices, strict=True):
            scores = ranked - tradeoff * pd.Series(PRICES)
            for row in routes.itertuples():
                first, second = scores.loc[row.question].sort_values(ascending=False).index[:2]
                assert (row.model, row.runner_up) == (first, second)
                assert row.probability == ranked.loc[row.question, first]
        assert len({tuple(routes["model"]) for routes in choices}) > 1
        assert set(choices[-1]["model"]) == {"nothing"}  # the cheapest

    def test_equally_cheap_models_are_told_apart_at_any_tradeoff(self, router):
        prices = {"sums": 1e5 / 3, "capitals": 1e5 / 3, "nothing": 1e5}
        routes = router.route(TEXTS, prices=prices, tradeoff=1e9)
        expected = router.route(TEXTS, models=["sums", "capitals"])
        assert routes["model"].tolist() == expected["model"].tolist()

    def test_with_a_minimum_the_cheapest_that_reaches_it(self, router):
        best = router.route(TEXTS)["probability"]
        minimum = {"min_probability": float(best.min()), "fallback": "a person"}
        routes = router.route(TEXTS, prices=PRICES, tradeoff=1e6, **minimum)
        ranked = router.rank(TEXTS, top=3)
        reached = ranked[ranked["probability"] >= best.min()]
        cheapest = reached.assign(price=reached["model"].map(PRICES)).sort_values("price").drop_duplicates("question")
        assert routes["model"].tolist() == cheapest.set_index("question")["model"][TEXTS].tolist()
        assert set(routes["model"]) > {"sums"}
        minimum["min_probability"] = 1.0
        nobody = router.route(TEXTS, prices=PRICES, tradeoff=1e6, **minimum)
        assert set(nobody["model"]) == {"a person"}
        assert set(nobody["runner_up"]) == {"nothing"}

    def test_question_gets_the_same_answer_alone_and_among_others(self, router):
        priced = {"prices": PRICES, "tradeoff": 0.1}
        alone = pd.concat([router.route([text], **priced) for text in TEXTS], ignore_index=True)
        pd.testing.assert_frame_equal(alone, router.route(TEXTS, **priced), check_exact=True)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"prices": {"sums": 1.0, "nothing": 1.0}, "max_cost": 2.0},
                "no price of model 'capitals' is known: add it to the prices",
            ),
            ({"prices": PRICES}, "prices go with max_cost or tradeoff: pass prices=.* and one of them"),
            ({"max_cost": 1.0}, "prices go with max_cost or tradeoff"),
            ({"tradeoff": 1.0}, "prices go with max_cost or tradeoff"),
            ({"prices": PRICES, "max_cost": 0.1}, "the cheapest, 'nothing', costs 0.5: raise max_cost"),
            ({"prices": PRICES, "tradeoff": -1.0}, "tradeoff must be a finite number of at least 0, got -1.0"),
        ],
        ids=["unknown", "prices alone", "limit alone", "tradeoff alone", "too expensive", "negative"],
    )
    def test_refused_before_anything_is_encoded(self, router, monkeypatch, options, message):
        monkeypatch.setattr(router, "_encode", lambda *_: pytest.fail("hours of work"))
        with pytest.raises(ValueError, match=message):
            router.route(SUMS, **options)

    def test_models_that_are_not_asked_need_no_price(self, router):
        prices = {"sums": 1.0, "nothing": 0.1}
        assert set(router.route(SUMS, models=["sums", "nothing"], prices=prices, max_cost=1)["model"]) <= set(prices)


@pytest.fixture(scope="module")
def larger(small_encoder):
    """A router for 63 sums, more questions than the least that tells a usual one."""
    prompts = [f"What is {a} plus {b}?" for a in range(2, 9) for b in range(13, 49, 4)]
    ids = [f"q{number}" for number in range(len(prompts))]
    labels = pd.DataFrame(np.random.default_rng(0).integers(0, 2, (2, len(ids))), ["a", "b"], ids)
    questions = pd.DataFrame({"benchmark": "sums", "prompt": prompts}, ids)
    vectors = encode_questions(prompts, small_encoder, device="cpu")
    return Router.fit(CorrectnessMatrix(labels, questions, vectors), exact(), encoder=small_encoder, device="cpu")


class TestUnfamiliar:
    def test_is_what_the_embeddings_say(self, larger, small_encoder):
        texts = ["What is 5 plus 17?", "What is 6 plus 38?", "Write an ode to the moon."]
        routes, ranks = larger.route(texts), larger.rank(texts, top=2)
        assert routes["unfamiliar"].tolist() == [False, False, True]
        assert routes["unfamiliar"].dtype == ranks["unfamiliar"].dtype == bool
        assert ranks["unfamiliar"].tolist() == [False, False, False, False, True, True]
        vectors = encode_questions(texts, small_encoder, device="cpu")
        assert larger.familiarity.is_unfamiliar(vectors).tolist() == routes["unfamiliar"].tolist()

    def test_new_model_changes_nothing(self, larger):
        before = larger.familiarity
        larger.add_model("new", {"Write an ode to the moon.": True, "What is 5 plus 17?": False})
        assert larger.familiarity is before

    def test_nothing_is_known_without_a_fit_or_from_few_questions(self, larger, router, small_encoder):
        for each in (Router(larger.factorization, small_encoder, "cpu"), router):
            assert each.route(["Write an ode to the moon."])["unfamiliar"].tolist() == [False]


class TestNewModel:
    @pytest.fixture
    def grown(self, router, small_encoder):
        """The router with a model that knows the capitals and can add."""
        answers = dict.fromkeys(SUMS[::2] + TOWNS[::2], True)
        return Router(router.factorization, small_encoder, "cpu").add_model("both", answers)

    def test_is_routed_to_by_moderated_probabilities(self, grown, router, small_encoder):
        texts = SUMS[:4] + TOWNS[:3]
        vectors = encode_questions(texts, small_encoder, device="cpu")
        x, new = np.column_stack([vectors, np.ones(len(vectors))]).astype(float), grown.new_models["both"]
        variance = ((x @ new.spread.T.astype(float)) ** 2).sum(axis=1)
        logits = (x @ new.weights.astype(float)) / np.sqrt(1 + np.pi / 8 * variance)
        everyone = np.column_stack([router.factorization.predict_proba(vectors), 1 / (1 + np.exp(-logits))])
        routes = grown.route(texts)
        names = np.array([*router.factorization.model_names_, "both"])
        assert routes["model"].tolist() == names[everyone.argmax(axis=1)].tolist()
        np.testing.assert_allclose(routes["probability"], everyone.max(axis=1), atol=1e-5)
        assert variance.min() > 0
        # Among two specialists, the one that answers everything correctly is never the worst.
        assert ((routes[["model", "runner_up"]] == "both").any(axis=1)).all()

    def test_question_gets_the_same_answer_alone_and_among_others(self, grown):
        together = grown.route(SUMS + TOWNS)
        alone = pd.concat([grown.route([text]) for text in SUMS + TOWNS], ignore_index=True)
        pd.testing.assert_frame_equal(alone, together, check_exact=True)

    def test_is_saved_and_loaded_with_it(self, grown, router, tmp_path):
        router.save(tmp_path)
        plain = contents(tmp_path)
        grown.add_model("neither 模型", pd.Series(0, index=SUMS[:5])).save(tmp_path)
        loaded = Router.load(tmp_path, device="cpu")
        assert list(loaded.new_models) == ["both", "neither 模型"]
        pd.testing.assert_frame_equal(loaded.route(SUMS), grown.route(SUMS), check_exact=True)
        path = next(tmp_path.glob("new-models-*"))
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(ValueError, match=r"new-models-.* is damaged"):
            Router.load(tmp_path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match="lacks its file new-models-"):
            Router.load(tmp_path)
        router.save(tmp_path)
        assert contents(tmp_path) == plain

    def test_strengths_come_from_the_pool_where_it_is_given(self, router, matrix, small_encoder, monkeypatch):
        chosen = []
        monkeypatch.setattr(
            "embedllm.predictors.placement.choose_on_pool", lambda *both: chosen.append(both) or (1.0, 0.1)
        )
        plain, told = (Router(router.factorization, small_encoder, "cpu") for _ in range(2))
        plain.add_model("new", {SUMS[0]: True})
        assert not chosen
        told.add_model("new", {SUMS[0]: True}, pool=matrix)
        assert chosen == [(router.factorization, matrix)]
        np.testing.assert_array_equal(told.new_models["new"].weights, plain.new_models["new"].weights)

    @pytest.mark.parametrize(
        ("name", "answers", "message"),
        [
            ("sums", {SUMS[0]: 1}, "there is a model 'sums' already"),
            (" ", {SUMS[0]: 1}, "needs a name"),
            ("new", {}, "there is no answer of 'new'"),
            ("new", {SUMS[0]: 0.5}, "is 0.5: pass True or False"),
            ("new", {SUMS[0]: None}, "is None: pass True or False"),
            ("new", {" ": 1}, "question 0 is empty"),
        ],
        ids=str,
    )
    def test_what_cannot_be_placed_is_named(self, router, small_encoder, name, answers, message):
        fresh = Router(router.factorization, small_encoder, "cpu")
        with pytest.raises(ValueError, match=message):
            fresh.add_model(name, answers)
        assert not fresh.new_models
