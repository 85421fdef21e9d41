"""The tables behind the interactive page, against cases computed by hand, and what their views hold."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm.matrix import Split
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.protocol.runs import Fitted
from embedllm.studies.explore import TEXT_LENGTH, explore_models, explore_routes, map_table, route_choices


def matrix_of(labels, ids, **columns):
    questions = pd.DataFrame({"benchmark": "b"} | columns, index=ids)
    models = pd.DataFrame({"params_b": [7.2, np.nan], "tags": ["math; chat", None]}, ["one", "two"])
    frame = pd.DataFrame(labels, models.index, ids)
    return CorrectnessMatrix(frame, questions, np.eye(len(ids)) + 1, models=models, source="made up")


@pytest.fixture
def fitted():
    """Model `one` is right on 2 of 4 training questions, `two` on 3; nobody was asked the test question t2."""
    train = matrix_of([[1, 1, 0, 0], [1, 1, 1, 0]], ["a", "b", "c", "d"])
    test = matrix_of([[1, 1, -1, 0], [0, -1, -1, 0]], ["t0", "t1", "t2", "t3"])
    mean = BenchmarkMean().fit(train)
    return Fitted(0, Split(train, train, test), {"MF": mean, "KNN": mean, "benchmark mean": mean})


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


def test_routes_by_hand(fitted):
    choices = route_choices(fitted)
    # t2 has no answer to score, and the order is that of the matrix, all routers of a question together.
    assert choices["question"].tolist() == ["t0"] * 4 + ["t1"] * 4 + ["t3"] * 4
    assert choices["router"].tolist() == ["MF", "KNN", "best model per benchmark", "best single model"] * 3
    # `two` is better, but its answer to t1 was not observed.
    assert choices["model"].tolist() == ["two"] * 4 + ["one"] * 4 + ["two"] * 4
    # (right + 1) / (observed + 2) of the benchmark mean, and the plain accuracy of the best single model.
    of_two, of_one = [4 / 6] * 3 + [3 / 4], [3 / 6] * 3 + [2 / 4]
    np.testing.assert_allclose(choices["predicted"], of_two + of_one + of_two, rtol=1e-6)
    assert choices["right"].tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert choices["models_right"].tolist() == [0.5] * 4 + [1.0] * 4 + [0.0] * 4
    assert "text" not in choices


def test_sample_of_the_questions(fitted):
    (question,) = set(route_choices(fitted, 1)["question"])
    assert question in {"t0", "t1", "t3"}
    assert question == route_choices(fitted, 1)["question"][0]
    with pytest.raises(ValueError, match="n_questions must be a positive whole number, got 0"):
        route_choices(fitted, 0)


def test_prompts_are_shortened(fitted):
    test = matrix_of([[1], [0]], ["t0"], prompt="word " * 100)
    (text,) = set(route_choices(fitted._replace(split=fitted.split._replace(test=test)))["text"])
    assert text.startswith("word word") and text.endswith(" …")
    assert len(text) <= TEXT_LENGTH


def chart_of(view):
    """The specification of the map, from the script that shows it."""
    (chart,) = re.findall(r'vegaEmbed\("#model-map", (\{.*\}), \{renderer', view)
    return json.loads(chart)


def labels_of(chart):
    return {each["name"]: each["bind"].get("labels") for each in chart["params"] if "bind" in each}


def test_map_offers_what_is_known(positions):
    table = map_table(matrix_of([[1], [0]], ["a"]), positions)
    chart = chart_of(explore_models(table).data)
    assert labels_of(chart) == {"text": None, "size": ["all", "7B"], "tag": ["all", "chat", "math"]}
    assert chart["title"] == "made up"
    bare = table.assign(size="", tags="", specialization="", params_b=np.nan)
    assert labels_of(chart_of(explore_models(bare).data)) == {"text": None}


def test_names_cannot_end_the_script(positions):
    table = map_table(matrix_of([[1], [0]], ["a"]), positions).rename({"one": "</script><b>"})
    view = explore_models(table).data
    assert view.count("</script") == 1
    assert "</script><b>" in json.dumps(chart_of(view))


def test_routes_say_what_they_are_of(fitted, capsys):
    choices = route_choices(fitted).replace({"model": {"two": "<script>"}})
    view = explore_routes(choices, 4).data
    assert "made up: 3 of 4 test questions" in view
    assert html.escape("<script>") in view
    assert not re.search(r"(src|href)=['\"]?https?://(?!itables\.org)", view)
