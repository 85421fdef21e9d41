"""Tallies: runs have the same weight, questions are the unit, differences are paired."""

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm.protocol.reported_values import Wanted, accuracy_values
from embedllm.protocol.tally import Tally, difference_table, percent_table


def tally_of(rows, sums, method="predictor"):
    """Build a tally from (seed, group, question, count) rows and the sums of each method."""
    frame = pd.DataFrame(rows, columns=["seed", "group", "question", "count"]).assign(
        unit=lambda rows: rows["question"]
    )
    columns = {("accuracy", name): np.array(values, dtype=float) for name, values in sums.items()}
    return Tally(frame, pd.DataFrame(columns), "by hand", method, "benchmark")


@pytest.fixture
def hand():
    """Question b is in both runs, benchmark y in the second only; nothing of question d was scored."""
    rows = [(0, "x", "a", 4), (0, "x", "b", 2), (1, "x", "b", 2), (1, "y", "c", 2), (1, "y", "d", 0)]
    return tally_of(rows, {"A": [4, 1, 2, 0, 0], "B": [2, 1, 0, 1, 0]})


def random_tally(seed=0, n_questions=60, n_seeds=3):
    """Runs that test some questions each, of which some are scored more often than others."""
    rng = np.random.default_rng(seed)
    rows, good = [], {"A": [], "B": []}
    for run in range(n_seeds):
        for question in rng.choice(n_questions, n_questions // 2, replace=False):
            count = int(rng.integers(0, 6))
            rows.append((run, f"bench-{question % 3}", f"q{question}", count))
            for name, chance in (("A", 0.7), ("B", 0.5)):
                good[name].append(rng.binomial(count, chance))
    return tally_of(rows, good)


@pytest.mark.parametrize(
    ("by", "groups", "questions", "units"),
    [("benchmark", "xxy", "abc", "aac"), ("model", "mmmnnn", "abcabc", "aacaac")],
)
def test_rows_of_a_matrix(by, groups, questions, units):
    labels = pd.DataFrame([[1, 0, 1], [0, 1, 1]], ["m", "n"], ["a", "b", "c"])
    about = pd.DataFrame({"benchmark": ["x", "x", "y"], "prompt": ["Why?", "why? ", "How?"]}, labels.columns)
    matrix = CorrectnessMatrix(labels, about, np.eye(3), source="by hand")
    sums = {("accuracy", "A"): np.arange(len(groups))}
    tally = Tally.of(matrix, 7, sums, np.ones(len(groups), int), "predictor", by)
    assert {column: "".join(tally.rows[column]) for column in ("group", "question", "unit")} == {
        "group": groups,
        "question": questions,
        "unit": units,
    }
    assert set(tally.rows["seed"]) == {7} and set(tally.rows["count"]) == {1}
    assert tally.sums["accuracy", "A"].tolist() == list(range(len(groups)))


class TestTable:
    def test_hand_computed(self, hand):
        table = hand.table().set_index(["predictor", "benchmark"])
        assert table.index.tolist() == [(name, group) for name in "AB" for group in ("overall", "x", "y")]
        assert (table["data"] == "by hand").all()
        # The mean of 5 of 6 and 2 of 4, not 7 of 10.
        assert table.loc[("A", "overall"), "accuracy"] == pytest.approx((5 / 6 + 2 / 4) / 2)
        assert table.loc[("B", "x"), "accuracy"] == pytest.approx((3 / 6 + 0) / 2)
        # The first run has no question of y.
        assert table.loc[("B", "y"), "accuracy"] == pytest.approx(1 / 2)
        assert table.loc["A", "count"].tolist() == [5, 4, 2]
        assert table.loc["A", "n_questions"].tolist() == [2, 2, 1]
        assert np.isnan(table.loc[("A", "y"), "stderr"])

    def test_standard_error_against_a_slow_implementation(self):
        tally = random_tally()
        for row in tally.table().to_dict("records"):
            kept = [
                (seed, question, count, hits)
                for (seed, group, question, count), hits in zip(
                    tally.rows[["seed", "group", "question", "count"]].itertuples(index=False, name=None),
                    tally.sums["accuracy", row["predictor"]],
                    strict=True,
                )
                if count and row["benchmark"] in ("overall", group)
            ]
            seeds = {seed for seed, *_ in kept}
            totals = {seed: sum(count for other, _, count, _ in kept if other == seed) for seed in seeds}
            mean = np.mean([sum(hits for other, _, _, hits in kept if other == seed) / totals[seed] for seed in seeds])
            deviation = {}
            for seed, question, count, hits in kept:
                deviation[question] = deviation.get(question, 0) + (hits - count * mean) / totals[seed] / len(seeds)
            n = len(deviation)
            assert row["accuracy"] == pytest.approx(mean)
            assert row["stderr"] == pytest.approx(np.sqrt(n / (n - 1) * sum(d**2 for d in deviation.values())))

    def test_repeating_a_measurement_adds_no_evidence(self):
        one = random_tally(n_seeds=1)
        again = Tally(one.rows.assign(seed=1), one.sums, one.data, one.method, one.by)
        pd.testing.assert_frame_equal(Tally.join([one, again]).table(), one.table())

    def test_other_questions_do(self):
        one, other = random_tally(0, 4000, 1), random_tally(1, 4000, 1)
        other = Tally(
            other.rows.assign(seed=1, question=other.rows["question"] + "'"), other.sums, one.data, one.method, one.by
        )
        both = Tally.join([one, other]).table()
        assert both["stderr"].to_numpy() == pytest.approx(one.table()["stderr"].to_numpy() / 2**0.5, rel=0.1)

    def test_nothing_scored_is_undefined(self):
        tally = tally_of([(0, "x", "a", 0), (0, "y", "b", 0)], {"A": [0, 0], "B": [0, 0]})
        table = tally.table()
        assert table[["accuracy", "stderr"]].isna().all(axis=None)
        assert (table[["count", "n_questions"]] == 0).all(axis=None)
        assert tally.by_seed().isna().all(axis=None)
        assert tally.resampled().isna().all(axis=None)
        assert tally.differences("A")[["points", "low", "high"]].isna().all(axis=None)
        assert (difference_table(tally.differences("A"), "predictor") == "undefined").all(axis=None)
        (reported,) = accuracy_values(tally, [Wanted("a", "accuracy", "A")])
        assert np.isnan([reported.value, *reported.interval]).all()


def test_by_seed(hand):
    assert hand.by_seed()["accuracy"].to_numpy() == pytest.approx(np.array([[5 / 6, 3 / 6], [2 / 4, 1 / 4]]))
    y = hand.by_seed("y")["accuracy"]
    assert y.index.tolist() == [0, 1]
    assert y.loc[0].isna().all()
    assert y.loc[1].tolist() == [0, 1 / 2]


class TestDifferences:
    def test_points_are_differences_of_the_table(self):
        tally = random_tally(n_questions=300)
        accuracy = tally.table().set_index(["predictor", "benchmark"])["accuracy"]
        gains = tally.differences("B")
        assert gains["predictor"].unique().tolist() == ["A"]
        assert gains["benchmark"].tolist() == tally.groups
        assert (gains["minus"] == "B").all()
        for row in gains.to_dict("records"):
            group = row["benchmark"]
            assert row["points"] == pytest.approx(100 * (accuracy["A", group] - accuracy["B", group]))
            assert row["low"] <= row["points"] <= row["high"]

    def test_interval_is_paired(self):
        # B is correct where A is, and on one question more: the difficulty of the questions, which is most of the
        # variance of each, has no effect on their difference.
        rng = np.random.default_rng(0)
        hits = rng.integers(0, 2, 400)
        rows = [(0, "x", f"q{number}", 1) for number in range(400)]
        more = hits.copy()
        more[np.flatnonzero(hits == 0)[0]] = 1
        tally = tally_of(rows, {"A": hits, "B": more})
        gain = tally.differences("A").iloc[0]
        assert gain["points"] == pytest.approx(0.25)
        assert 0 <= gain["low"] <= gain["high"] <= 1.25
        low, high = (100 * end for end in np.quantile(tally.resampled()["A"], [0.025, 0.975]))
        assert high - low > 8

    def test_interval_agrees_with_the_standard_error(self):
        tally = random_tally(n_questions=2000)
        row = tally.table().iloc[0]
        assert tally.resampled()["A"].std() == pytest.approx(row["stderr"], rel=0.1)

    def test_table_of_text(self, hand):
        differences = pd.DataFrame(
            {
                "data": "d",
                "router": ["A", "A", "B", "B"],
                "benchmark": ["overall", "x"] * 2,
                "minus": "C",
                "points": [1.234, -2, 100, np.nan],
                "low": [1, -3, np.nan, np.nan],
                "high": [2, -1, np.nan, np.nan],
                "n_questions": [200, 100, 1, 0],
            }
        )
        table = difference_table(differences, "router")
        assert table.index.tolist() == [("d", "overall"), ("d", "x")]
        assert table.to_dict("list") == {
            "A minus C": ["+1.23 (+1.00 to +2.00)", "-2.00 (-3.00 to -1.00)"],
            "B minus C": ["+100.00 (n = 1)", "undefined"],
        }


def test_values(hand):
    wanted = [Wanted("a", "accuracy of A", "A"), Wanted("g", "A minus B", "A", minus="B")]
    accuracy, gain = accuracy_values(hand, wanted)
    assert (accuracy.key, accuracy.what, accuracy.unit) == ("a", "accuracy of A", "%")
    assert accuracy.runs == pytest.approx([500 / 6, 50])
    assert gain.unit == "points"
    assert gain.runs == pytest.approx([200 / 6, 25])
    assert np.isnan([*accuracy.interval, *gain.interval]).all()  # from three questions

    tally = random_tally()
    accuracy, gain = accuracy_values(tally, wanted)
    assert accuracy.interval[0] <= accuracy.value <= accuracy.interval[1]
    expected = tally.differences("B").iloc[0]
    assert gain.value == pytest.approx(expected["points"])
    assert gain.interval == pytest.approx((expected["low"], expected["high"]))
    assert accuracy_values(tally, wanted)[0] == accuracy  # the resamples are seeded


def test_questions_of_one_text_are_one_unit():
    tally = random_tally(n_questions=200)
    halves = tally.rows["question"].str.strip("q").astype(int) // 2
    paired = Tally(tally.rows.assign(unit=halves), tally.sums, tally.data, tally.method, tally.by)
    np.testing.assert_allclose(paired.table()["accuracy"], tally.table()["accuracy"])
    assert paired.table()["n_questions"].equals(tally.table()["n_questions"])
    once = Tally(tally.rows.assign(question=halves, unit=halves), tally.sums, tally.data, tally.method, tally.by)
    assert paired.table()["stderr"].equals(once.table()["stderr"])
    assert paired.resampled().equals(once.resampled())


def test_percent_table(hand):
    table = percent_table(hand.table(), "predictor")
    assert table.index.tolist() == [("by hand", "overall"), ("by hand", "x"), ("by hand", "y")]
    assert table.columns.tolist() == ["A", "B"]
    assert table["A"].tolist() == [66.7, 91.7, 0]  # 5 of 6 and 2 of 4; 5 of 6 and 2 of 2; 0 of 2


def test_percent_table_keeps_the_order_of_rows_and_columns(hand):
    turned = percent_table(hand.table().iloc[::-1], "predictor")
    assert [benchmark for _, benchmark in turned.index] == ["y", "x", "overall"]
    assert turned.columns.tolist() == ["B", "A"]
