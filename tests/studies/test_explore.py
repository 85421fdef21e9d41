"""The tables behind the interactive page, against cases computed by hand."""

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm.matrix import Split
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.protocol.routers import RoutingPolicy, standard_policies
from embedllm.protocol.runs import Run
from embedllm.studies.explore import (
    TEXT_LENGTH,
    free_texts,
    map_table,
    profile_models,
    route_choices,
    strengths,
)

NAMES = ["MF", "KNN", "best model per benchmark", "best single model"]
ROUTERS = {name: standard_policies()[name] for name in NAMES}


def matrix_of(labels, ids, **columns):
    questions = pd.DataFrame({"benchmark": "b"} | columns, index=ids)
    models = pd.DataFrame({"params_b": [7.2, np.nan], "tags": ["math; chat", None]}, ["one", "two"])
    frame = pd.DataFrame(labels, models.index, ids)
    return CorrectnessMatrix(frame, questions, np.eye(len(ids)) + 1, models=models, source="made up")


@pytest.fixture
def run():
    """Model `one` is correct on 2 of 4 training questions, `two` on 3; nobody was asked the test question t2."""
    train = matrix_of([[1, 1, 0, 0], [1, 1, 1, 0]], ["a", "b", "c", "d"])
    test = matrix_of([[1, 1, -1, 0], [0, -1, -1, 0]], ["t0", "t1", "t2", "t3"])
    mean = BenchmarkMean().fit(train)
    return Run(0, Split(train, train, test), {"MF": mean, "KNN": mean}, {})


@pytest.fixture
def positions():
    frame = {
        "data": "made up",
        "x": [0.0, 1.0],
        "y": [0.0, 2.0],
        "params_b": [7.2, np.nan],
        "specialization": ["math", ""],
    }
    return pd.DataFrame(frame, ["one", "two"])


def test_model_table(positions):
    labels = [[1, 0, 1, -1], [-1, -1, -1, -1]]
    table = map_table(matrix_of(labels, list("abcd")), positions)
    assert table["size"].tolist() == ["7B", ""]
    assert table["tags"].tolist() == ["chat; math", ""]
    assert table["answers"].tolist() == [3, 0]
    np.testing.assert_allclose(table["accuracy"], [2 / 3, np.nan])


def test_routes_by_hand(run):
    choices = route_choices(run, ROUTERS)
    # t2 has no answer to score, and the order is that of the matrix, all routers of a question together.
    assert choices["question"].tolist() == ["t0"] * 4 + ["t1"] * 4 + ["t3"] * 4
    assert choices["router"].tolist() == NAMES * 3
    # `two` is better, but its answer to t1 was not observed.
    assert choices["model"].tolist() == ["two"] * 4 + ["one"] * 4 + ["two"] * 4
    # (correct + 1) / (observed + 2) of the benchmark mean, and the plain accuracy of the best single model.
    of_two, of_one = [4 / 6] * 3 + [3 / 4], [3 / 6] * 3 + [2 / 4]
    np.testing.assert_allclose(choices["predicted"], of_two + of_one + of_two, rtol=1e-6)
    assert choices["correct"].tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert choices["models_correct"].tolist() == [0.5] * 4 + [1.0] * 4 + [0.0] * 4
    assert set(choices["text"]) == {""}


def test_sample_of_the_questions(run):
    (question,) = set(route_choices(run, ROUTERS, 1)["question"])
    assert question in {"t0", "t1", "t3"}
    assert question == route_choices(run, ROUTERS, 1)["question"][0]
    with pytest.raises(ValueError, match="n_questions must be a positive whole number, got 0"):
        route_choices(run, ROUTERS, 0)


def test_texts_are_shortened():
    (text,) = free_texts(matrix_of([[1], [0]], ["t0"], prompt="word " * 100, license="MIT"))
    assert text.startswith("word word") and text.endswith(" …")
    assert len(text) <= TEXT_LENGTH


@pytest.mark.parametrize(
    ("source", "benchmarks", "expected"),
    [
        ("own data", ["gsm", "law"], ["", ""]),
        ("EmbedLLM", ["gsm", "mmlu"], ["", ""]),
        ("MMLU-Pro", ["math", "law"], ["one", "two"]),
        ("ZeroEval", ["gsm", "math-l5"], ["one", ""]),
    ],
)
def test_texts_without_a_licence_stay_away(source, benchmarks, expected):
    matrix = matrix_of([[1, 0], [0, 1]], ["a", "b"], prompt=["one", "two"])
    questions = matrix.questions.assign(benchmark=benchmarks)
    labels = pd.DataFrame(matrix.labels, matrix.models.index, questions.index)
    assert free_texts(CorrectnessMatrix(labels, questions, np.eye(2), source=source)).tolist() == expected
    licensed = questions.assign(license=["", "CC0-1.0"])
    shown = free_texts(CorrectnessMatrix(labels, licensed, np.eye(2), source=source)).tolist()
    assert shown == [expected[0], "two"]


def accuracies(table, n):
    """A pool with accuracies, of which NaN is not observed, on benchmarks of n questions."""
    benchmarks = np.repeat(table.columns, n)
    rows = [
        np.concatenate([np.full(n, -1) if np.isnan(each) else np.arange(n) < round(each * n) for each in row])
        for row in table.to_numpy()
    ]
    labels = pd.DataFrame(np.array(rows).astype(int), table.index)
    questions = pd.DataFrame({"benchmark": benchmarks}, labels.columns)
    return CorrectnessMatrix(labels, questions, np.ones((len(benchmarks), 1)))


class TestStrengths:
    TABLE = pd.DataFrame({"x": [0.9, 0.5, 0.4], "y": [0.5, 0.5, 0.4], "z": [0.4, 0.2, 0.1]}, ["a", "b", "c"])

    def test_residuals_of_an_additive_fit(self):
        grand = self.TABLE.to_numpy().mean()
        left = self.TABLE.sub(self.TABLE.mean(axis=1), axis=0) - self.TABLE.mean() + grand
        found = strengths(accuracies(self.TABLE, 500))
        # A cell is 0, 6.7 or 13.3 points from the fit; the standard errors are about 2 points.
        pd.testing.assert_frame_equal(found, 100 * left.where(left.abs() > 0.05), check_names=False)

    def test_missing_benchmarks_count_for_nothing(self):
        # Exactly additive but for one cell, which lets nothing be wrong elsewhere.
        table = pd.DataFrame({"x": [0.7, 0.5, 0.3], "y": [0.6, 0.4, 0.2], "z": [np.nan, 0.6, 0.4]}, ["a", "b", "c"])
        assert strengths(accuracies(table, 1000)).isna().all(axis=None)

    def test_few_answers_say_nothing(self):
        assert strengths(accuracies(self.TABLE.round(), 29)).isna().all(axis=None)
        assert strengths(accuracies(self.TABLE.round(), 30)).notna().any(axis=None)

    def test_few_cells_of_an_additive_truth_are_flagged(self):
        # Each answer is correct with probability 0.95. Two Wald standard errors, which are 0 at 40 of 40, flag 14 %.
        rng, flagged = np.random.default_rng(0), []
        for _ in range(20):
            table = pd.DataFrame(rng.binomial(40, 0.95, (10, 4)) / 40, columns=list("wxyz"))
            flagged.append(strengths(accuracies(table, 40)).notna().to_numpy().mean())
        assert np.mean(flagged) < 0.005

    def test_all_correct_is_flagged_only_where_it_is_unexpected(self):
        table = pd.DataFrame(0.9, [f"m{number}" for number in range(10)], list("wxyz"))
        table.loc["m0", "w"] = 1.0
        assert strengths(accuracies(table, 40)).isna().all(axis=None)
        table = table.sub(0.5).replace(0.5, 1.0)
        found = strengths(accuracies(table, 40)).stack().dropna()
        # One cell 0.6 above an additive table leaves 0.6 * 0.9 * 0.75 in it.
        assert found.to_dict() == pytest.approx({("m0", "w"): 40.5})


class TestProfileModels:
    @pytest.fixture
    def described(self):
        names = ["a@one", "a@two", "c"]
        matrix = accuracies(TestStrengths.TABLE.set_axis(names), 500)
        distances = pd.DataFrame([[0, 2, 1], [2, 0, 3], [1, 3, 0.0]], names, names)
        agreement = pd.DataFrame([[1, 0.9, np.nan], [0.9, 1, 0.5], [np.nan, 0.5, 1]], names, names)
        runs = pd.DataFrame({"model": ["a@one"], "other": ["a@two"]})
        return matrix, profile_models(matrix, distances, agreement, runs, n=2)

    def test_nearest_and_duplicates(self, described):
        table = described[1]
        assert table.loc["a@one", "nearest"] == "c (no question in common); a@two (90%)"
        assert table.loc["c", "nearest"] == "a@one (no question in common); a@two (50%)"
        assert table["duplicates"].tolist() == ["a@two (90%)", "a@one (90%)", ""]

    def test_strengths_in_words(self, described):
        matrix, table = described
        points = strengths(matrix)
        for model, row in points.iterrows():
            for column, sign in (("stronger", 1), ("weaker", -1)):
                largest = (sign * row).sort_values(ascending=False)
                expected = [f"{name} {sign * value:+.0f}" for name, value in largest[largest > 0].items()][:2]
                assert table.loc[model, column] == "; ".join(expected)
        assert table["stronger"].str.contains("x").any()


class Last(RoutingPolicy):
    """A router without scores: the last model of the matrix."""

    def shares(self, matrix):
        shares = np.zeros(matrix.labels.shape)
        shares[-1] = 1
        return shares


def test_router_without_scores(run):
    choices = route_choices(run, {"mine": Last()})
    assert choices["model"].tolist() == ["two"] * 3
    assert choices["predicted"].isna().all()
