"""What the views of the interactive page hold."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest

from embedllm.plots.explore import explore_models, explore_routes


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


def test_routes_say_what_they_are_of():
    choices = pd.DataFrame(
        {
            "data": "made up",
            "question": ["t0", "t1", "t3"],
            "benchmark": "b",
            "router": "MF",
            "model": ["one", "<script>", "one"],
            "predicted": [0.5, 0.25, np.nan],
            "correct": [True, False, False],
            "models_correct": [0.5, 1.0, 0.0],
        }
    )
    view = explore_routes(choices, 4).data
    assert "made up: 3 of 4 test questions" in view
    assert html.escape("<script>") in view
    assert not re.search(r"(src|href)=['\"]?https?://(?!itables\.org)", view)
    assert "incorrect" in view
