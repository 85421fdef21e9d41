"""The tables behind the interactive page, against cases computed by hand."""

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm.matrix import Split
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.protocol.routers import RoutingPolicy, standard_policies
from embedllm.protocol.runs import Run
from embedllm.studies.explore import TEXT_LENGTH, map_table, route_choices

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
    assert "text" not in choices


def test_sample_of_the_questions(run):
    (question,) = set(route_choices(run, ROUTERS, 1)["question"])
    assert question in {"t0", "t1", "t3"}
    assert question == route_choices(run, ROUTERS, 1)["question"][0]
    with pytest.raises(ValueError, match="n_questions must be a positive whole number, got 0"):
        route_choices(run, ROUTERS, 0)


def test_prompts_are_shortened(run):
    test = matrix_of([[1], [0]], ["t0"], prompt="word " * 100)
    (text,) = set(route_choices(run._replace(split=run.split._replace(test=test)), ROUTERS)["text"])
    assert text.startswith("word word") and text.endswith(" …")
    assert len(text) <= TEXT_LENGTH


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
