"""Communities: found where the ground truth has them, not elsewhere, and tested against exact enumeration."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit
from scipy.stats import spearmanr

from embedllm import CorrectnessMatrix, MatrixFactorization, TrainingPreset
from embedllm.datasets.communities import PAPER
from embedllm.datasets.simulate import simulate_pool
from embedllm.studies.communities import (
    SPACES,
    ModelDistances,
    choose_model,
    community_values,
    compare_communities,
    compare_each_seed,
    map_models,
    measure_distances,
    nearest_models,
    scaled_distances,
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
    return measure_distances(pool[0], estimators, n_seeds=2)


def distances_of(places, names):
    points = np.asarray(places, dtype=float).reshape(len(places), -1)
    return pd.DataFrame(np.linalg.norm(points[:, None] - points, axis=2), names, names)


def on_a_line(places, data="a line"):
    """Models a, b, ... at these places."""
    frame = scaled_distances(distances_of(places, list("abcdefghijkl"[: len(places)])))
    return {"exact": ModelDistances({0: frame}, "exact", data)}


def tagged(tags):
    return pd.DataFrame({"tags": tags}, list("abcdefghijkl"[: len(tags)]))


class TestDistances:
    def test_by_hand(self):
        # Between 0, 3 and 7 the distances are 3, 7 and 4, with mean 14 / 3.
        frame = scaled_distances(distances_of([0, 3, 7], ["a", "b", "c"]))
        np.testing.assert_allclose(frame, np.array([[0, 3, 7], [3, 0, 4], [7, 4, 0]]) * 3 / 14)

    def test_models_that_are_all_the_same(self):
        assert scaled_distances(distances_of([2, 2], ["a", "b"])).loc["a", "b":].isna().all()

    def test_order_of_models_changes_nothing(self, toy):
        found = measure_distances(toy, MF, n_seeds=2)
        other = measure_distances(toy.subset(models=toy.model_names[::-1]), MF, n_seeds=2)
        for space in SPACES:
            assert found[space].mean().index.tolist() == sorted(toy.model_names)
            pd.testing.assert_frame_equal(found[space].mean(), other[space].mean())

    def test_each_is_scaled(self, distances):
        for space in SPACES:
            assert list(distances[space].by_seed) == ([0] if space == "SGD" else [0, 1])
            for frame in [*distances[space].by_seed.values(), distances[space].mean()]:
                values = frame.to_numpy()
                assert values[np.triu_indices(len(values), 1)].mean() == pytest.approx(1)
                np.testing.assert_array_equal(values, values.T)

    def test_model_that_was_never_learned_is_left_out(self, toy):
        labels = toy.labels.copy()
        labels[2] = -1
        found = measure_distances(toy.with_labels(labels), MF, n_seeds=1)
        assert set(found["exact"].mean().index) == set(toy.model_names) - {toy.model_names[2]}

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
        before, after = (scaled_distances(fit.distances()).to_numpy() for fit in (mf, same))
        assert np.abs(after - before).max() > 0.1

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
        found = compare_communities(on_a_line([0.0, 1, 5, 7, 8]), tagged(["x", "x", "x", "", ""]))
        row = found.set_index("community").loc["x"]
        scale = (1 + 5 + 4 + 7 + 8 + 6 + 7 + 2 + 3 + 1) / 10
        assert row["within"] == pytest.approx(10 / 3 / scale)
        assert row["between"] == pytest.approx(33 / 6 / scale)
        assert row["ratio"] == pytest.approx(20 / 33)
        assert row["n_models"] == 3
        assert row["data"] == "a line"
        assert not row["paper"]

    @pytest.mark.parametrize("members", ["xxx......", ".x.x.x...", "xxxx.....", "...xxx.xx"])
    def test_p_against_every_possible_community(self, members):
        """84 or 126 communities of nine models, enumerated."""
        places = np.array([0.0, 0.5, 1.5, 3.5, 5, 5.2, 9, 12, 12.5])
        tags = ["x" if letter == "x" else "" for letter in members]
        found = compare_communities(on_a_line(places), tagged(tags), n_permutations=20_000)
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
        assert every.min() - 1e-9 <= row["null_low"] < row["null_high"] <= every.max() + 1e-9

    def test_p_is_never_zero(self):
        tags = ["x"] * 3 + [""] * 9
        found = compare_communities(on_a_line([*[0.0, 0.01, 0.02], *range(9, 18)]), tagged(tags), n_permutations=9)
        assert found.set_index("community").loc["x", "p"] >= 0.1

    def test_too_small_or_everyone(self):
        tags = ["all;code;two", "all;code;two", "all;physics", "all", "all", "all"]
        found = compare_communities(on_a_line([0.0, 1, 2, 3, 4, 5]), tagged(tags)).set_index("community")
        assert set(found.index) == set(PAPER)  # neither `all` nor `two`
        assert found.loc["code", "n_models"] == 2
        assert found[["within", "between", "ratio", "null_low", "null_high", "p"]].isna().all(axis=None)

    def test_models_in_one_place(self):
        found = compare_communities(on_a_line([1.0] * 5), tagged(["x"] * 3 + [""] * 2)).set_index("community")
        assert found.loc["x", ["within", "ratio", "p"]].isna().all()

    def test_communities_of_the_ground_truth_are_found(self, distances, pool):
        matrix, truth = pool
        found = compare_communities(distances, matrix.models).set_index(["space", "community"])
        for community, n_models in (("13B", 12), ("chat", 43), ("biomed", 8)):
            assert found.loc[("exact", community), "ratio"] < 0.95
            assert found.loc[("exact", community), "p"] < 0.02
            assert found.loc[("exact", community), "n_models"] == n_models
        assert found.loc[("exact", "13B"), "paper"]
        # And so are the differences of the true logits, which embeddings of SGD show less of.
        logits = pd.DataFrame(logit(truth.ceiling.astype(float)), matrix.model_names)
        names = distances["exact"].mean().index
        drawn = scaled_distances(distances_of(logits.loc[names], names)).to_numpy()[np.triu_indices(len(names), 1)]
        fitted = {space: each.mean().loc[names, names].to_numpy() for space, each in distances.items()}
        likeness = {space: spearmanr(drawn, fitted[space][np.triu_indices(len(names), 1)])[0] for space in SPACES}
        assert likeness["exact"] > 0.6
        assert likeness["exact"] > likeness["SGD"]

    def test_random_partitions_are_found_as_often_as_chance_has_it(self, distances, pool):
        names, rng, direction = pool[0].model_names, np.random.default_rng(0), {"exact": distances["exact"]}
        parts = np.resize([f"part {number:02d}" for number in range(14)], len(names))
        found = pd.concat(
            compare_communities(direction, pd.DataFrame({"tags": rng.permutation(parts)}, names), n_permutations=1000)
            for _ in range(15)
        ).dropna()
        assert len(found) == 15 * 14
        assert 0.01 < (found["p"] < 0.05).mean() < 0.1
        assert found["p"].mean() == pytest.approx(0.5, abs=0.08)
        assert found["ratio"].mean() == pytest.approx(1, abs=0.01)

    def test_each_seed(self, distances, pool):
        models = pool[0].models
        by_seed = compare_each_seed(distances, models)
        assert by_seed.groupby("space")["seed"].unique().map(list).tolist() == [[0], [0, 1]]
        one = {"exact": ModelDistances({1: distances["exact"].by_seed[1]}, "exact", "x")}
        alone = compare_communities(one, models)
        second = by_seed[by_seed["seed"] == 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(second.drop(columns=["data", "seed"]), alone.drop(columns="data"))


class TestMap:
    def test_neighbours_are_near(self, distances, pool):
        positions = map_models(distances["exact"], pool[0].models)
        tags = pool[0].models.loc[positions.index, "tags"].str.split(";")
        assert all(one in several for one, several in zip(positions["specialization"], tags, strict=True) if one)
        mean = distances["exact"].mean()
        apart = distances_of(positions[["x", "y"]], positions.index).to_numpy(copy=True)
        np.fill_diagonal(apart, np.inf)
        nearest = mean.to_numpy()[np.arange(len(mean)), apart.argmin(axis=1)]
        assert ((mean.to_numpy() < nearest[:, None]).sum(axis=1) <= 10).mean() > 0.9

    def test_repeats_and_does_not_depend_on_the_order(self, toy):
        first = map_models(measure_distances(toy, MF, n_seeds=1)["exact"], toy.models)
        turned = toy.subset(models=toy.model_names[::-1])
        other = map_models(measure_distances(turned, MF, n_seeds=1)["exact"], turned.models)
        pd.testing.assert_frame_equal(first, other)
        assert first["params_b"].isna().all()
        assert (first["specialization"] == "").all()

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_few_models_are_laid_out_exactly(self, n):
        places = np.array([[0.0, 0], [3, 4], [6, 0]])[:n]
        frame = scaled_distances(distances_of(places, list("abc")[:n]))
        points = map_models(ModelDistances({0: frame}, "exact", "x"), pd.DataFrame(index=frame.index))[["x", "y"]]
        again = np.linalg.norm(points.to_numpy()[:, None] - points.to_numpy(), axis=2)
        np.testing.assert_allclose(again, frame, atol=1e-9)

    def test_rarest_frequent_tag(self):
        tags = ["chat;code", "chat;code", "chat;code", "chat;rare", "chat", ""]
        positions = map_models(on_a_line([0.0, 1, 2, 3, 4, 5])["exact"], tagged(tags))
        assert positions["specialization"].tolist() == ["code"] * 3 + ["chat"] * 2 + [""]


class TestNearest:
    def test_by_hand(self):
        models = pd.DataFrame({"params_b": [7.0, 13, np.nan, 70], "data": "of the user"}, list("abcd"))
        found = nearest_models(on_a_line([0.0, 4, 1, 9])["exact"], models, "c", n=2)
        assert found["model"].tolist() == ["a", "b"]
        assert found.index.tolist() == [1, 2]
        np.testing.assert_allclose(found["distance"], np.array([1, 3]) * 6 / (4 + 1 + 9 + 3 + 5 + 8))
        assert found["spread"].isna().all()
        assert found["params_b"].tolist() == [7.0, 13.0]
        assert found["data"].tolist() == ["a line"] * 2

    def test_mean_and_spread_over_runs(self):
        frames = {seed: on_a_line([0.0, place, 10])["exact"].by_seed[0] for seed, place in ((0, 2), (1, 6))}
        found = nearest_models(ModelDistances(frames, "exact", "x"), pd.DataFrame(index=list("abc")), "a")
        near = found.set_index("model").loc["b"]
        assert near["distance"] == pytest.approx((0.3 + 0.9) / 2)
        assert near["spread"] == pytest.approx(np.std([0.3, 0.9], ddof=1))
        assert len(found) == 2

    def test_unknown_model(self):
        with pytest.raises(KeyError, match="unknown model 'z'; known: a, b"):
            nearest_models(on_a_line([0.0, 1])["exact"], tagged(["", ""]), "z")

    def test_choice(self, toy):
        best = toy.split(random_state=3).train.accuracy(by="model")["accuracy"].sort_index().idxmax()
        assert choose_model(toy, seed=3) == best
        assert choose_model(toy, "model-2") == "model-2"
        with pytest.raises(KeyError, match="unknown model 'GPT'"):
            choose_model(toy, "GPT")


class TestValues:
    def test_by_hand(self):
        rows = [
            # space, seed, community, paper, ratio, p
            ("exact", 0, "7B", True, 0.9, 0.01),
            ("exact", 0, "chat", False, 0.95, 0.2),
            ("exact", 0, "code", True, np.nan, np.nan),
            ("exact", 1, "7B", True, 0.8, 0.06),
            ("exact", 1, "chat", False, 1.05, 0.9),
            ("exact", 1, "code", True, np.nan, np.nan),
            ("SGD", 0, "7B", True, 1.0, 0.5),
            ("SGD", 0, "chat", False, 0.9, 0.04),
            ("SGD", 1, "7B", True, 0.9, 0.03),
            ("SGD", 1, "chat", False, 0.9, 0.03),
        ]
        table = pd.DataFrame(rows, columns=["space", "seed", "community", "paper", "ratio", "p"])
        found = {reported.key: reported.runs for reported in community_values(table)}
        assert found["communities_tested"] == [2]
        assert found["paper_communities"] == [1]
        assert found["exact_ratio"] == pytest.approx([0.925, 0.925])
        assert found["exact_found"] == [1, 0]
        assert found["exact_paper_closer"] == [1, 1]
        assert found["exact_paper_found"] == [1, 0]
        assert found["sgd_found"] == [1, 2]
        assert found["sgd_paper_closer"] == [0, 1]
        assert found["sgd_paper_found"] == [0, 1]

    def test_nothing_to_test(self, toy):
        by_seed = compare_each_seed(measure_distances(toy, MF, n_seeds=2), toy.models)
        found = {reported.key: reported for reported in community_values(by_seed)}
        assert found["communities_tested"].value == 0
        assert all(
            np.isnan(found[f"{space.lower()}_{key}"].value) for space in SPACES for key in ("ratio", "paper_found")
        )
        assert len(found["exact_found"].runs) == 2


def test_real_answers(zeroeval):
    """Sizes are known of few models, and other tags are borne than the paper's."""
    found = compare_communities(measure_distances(zeroeval, MF, n_seeds=1), zeroeval.models)
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
    distances = measure_distances(matrix, MF, n_seeds=1)
    found = compare_communities(distances, matrix.models)
    assert found[found["p"].notna()]["community"].unique().tolist() == ["7B", "13B"]
    assert "tags" in nearest_models(distances["exact"], matrix.models, "m3")
