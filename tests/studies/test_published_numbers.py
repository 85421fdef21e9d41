"""What follows from the published counts, against loops over models and benchmarks and what is known of them."""

import numpy as np
import pandas as pd
import pytest

from embedllm.datasets.published_counts import PublishedCounts, load_published_counts
from embedllm.studies.published_numbers import (
    forecasting_numbers,
    number_values,
    published_models,
    routing_numbers,
    spread_of_models,
)


@pytest.fixture
def hand():
    correct = pd.DataFrame({"GPQA": [1, 3], "MMLU": [5, 6]}, ["org__a", "org__b"])
    return PublishedCounts(correct, pd.Series({"GPQA": 4, "MMLU": 6}))


@pytest.fixture(scope="module")
def counts():
    return load_published_counts()


class TestByHand:
    def test_forecasting(self, hand):
        table = forecasting_numbers(hand, repeated=2)
        # a: 6 of 10 are correct; b: 9. GPQA: 3 of 4 and 3 of 4; MMLU: 5 of 6 and 6 of 6.
        assert table["prompts"].tolist()[:3] == pytest.approx([25, 75, 100 * (8 + 9) / 20])
        # With two more rows of GPQA, of which a share as before is correct: 6.5 and 10.5 of 12.
        assert table["rows"].tolist()[:2] == pytest.approx([100 * 7 / 24, 100 * 17 / 24])
        assert table.loc["MF", ["prompts", "rows"]].tolist() == [74.09, 74.09]

    def test_routing(self, hand):
        table = routing_numbers(hand)
        assert table["accuracy"].tolist()[:3] == pytest.approx([75, 90, 90])
        assert table.at["best single model", "how"] == "org/b, on test"

    def test_spread(self, hand):
        table = spread_of_models(hand)
        chance = (0.25 * 0.75 / 4 + 0.75 * 0.25 / 4) / 2
        assert table.at["GPQA", "variance ratio"] == pytest.approx(np.var([0.25, 0.75], ddof=1) / chance)
        assert table.at["MMLU", "mean"] == pytest.approx(100 * 11 / 12)


class TestPublished:
    """As a reader of the counts found them."""

    def test_baselines(self, counts):
        table = forecasting_numbers(counts)
        assert table["prompts"].round(1).tolist() == [59.4, 60.6, 69.5, 71.5, 74.1]
        assert table.at["majority per model and benchmark", "rows"] == pytest.approx(70.9, abs=0.05)

    def test_routes(self, counts):
        table = routing_numbers(counts)["accuracy"].round(1)
        assert table["a random model"] == 40.6
        assert table["best single model"] == 60.5
        assert table["best model per benchmark"] == 69.0

    def test_labels_that_look_like_failed_runs(self, counts):
        table = spread_of_models(counts)
        assert table.loc["SocialQA", ["most frequent count", "models with it"]].tolist() == [50, 49]
        assert 0.4 < table.at["SocialQA", "variance ratio"] < 0.6
        assert table.at["ASDiv", "mean"] < 5 < 70 < table.at["ASDiv", "highest"]

    def test_values(self, counts):
        values = {each.key: each.value for each in number_values(forecasting_numbers(counts), routing_numbers(counts))}
        assert values["published_mf_gain"] == pytest.approx(4.6, abs=0.05)
        assert values["published_knn_gain_rows"] == pytest.approx(0.6, abs=0.05)


def test_models_are_listed_with_what_their_names_state(counts):
    table = published_models(counts)
    assert len(table) == 112
    assert table["accuracy"].is_monotonic_decreasing
    first = table.iloc[0]
    assert (table.index[0], first["params_b"], round(first["accuracy"], 1)) == (
        "meta-llama__Meta-Llama-3-70B-Instruct",
        70,
        60.5,
    )
