"""The router: typed questions to the best model, and folders that hold a whole router or refuse to load."""

import json
import shutil
import subprocess
import sys

import fits
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

import embedllm.router
from embedllm import CorrectnessMatrix, MatrixFactorization, Router, encode_questions
from embedllm.datasets.encoder import find_encoder
from embedllm.protocol.routers import PredictedBest
from embedllm.router import best_two

COLUMNS = ["question", "model", "probability", "runner_up", "runner_up_probability"]
SUMS = [f"What is {a} plus {b}?" for a in range(2, 9) for b in (13, 27, 41)]
TOWNS = [
    f"Which country is {town} the capital of?" for town in ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Bern")
]


def quick(**settings):
    return MatrixFactorization(**({"dim": 4, "alpha": 0.05, "device": "cpu"} | settings))


@pytest.fixture(scope="module")
def matrix(small_encoder):
    """One model adds, one knows the capitals, one knows nothing; 28 questions."""
    prompts = SUMS + TOWNS
    ids = [f"q{number}" for number in range(len(prompts))]
    is_sum = np.array([prompt in SUMS for prompt in prompts])
    labels = pd.DataFrame([is_sum * 1, ~is_sum * 1, is_sum * 0], ["sums", "capitals", "nothing"], ids)
    questions = pd.DataFrame({"benchmark": np.where(is_sum, "sums", "capitals"), "prompt": prompts}, ids)
    return CorrectnessMatrix(labels, questions, encode_questions(prompts, small_encoder, device="cpu"))


@pytest.fixture(scope="module")
def router(matrix, small_encoder):
    return Router.fit(matrix, encoder=small_encoder, factorization=quick(), device="cpu")


def with_questions(matrix, questions=None, embeddings=None):
    labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    questions = matrix.questions if questions is None else questions
    return CorrectnessMatrix(labels, questions, matrix.embeddings if embeddings is None else embeddings)


def random_factorization(names, width=384, seed=0, equal_rows=False):
    """A fitted factorization without a fit."""
    rng = np.random.default_rng(seed)
    model = fits.quick(dim=3)  # by SGD: of models with equal answers, an exact fit is equal up to rounding
    model.fit(
        CorrectnessMatrix(
            pd.DataFrame(rng.integers(0, 2, (len(names), 5)), names, list("vwxyz")),
            pd.DataFrame({"benchmark": "b"}, list("vwxyz")),
            rng.standard_normal((5, width)),
        )
    )
    if equal_rows:
        model.coef_[:] = model.coef_[0]
        model.intercept_[:] = model.intercept_[0]
    return model


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

    def test_no_questions_give_the_same_form(self, router):
        empty = router.route([])
        assert empty.shape == (0, 5)
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
        shuffled = quick()
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
        with pytest.raises(ValueError, match="vectors of width 384, but the factorization was fitted on width 12"):
            router.route(["x"])


class TestBestTwo:
    @pytest.fixture(params=[1, 12, 768])
    def asked(self, request):
        """A factorization of 50 models, and 700 questions."""
        names = [f"model-{number:02}" for number in np.random.default_rng(1).permutation(50)]
        vectors = np.random.default_rng(2).standard_normal((700, request.param)).astype(np.float32)
        return random_factorization(names, width=request.param), vectors

    def test_equals_a_sort_of_logits_in_float64(self, asked):
        mf, vectors = asked
        models, logits = best_two(mf, vectors)
        exact = vectors.astype(float) @ mf.coef_.astype(float).T + mf.intercept_
        np.testing.assert_array_equal(models, np.argsort(-exact, axis=1)[:, :2])
        # It rounds its factors, but the result hardly more than a product in float32 does.
        best, plain = exact.max(axis=1), (vectors @ mf.coef_.T + mf.intercept_).max(axis=1)
        error, usual = (np.sqrt(((found - best) ** 2).mean()) for found in (logits[:, 0], plain))
        assert error < 4 * usual

    @pytest.mark.parametrize("scale", [1e-44, 1e-30, 1, 1e30])
    def test_no_bit_depends_on_company_or_place(self, asked, scale):
        mf, vectors = asked[0], asked[1] * np.float32(scale)
        models, logits = best_two(mf, vectors)
        assert np.isfinite(logits).all()
        for rows in (np.random.default_rng(0).permutation(700), np.arange(3, 700, 7), *np.arange(700)[:5, None]):
            company = best_two(mf, vectors[rows])
            np.testing.assert_array_equal(company[0], models[rows])
            np.testing.assert_array_equal(company[1], logits[rows])

    def test_equal_models_tie_by_name(self, asked):
        mf, vectors = asked
        mf.coef_[:], mf.intercept_[:] = mf.coef_[0], mf.intercept_[0]
        models, logits = best_two(mf, vectors)
        assert set(mf.model_names_[models[:, 0]]) == {"model-00"}
        assert set(mf.model_names_[models[:, 1]]) == {"model-01"}
        np.testing.assert_array_equal(logits[:, 0], logits[:, 1])


class TestConstruct:
    def test_needs_a_fitted_factorization(self, small_encoder):
        with pytest.raises(TypeError, match="must be a MatrixFactorization, got str"):
            Router("mf.safetensors", small_encoder)
        with pytest.raises(NotFittedError, match="not fitted yet"):
            Router(MatrixFactorization(), small_encoder)

    def test_imports_no_encoder_library(self):
        code = "import sys, embedllm.router; assert 'sentence_transformers' not in sys.modules"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestFit:
    def test_learns_all_observed_answers_with_the_settings_given(self, router, matrix):
        assert [value.numpy().tobytes() for value in quick().fit(matrix).parameters_] == [
            value.numpy().tobytes() for value in router.factorization.parameters_
        ]

    def test_embeddings_need_not_be_of_unit_length_or_full_precision(self, matrix, small_encoder):
        scaled = with_questions(matrix, embeddings=(matrix.embeddings * 3).astype(np.float16))
        Router.fit(scaled, encoder=small_encoder, factorization=quick(), device="cpu")

    def test_without_prompts(self, matrix, small_encoder):
        for questions in (matrix.questions.drop(columns="prompt"), matrix.questions.assign(prompt=None)):
            with pytest.raises(ValueError, match=r"have no prompt, .*: bring data with a column 'prompt'"):
                Router.fit(with_questions(matrix, questions), encoder=small_encoder)

    def test_with_some_prompts(self, matrix, small_encoder):
        questions = matrix.questions.copy()
        questions.iloc[::2, questions.columns.get_loc("prompt")] = None
        Router.fit(with_questions(matrix, questions), encoder=small_encoder, factorization=quick(), device="cpu")

    def test_single_question(self, matrix, small_encoder):
        one = matrix.subset(questions=["q3"])
        router = Router.fit(one, encoder=small_encoder, factorization=quick(), device="cpu")
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

    def test_zeroeval_with_the_paper_s_encoder(self, zeroeval, mpnet):
        embedllm.router.check_encoder(zeroeval, mpnet, "cpu")


class TestFolder:
    def test_round_trip(self, router, tmp_path):
        router.save(tmp_path / "deep" / "router")
        loaded = Router.load(tmp_path / "deep" / "router", device="cpu")
        texts = SUMS[:3] + TOWNS[:3]
        pd.testing.assert_frame_equal(loaded.route(texts), router.route(texts), check_exact=True)
        assert loaded.encoder == router.encoder
        assert loaded.device == "cpu"

    def test_same_router_gives_the_same_files(self, router, tmp_path):
        for name in ("one", "two"):
            router.save(tmp_path / name)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")

    def test_saving_again_replaces(self, router, small_encoder, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "factorization-mine.safetensors").write_text("mine")
        other = Router(random_factorization(["a", "b"]), small_encoder, "cpu")
        for saved in (router, router, other, router, other):
            saved.save(tmp_path)
        assert list(Router.load(tmp_path).factorization.model_names_) == ["a", "b"]
        files = contents(tmp_path)
        assert files.pop("notes.txt") == files.pop("factorization-mine.safetensors") == b"mine"
        other.save(tmp_path / "fresh")
        assert files == contents(tmp_path / "fresh")

    @pytest.mark.parametrize("failing", ["write_bytes", "write_text", "replace", "second replace", "unlink"])
    def test_interrupted_save_leaves_a_whole_router(self, router, small_encoder, tmp_path, monkeypatch, failing):
        router.save(tmp_path)
        names, countdown = [list(router.factorization.model_names_), ["a", "b"]], [failing.startswith("second")]
        method = failing.split()[-1]
        original = getattr(type(tmp_path), method)

        def fail(self, *arguments, **settings):
            if method == "unlink" and self.suffix != ".safetensors":
                return original(self, *arguments, **settings)
            if countdown[0]:
                countdown[0] = False
                return original(self, *arguments, **settings)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(type(tmp_path), method, fail)
            Router(random_factorization(["a", "b"]), small_encoder, "cpu").save(tmp_path)
        assert list(Router.load(tmp_path).factorization.model_names_) == names[method == "unlink"]
        router.save(tmp_path)
        assert list(Router.load(tmp_path).factorization.model_names_) == names[0]

    def test_damaged_router_can_be_saved_over(self, router, tmp_path):
        (tmp_path / "router.json").write_text("{")
        router.save(tmp_path)
        Router.load(tmp_path)

    def test_folder_without_a_router(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(FileNotFoundError, match=f"there is no router in {folder}"):
                Router.load(folder)

    def test_missing_weights_are_named(self, router, tmp_path):
        router.save(tmp_path)
        next(tmp_path.glob("factorization-*")).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path} lacks its file factorization-.*\.safetensors"):
            Router.load(tmp_path)

    def test_file_in_the_place_of_the_folder(self, router, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError, match="file"):
            router.save(tmp_path / "file")

    def test_newer_format(self, router, tmp_path):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: description.update(format=2))
        with pytest.raises(ValueError, match=r"router\.json has format 2, and this version reads 1: update embedllm"):
            Router.load(tmp_path)

    @pytest.mark.parametrize(
        ("part", "key"),
        [("encoder", None), ("weights", None), ("encoder", "name"), ("encoder", "fingerprint"), ("weights", "sha256")],
    )
    def test_description_without_a_part(self, router, tmp_path, part, key):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: (description[part] if key else description).pop(key or part))
        with pytest.raises(ValueError, match=r"router\.json lacks a part that Router\.save writes"):
            Router.load(tmp_path)
        describe_anew(tmp_path, lambda description: description.update({part: [1] if key is None else {key: 1}}))
        with pytest.raises(ValueError, match=r"router\.json lacks a part"):
            Router.load(tmp_path)

    @pytest.mark.parametrize(
        "name", ["../mine.safetensors", "mine.safetensors", "factorization-1.safetensors", "", 7, None], ids=repr
    )
    def test_weights_outside_the_folder_are_neither_read_nor_deleted(self, router, tmp_path, name):
        router.save(tmp_path / "router")
        (tmp_path / "mine.safetensors").write_bytes(router.factorization.to_bytes())
        describe_anew(tmp_path / "router", lambda description: description["weights"].update(name=name))
        with pytest.raises(ValueError, match=r"router\.json holds an entry that Router\.save never writes"):
            Router.load(tmp_path / "router")
        router.save(tmp_path / "router")
        Router.load(tmp_path / "router")
        assert (tmp_path / "mine.safetensors").exists()

    def test_entry_that_an_earlier_version_wrote_is_no_obstacle(self, router, tmp_path):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: description.update(width=384))
        Router.load(tmp_path)


class TestEncoderOfAFolder:
    @pytest.fixture
    def other(self, small_encoder, tmp_path):
        """A copy of the encoder that cuts texts earlier, and so is another one."""
        shutil.copytree(small_encoder, tmp_path / "other")
        (tmp_path / "other" / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
        return tmp_path / "other"

    def test_another_one_is_refused_with_both_names_and_fingerprints(self, router, other, tmp_path):
        router.save(tmp_path / "router")
        with pytest.raises(ValueError, match="was fitted with the encoder") as caught:
            Router.load(tmp_path / "router", encoder=other)
        for encoder in (router.encoder, find_encoder(other)):
            assert encoder.name in str(caught.value)
            assert encoder.fingerprint in str(caught.value)

    def test_one_that_changed_since_is_refused(self, router, other, small_encoder, tmp_path):
        moved = Router(router.factorization, other, "cpu")
        moved.save(tmp_path / "router")
        Router.load(tmp_path / "router")
        shutil.copy(small_encoder / "sentence_bert_config.json", other)
        with pytest.raises(ValueError, match="is another one"):
            Router.load(tmp_path / "router")

    def test_equal_one_elsewhere_is_taken(self, router, small_encoder, tmp_path):
        shutil.copytree(small_encoder, tmp_path / "elsewhere")
        Router(router.factorization, tmp_path / "elsewhere", "cpu").save(tmp_path / "router")
        shutil.rmtree(tmp_path / "elsewhere")
        with pytest.raises(
            FileNotFoundError, match=r"elsewhere, which is not on .*: pass encoder=.*--encoder"
        ) as caught:
            Router.load(tmp_path / "router")
        assert str(tmp_path / "router") in str(caught.value)
        with pytest.raises(FileNotFoundError, match=r"no encoder '/nowhere': it is neither a folder nor a Hub id"):
            Router.load(tmp_path / "router", encoder="/nowhere")
        loaded = Router.load(tmp_path / "router", encoder=small_encoder, device="cpu")
        pd.testing.assert_frame_equal(loaded.route(SUMS[:2]), router.route(SUMS[:2]), check_exact=True)


def describe_anew(folder, change):
    """Change a router's description, and make the checksum fit."""
    path = folder / "router.json"
    description = json.loads(path.read_text())
    del description["sha256"]
    change(description)
    path.write_text(json.dumps(description | {"sha256": embedllm.router._checksum(description)}))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
