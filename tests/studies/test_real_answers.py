"""The page on real answers shows recorded values as they are recorded."""

import json

import pandas as pd
import pytest

from embedllm.protocol.recorded import Results, all_results, built_results, load_results, write_results
from embedllm.protocol.reported_values import ReportedValue
from embedllm.studies.real_answers import (
    accuracy_table,
    gains_in_words,
    gains_table,
    pools_in_words,
    pools_table,
    real_results,
    tables_of,
)


@pytest.fixture
def pools():
    values = {
        "forecasting.mf_accuracy": ReportedValue("mf_accuracy", "MF", [70.0, 72.0], "%", (69.0, 73.0)),
        "forecasting.mf_minus_floor": ReportedValue("mf_minus_floor", "gain", [2.0, 4.0], "points", (1.0, 5.0)),
    }
    sizes = {"models": 2, "questions": 10, "observed": 75}
    values |= {f"dataset.data_{key}": ReportedValue(f"data_{key}", key, [size]) for key, size in sizes.items()}
    lower = {"forecasting.mf_minus_floor": ReportedValue("mf_minus_floor", "gain", [-1.0], "points", (-1.5, -0.5))}
    data = {"models": 2, "questions": 10, "observed answers": 15, "correct answers": 3, "sha256": "abcdef0123456789"}
    frames = {"routing-routers": pd.DataFrame({"router": ["MF"], "accuracy": [0.5], "data": ["one"]})}
    return [
        Results("simulated pool", "", "", {}, {}, values, {}),
        Results("one", "2026-01-02", "0.1", {"dataset": "one"}, data, values, frames),
        Results("two", "2026-01-03", "0.1", {}, data, lower, {}),
    ]


def test_simulated_answers_are_left_out(pools):
    assert [each.source for each in real_results(pools)] == ["one", "two"]
    with pytest.raises(ValueError, match="no results of real answers are recorded"):
        real_results(pools[:1])


def test_pools_are_described(pools):
    assert pools_table(pools[1:2]).loc["one"].tolist() == [2, 10, 75.0, "2026-01-02", "0.1", "abcdef012345"]


def test_accuracies_are_means_over_the_runs(pools):
    table = accuracy_table(pools[1:])
    assert table.loc["forecasting: MF", "one, recorded 2026-01-02"] == 71
    assert table["two, recorded 2026-01-03"].isna().all()


def test_gains_have_intervals_and_are_put_in_words(pools):
    gains = gains_table(pools[1:])
    assert gains.drop(columns=["key", "what"]).to_numpy().tolist() == [
        ["one, recorded 2026-01-02", 3.0, 1.0, 5.0, 2],
        ["two, recorded 2026-01-03", -1.0, -1.5, -0.5, 1],
    ]
    words = gains_in_words(gains)
    assert words["forecasting_baseline"] == ("one +3.0 (+1.0 to +5.0), better; two -1.0 (-1.5 to -0.5), worse")
    assert words["forecasting_baseline_verdict"] == "better on 1 of 2, worse on 1 of 2"
    assert words["routing_single"] == "not recorded"
    unclear = gains_in_words(gains.assign(low=-1, high=1))
    assert "no clear difference" in unclear["forecasting_baseline"]
    assert unclear["forecasting_baseline_verdict"] == "no clear difference on 2 of 2"


def test_pools_are_named_with_their_sizes(pools):
    assert pools_in_words(pools[:2]) == "simulated pool (2 models, 10 questions) and one (2 models, 10 questions)"


def test_tables_name_the_record(pools):
    (table,) = tables_of(pools, "routing-routers")
    assert table["data"].tolist() == ["one, recorded 2026-01-02"]


def test_a_record_is_read_as_it_was_written(pools, tmp_path):
    write_results(pools[1], tmp_path / "one.json")
    again = load_results(tmp_path / "one.json")
    assert again[:-1] == pools[1][:-1]
    pd.testing.assert_frame_equal(again.frames["routing-routers"], pools[1].frames["routing-routers"])


@pytest.fixture
def built(tmp_path):
    def write(page, source, key):
        value = {"key": key, "what": "a", "runs": [1.0], "unit": "", "interval": None, "count": False}
        content = {"source": source, "reported_values": [value]}
        (tmp_path / f"{page}.reported.json").write_text(json.dumps(content))
        return tmp_path

    return write


def test_a_build_has_the_values_of_all_pages(built):
    built("routing", "a pool", "gain")
    folder = built("published_numbers", "", "baseline")
    (folder / "figures" / "routing").mkdir(parents=True)
    (folder / "figures" / "routing" / "routing-routers.csv").write_text("router\nMF\n")
    found = built_results(folder)
    assert found.source == "a pool"
    assert found.title == "a pool, this build"
    assert sorted(found.values) == ["published_numbers.baseline", "routing.gain"]
    assert found.frames["routing-routers"]["router"].tolist() == ["MF"]


def test_values_of_two_data_sets_are_not_mixed(built):
    built("forecasting", "a toy pool", "a")
    folder = built("routing", "another pool", "b")
    with pytest.raises(ValueError, match=r"different data sets, \['a toy pool', 'another pool'\]"):
        built_results(folder)


def test_a_build_takes_the_place_of_the_record_of_its_data_set(built, tmp_path):
    assert built_results(tmp_path) is None
    sources = [each.source for each in all_results(tmp_path)]
    folder = built("routing", "another pool", "b")
    assert [each.source for each in all_results(folder)] == ["another pool", *sources]


def test_simulated_answers_stand_last(built):
    folder = built("routing", "simulated pool", "b")
    assert [each.kind for each in all_results(folder)] == ["real", "real", "simulated"]
