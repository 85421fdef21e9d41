"""What the views of the interactive page hold."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest

from embedllm.plots.explore import explore_models, explore_routes, explore_strengths


@pytest.fixture
def table():
    """Two models on a map, of one of which nothing is known."""
    columns = {
        "data": "made up", "x": [0.0, 1.0], "y": [0.0, 2.0], "params_b": [7.2, np.nan], "specialization": ["math", ""],
        "size": ["7B", ""], "tags": ["chat; math", ""], "accuracy": [2 / 3, np.nan], "answers": [3, 0],
    }  # fmt: skip
    return pd.DataFrame(columns, ["one", "two"])


def chart_of(view):
    """The specification of the map, from the script that shows it."""
    (chart,) = re.findall(r'vegaEmbed\("#model-map", (\{.*\}), \{renderer', view)
    return json.loads(chart)


def labels_of(chart):
    return {each["name"]: each["bind"].get("labels") for each in chart["params"] if "bind" in each}


def test_map_offers_what_is_known(table):
    chart = chart_of(explore_models(table).data)
    assert labels_of(chart) == {"text": None, "size": ["all", "7B"], "tag": ["all", "chat", "math"]}
    assert chart["title"] == "made up"
    bare = table.assign(size="", tags="", specialization="", params_b=np.nan)
    assert labels_of(chart_of(explore_models(bare).data)) == {"text": None}


def test_names_cannot_end_the_script(table):
    view = explore_models(table.rename({"one": "</script><b>"})).data
    assert view.count("</script") == 1
    assert "</script><b>" in json.dumps(chart_of(view))


def rows_of(view):
    """The rows of a table, from the script that shows it."""
    return json.loads(json.loads(re.search(r'"data_json": ("(?:[^"\\]|\\.)*")', view)[1]))


def heads_of(view):
    return [html.unescape(each) for each in re.findall(r"<th>(.*?)</th>", view)]


CHOICES = pd.DataFrame(
    {
        "data": "made up",
        "question": ["t0", "t0", "t1", "t1", "t3", "t3"],
        "text": ["What <b>?", "What <b>?", "", "", "", ""],
        "benchmark": "b",
        "router": ["MF", "KNN"] * 3,
        "model": ["one", "one", "one", "<script>", "two", "one"],
        "predicted": [0.5, 0.1, 0.25, 0.2, np.nan, 0.3],
        "correct": [True, True, False, True, False, False],
        "models_correct": [0.5, 0.5, 1.0, 1.0, 0.0, 0.0],
    }
)


def test_a_row_for_each_question():
    view = explore_routes(CHOICES, 4).data
    heads = ["question", "benchmark", "MF is", "routers disagree", "MF predicts", "MF", "KNN", "models correct"]
    assert heads_of(view) == heads
    rows = rows_of(view)
    assert [row[0] for row in rows] == [html.escape("t0: What <b>?"), "t1", "t3"]
    assert [row[2] for row in rows] == ["correct", "incorrect", "incorrect"]
    assert [row[3] for row in rows] == ["no", "2 models", "2 models"]
    assert [row[5] for row in rows] == ["✓ one", "✗ one", "✗ two"]
    assert [row[6] for row in rows] == ["✓ one", html.escape("✓ <script>"), "✗ one"]


def test_routes_say_what_they_are_of():
    view = explore_routes(CHOICES, 4).data
    assert "made up: 3 of 4 test questions" in view
    assert not re.search(r"(src|href)=['\"]?https?://(?!itables\.org)", view)


def test_models_and_what_is_known_of_them(table):
    described = table.assign(nearest=["two (50%)", "one (50%)"], stronger=["math +3", ""], weaker="", duplicates="")
    view = explore_strengths(described).data
    assert heads_of(view) == ["model", "accuracy", "nearest models (agreement)", "stronger on"]
    assert [row[0] for row in rows_of(view)] == ["one", "two"]
    assert [row[3] for row in rows_of(view)] == ["math +3", ""]
    assert "made up: 2 models" in view


def test_without_an_answered_test_question_there_is_no_table():
    assert "No test question" in explore_routes(pd.DataFrame({"router": [], "question": []}), 0).data
