"""Communities: found where the ground truth has them, not elsewhere, and tested against exact enumeration."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit
from scipy.stats import spearmanr
from sklearn.base import clone

from embedllm import CorrectnessMatrix, MatrixFactorization, TrainingPreset, fit_runs
from embedllm.datasets.communities import PAPER
from embedllm.datasets.simulate import simulate_pool
from embedllm.protocol.significance import holm
from embedllm.studies.communities import (
    SPACES,
    choose_model,
    community_values,
    compare_communities,
    map_models,
    measure_distances,
    nearest_models,
)

BRIEF = TrainingPreset(pairs_per_step=64, epochs=4, learning_rate=0.01, weight_decay=0)
MF = {
    "SGD": MatrixFactorization(dim=8, solver="sgd", preset=BRIEF),
    "exact": MatrixFactorization(dim=8, alpha=0.1),
}


@pytest.fixture(scope="module")
def pool():
    """A fifth of the simulated pool, with its ground truth: enough questions to find three models among the others."""
    return simulate_pool(scale=0.2)


@pytest.fixture(scope="module")
def distances(pool):
    sgd = TrainingPreset(pairs_per_step=14_336, epochs=15, learning_rate=3e-3, weight_decay=1e-5)
    estimators = {"SGD": MatrixFactorization(solver="sgd", preset=sgd), "exact": MatrixFactorization()}
    return measured(pool[0], estimators)


def measured(matrix, estimators=MF, seed=0):
    return measure_distances(next(fit_runs(matrix, estimators, seed, 1)))


def distances_of(places, names):
    points = np.asarray(places, dtype=float).reshape(len(places), -1)
    return pd.DataFrame(np.linalg.norm(points[:, None] - points, axis=2), names, names)


def on_a_line(places):
    """Models a, b, ... at these places."""
    return {"exact": distances_of(places, list("abcdefghijkl"[: len(places)]))}


def compare(distances, models, **options):
    return compare_communities(distances, models, "a line", **options)


def tagged(tags):
    return pd.DataFrame({"tags": tags}, list("abcdefghijkl"[: len(tags)]))


class TestDistances:
    def test_order_of_models_changes_nothing(self, toy):
        found = measured(toy)
        other = measured(toy.subset(models=toy.model_names[::-1]))
        for space in SPACES:
            assert found[space].index.tolist() == sorted(toy.model_names)
            pd.testing.assert_frame_equal(found[space], other[space])

    def test_are_those_of_the_vectors_of_the_first_run(self, toy):
        found = measured(toy, seed=5)
        for space in SPACES:
            train, val, _ = toy.split(random_state=5)
            fitted = clone(MF[space])
            if space == "SGD":
                fitted.set_params(random_state=5)
            fitted.fit(train, validation=val)
            apart = np.linalg.norm(fitted.model_embeddings_[0] - fitted.model_embeddings_[3])
            if space == "exact":
                apart = np.sqrt(apart**2 - (fitted.ability_[0] - fitted.ability_[3]) ** 2)
            assert found[space].at[toy.model_names[0], toy.model_names[3]] == pytest.approx(apart, rel=1e-4)

    def test_model_that_was_never_learned_is_left_out(self, toy):
        labels = toy.labels.copy()
        labels[2] = -1
        found = measured(toy.with_labels(labels))
        assert set(found["exact"].index) == set(toy.model_names) - {toy.model_names[2]}

    def test_what_the_answers_do_not_determine(self, toy, tmp_path):
        """SGD's embeddings can change where no prediction does."""
        mf = MF["SGD"].set_params(dim=6).fit(toy)
        p, w, b, c, a = (value.double() for value in mf.parameters_)
        mixing = torch.tensor(np.random.default_rng(0).standard_normal((6, 6)))
        contrast = torch.linspace(1, 3, 6).double()
        effective = (c[1] - c[0]) * p @ mixing
        state = {
            "P.weight": effective / contrast,
            "text_proj.weight": torch.linalg.solve(mixing, w),
            "text_proj.bias": torch.linalg.solve(mixing, b),
            "classifier.weight": torch.stack([-contrast / 2, contrast / 2]),
            "classifier.bias": a,
        }
        torch.save({name: value.float() for name, value in state.items()}, tmp_path / "same.pth")
        same = MatrixFactorization.from_authors(tmp_path / "same.pth", mf.model_names_)
        np.testing.assert_allclose(same.predict_matrix(toy), mf.predict_matrix(toy), atol=1e-4)

        np.testing.assert_allclose(same.coef_, mf.coef_, atol=1e-4)
        before, after = (fit.distances().to_numpy() for fit in (mf, same))
        assert np.abs(after / after.mean() - before / before.mean()).max() > 0.1

    def test_exact_distance_is_the_spread_of_the_logit_difference(self, toy):
        fitted = MatrixFactorization(alpha=0.1).fit(toy)
        logits = toy.embeddings @ fitted.coef_.T.astype(float) + fitted.intercept_
        apart = fitted.distances(ability=False)
        assert apart.iloc[1, 4] == pytest.approx((logits[:, 1] - logits[:, 4]).std(), rel=1e-4)
        assert fitted.distances().iloc[1, 4] == pytest.approx(fitted.distances().iloc[4, 1])
        with pytest.raises(ValueError, match="a fit by 'sgd' has no ability_"):
            MF["SGD"].fit(toy).distances(ability=False)


class TestCompare:
    def test_by_hand(self):
        # Of 0, 1, 5, 7, 8: within the first three 1, 5, 4; to the others 7, 8, 6, 7, 2, 3.
        found = compare(on_a_line([0.0, 1, 5, 7, 8]), tagged(["x", "x", "x", "", ""]))
        row = found.set_index("community").loc["x"]
        assert row["within"] == pytest.approx(10 / 3)
        assert row["between"] == pytest.approx(33 / 6)
        assert row["ratio"] == pytest.approx(20 / 33)
        assert row["n_models"] == 3
        assert row["data"] == "a line"
        assert not row["paper"]

    @pytest.mark.parametrize("members", ["xxx......", ".x.x.x...", "xxxx.....", "...xxx.xx"])
    def test_p_against_every_possible_community(self, members):
        """84 or 126 communities of nine models, enumerated."""
        places = np.array([0.0, 0.5, 1.5, 3.5, 5, 5.2, 9, 12, 12.5])
        tags = ["x" if letter == "x" else "" for letter in members]
        found = compare(on_a_line(places), tagged(tags), n_permutations=20_000)
        row = found.set_index("community").loc["x"]

        def ratio(inside):
            outside = [model for model in range(9) if model not in inside]
            within = np.mean([abs(places[i] - places[j]) for i, j in combinations(inside, 2)])
            return within / np.mean([abs(places[i] - places[j]) for i in inside for j in outside])

        mine = [number for number, tag in enumerate(tags) if tag]
        every = np.array([ratio(inside) for inside in combinations(range(9), len(mine))])
        exact = np.mean(every <= ratio(mine) + 1e-12)
        assert row["ratio"] == pytest.approx(ratio(mine))
        assert row["p"] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4)
        # One in twenty random communities is below the limit, as p is one-sided.
        assert np.mean(every < row["limit"] - 1e-9) <= 0.06
        assert np.mean(every <= row["limit"] + 1e-9) >= 0.04

    def test_p_is_never_zero(self):
        tags = ["x"] * 3 + [""] * 9
        found = compare(on_a_line([*[0.0, 0.01, 0.02], *range(9, 18)]), tagged(tags), n_permutations=9)
        assert found.set_index("community").loc["x", "p"] >= 0.1

    def test_too_small_or_everyone(self):
        tags = ["all;code;two", "all;code;two", "all;physics", "all", "all", "all"]
        found = compare(on_a_line([0.0, 1, 2, 3, 4, 5]), tagged(tags)).set_index("community")
        assert set(found.index) == set(PAPER)  # neither `all` nor `two`
        assert found.loc["code", "n_models"] == 2
        assert found[["within", "between", "ratio", "limit", "p", "p_corrected"]].isna().all(axis=None)

    def test_models_in_one_place(self):
        found = compare(on_a_line([1.0] * 5), tagged(["x"] * 3 + [""] * 2)).set_index("community")
        assert found.loc["x", ["ratio", "p", "p_corrected"]].isna().all()

    def test_communities_of_the_ground_truth_are_found(self, distances, pool):
        matrix, truth = pool
        found = compare(distances, matrix.models).set_index(["space", "community"])
        for community, n_models in (("13B", 12), ("chat", 43), ("biomed", 8)):
            assert found.loc[("exact", community), "ratio"] < 0.95
            assert found.loc[("exact", community), "p"] < 0.02
            assert found.loc[("exact", community), "n_models"] == n_models
        assert found.loc[("exact", "13B"), "paper"]
        # And so are the differences of the true logits, which embeddings of SGD show less of.
        logits = pd.DataFrame(logit(truth.ceiling.astype(float)), matrix.model_names)
        names = distances["exact"].index
        pairs = np.triu_indices(len(names), 1)
        drawn = distances_of(logits.loc[names], names).to_numpy()[pairs]
        likeness = {space: spearmanr(drawn, distances[space].to_numpy()[pairs])[0] for space in SPACES}
        assert likeness["exact"] > 0.6
        assert likeness["exact"] > likeness["SGD"]

    def test_random_partitions_are_found_as_often_as_chance_has_it(self, distances, pool):
        names, rng, direction = pool[0].model_names, np.random.default_rng(0), {"exact": distances["exact"]}
        parts = np.resize([f"part {number:02d}" for number in range(14)], len(names))
        found = pd.concat(
            compare(direction, pd.DataFrame({"tags": rng.permutation(parts)}, names), n_permutations=1000)
            for _ in range(15)
        ).dropna()
        assert len(found) == 15 * 14
        assert 0.01 < (found["p"] < 0.05).mean() < 0.1
        assert found["p"].mean() == pytest.approx(0.5, abs=0.08)
        assert found["ratio"].mean() == pytest.approx(1, abs=0.01)

    def test_correction_is_over_the_communities_of_a_space(self, distances, pool):
        found = compare(distances, pool[0].models)
        for _, rows in found.groupby("space"):
            tested = rows.dropna(subset="p")
            # Slowly: of the sorted p, the i-th times the number of those from it on, and no less than those before.
            expected, so_far = {}, 0.0
            for i, (place, p) in enumerate(sorted(tested["p"].items(), key=lambda pair: pair[1])):
                so_far = max(so_far, min(1.0, p * (len(tested) - i)))
                expected[place] = so_far
            assert tested["p_corrected"].to_dict() == pytest.approx(expected)

    def test_correction_by_hand(self):
        corrected = holm(pd.Series([0.5, 0.01, np.nan, 0.02], list("abcd")))
        np.testing.assert_allclose(corrected, [0.5, 0.03, np.nan, 0.04])


class TestMap:
    def test_neighbours_are_near(self, distances, pool):
        exact = distances["exact"]
        positions = map_models(exact, pool[0].models, "x")
        tags = pool[0].models.loc[positions.index, "tags"].str.split(";")
        assert all(one in several for one, several in zip(positions["specialization"], tags, strict=True) if one)
        apart = distances_of(positions[["x", "y"]], positions.index).to_numpy(copy=True)
        np.fill_diagonal(apart, np.inf)
        nearest = exact.to_numpy()[np.arange(len(exact)), apart.argmin(axis=1)]
        assert ((exact.to_numpy() < nearest[:, None]).sum(axis=1) <= 10).mean() > 0.9

    def test_repeats_and_does_not_depend_on_the_order(self, toy):
        first = map_models(measured(toy)["exact"], toy.models, toy.source)
        turned = toy.subset(models=toy.model_names[::-1])
        other = map_models(measured(turned)["exact"], turned.models, turned.source)
        pd.testing.assert_frame_equal(first, other)
        assert first["params_b"].isna().all()
        assert (first["specialization"] == "").all()

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_few_models_are_laid_out_exactly(self, n):
        places = np.array([[0.0, 0], [3, 4], [6, 0]])[:n]
        frame = distances_of(places, list("abc")[:n])
        points = map_models(frame, pd.DataFrame(index=frame.index), "x")[["x", "y"]]
        again = np.linalg.norm(points.to_numpy()[:, None] - points.to_numpy(), axis=2)
        np.testing.assert_allclose(again, frame, atol=1e-9)

    def test_rarest_frequent_tag(self):
        tags = ["chat;code", "chat;code", "chat;code", "chat;rare", "chat", ""]
        positions = map_models(on_a_line([0.0, 1, 2, 3, 4, 5])["exact"], tagged(tags), "x")
        assert positions["specialization"].tolist() == ["code"] * 3 + ["chat"] * 2 + [""]


class TestNearest:
    def test_by_hand(self):
        models = pd.DataFrame({"params_b": [7.0, 13, np.nan, 70], "data": "of the user"}, list("abcd"))
        found = nearest_models(on_a_line([0.0, 4, 1, 9])["exact"], models, "c", "a line", n=2)
        assert found["model"].tolist() == ["a", "b"]
        assert found.index.tolist() == [1, 2]
        assert found["distance"].tolist() == [1, 3]
        assert found["params_b"].tolist() == [7.0, 13.0]
        assert found["data"].tolist() == ["a line"] * 2

    def test_unknown_model(self):
        with pytest.raises(KeyError, match="unknown model 'z'; known: a, b"):
            nearest_models(on_a_line([0.0, 1])["exact"], tagged(["", ""]), "z", "x")

    def test_choice(self, toy):
        best = toy.split(random_state=3).train.accuracy(by="model")["accuracy"].sort_index().idxmax()
        assert choose_model(toy.split(random_state=3).train) == best
        assert choose_model(toy, "model-2") == "model-2"
        with pytest.raises(KeyError, match="unknown model 'GPT'"):
            choose_model(toy, "GPT")


class TestValues:
    def test_by_hand(self):
        rows = [
            # space, community, paper, ratio, p_corrected
            ("exact", "7B", True, 0.9, 0.01),
            ("exact", "70B", True, 0.95, 0.2),
            ("exact", "13B", True, 1.1, 1.0),
            ("exact", "chat", False, 0.8, 0.02),
            ("exact", "code", True, np.nan, np.nan),
            ("SGD", "7B", True, 1.0, 0.5),
            ("SGD", "70B", True, 0.9, 0.06),
            ("SGD", "13B", True, 0.9, 0.04),
            ("SGD", "chat", False, 0.9, 0.03),
            ("SGD", "code", True, np.nan, np.nan),
        ]
        table = pd.DataFrame(rows, columns=["space", "community", "paper", "ratio", "p_corrected"])
        values = community_values(table)
        found = {reported.key: reported.value for reported in values}
        assert found == pytest.approx(
            {
                "communities_tested": 4,
                "paper_communities": 3,
                "exact_ratio": 0.9375,
                "exact_found": 2,
                "exact_paper_closer": 2,
                "exact_paper_found": 1,
                "sgd_ratio": 0.925,
                "sgd_found": 2,
                "sgd_paper_closer": 2,
                "sgd_paper_found": 1,
            }
        )
        assert {reported.key for reported in values if not reported.count} == {"exact_ratio", "sgd_ratio"}
        few = community_values(table[table["community"] != "13B"])
        found = {reported.key: reported.value for reported in few}
        assert np.isnan(found["sgd_paper_closer"])  # two of the paper's
        reasons = {reported.key: reported.reason for reported in few}
        assert reasons["sgd_paper_closer"] == "fewer than 3 of the paper's communities have 3 models here"
        assert found["sgd_found"] == 1  # of three

    def test_nothing_to_test(self, toy):
        values = community_values(compare(measured(toy), toy.models))
        found = {reported.key: reported.value for reported in values}
        assert found["communities_tested"] == 0
        assert all(np.isnan(found[f"{space.lower()}_{key}"]) for space in SPACES for key in ("ratio", "paper_found"))


def test_real_answers(zeroeval):
    """Sizes are known of few models, and other tags are borne than the paper's."""
    found = compare(measured(zeroeval), zeroeval.models)
    known = found[(found["space"] == "exact") & found["p"].notna()]
    assert set(known["community"]) >= {"70B", "instruct", "closed"}
    assert found[found["community"] == "physics"]["p"].isna().all()


def test_pool_with_its_own_columns():
    """Metadata may hold anything else."""
    rng = np.random.default_rng(0)
    names, ids = [f"m{number}" for number in range(8)], [f"q{number}" for number in range(30)]
    models = pd.DataFrame({"distance": 1, "params_b": [7] * 4 + [13] * 4, "tags": [None] * 8}, names)
    matrix = CorrectnessMatrix(
        pd.DataFrame(rng.integers(0, 2, (8, 30)), names, ids),
        pd.DataFrame({"benchmark": "b"}, ids),
        rng.standard_normal((30, 5)),
        models=models,
    )
    distances = measured(matrix)
    found = compare(distances, matrix.models)
    assert found[found["p"].notna()]["community"].unique().tolist() == ["7B", "13B"]
    assert "tags" in nearest_models(distances["exact"], matrix.models, "m3", "x")
