"""The rules for labels: readings and scores against loops over the rows, and the simulated duplicates."""

import math
from collections import Counter, defaultdict
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from embedllm import BenchmarkMean, KNNCorrectness, MatrixFactorization, load_dataset
from embedllm.datasets.lookalike import CONFLICTS, draw_answers, release_categories
from embedllm.studies import label_rules
from embedllm.studies.label_rules import (
    MISSING_AS_INCORRECT,
    RULES,
    compare_protocols,
    cross_rules,
    label_protocols,
    label_rule_values,
    read_every_way,
    score_readings,
)

PREDICTORS = {
    "MF": MatrixFactorization(dim=3, alpha=0.1),
    "KNN": KNNCorrectness(5),
    "benchmark mean": BenchmarkMean(),
}
PROTOCOLS = label_protocols(PREDICTORS, knn="KNN")


def slow_reading(rows, name, models, questions):
    """Labels that a rule counts for each (model, question), from rows of (model, question, label) in their order."""
    of_cell = defaultdict(list)
    for model, question, label in rows:
        of_cell[model, question].append(label)
    rule, _, missing = name.partition(",")
    found = {}
    for cell in ((model, question) for model in models for question in questions):
        seen = of_cell[cell]
        if not seen:
            found[cell] = [0] if missing else []
        elif rule == "majority":
            balance = 2 * sum(seen) - len(seen)
            found[cell] = [int(balance > 0)] if balance else []
        else:
            found[cell] = {"any": [max(seen)], "last": seen[-1:], "rows": seen}[rule]
    return found


def as_cells(readings, name):
    """The labels of each cell in a reading, in the order of its columns."""
    labels, questions = readings.readings[name]
    ids = readings.matrix.question_ids[questions]
    return {
        (model, question): [
            label for label, id_ in zip(row.tolist(), ids, strict=True) if id_ == question and label >= 0
        ]
        for model, row in zip(readings.matrix.model_names, labels, strict=True)
        for question in readings.matrix.question_ids
    }


@pytest.fixture(scope="module")
def rows(toy_with_holes):
    """Rows of the toy, with up to five further ones in some cells, some with the other label and some tied."""
    rng = np.random.default_rng(3)
    found = []
    for m, q in np.argwhere(toy_with_holes.labels != -1):
        n_rows = 1 + (rng.integers(1, 6) if q % 4 == 0 else 0)
        flips = rng.random(n_rows) < 0.3
        found += [
            (
                toy_with_holes.model_names[m],
                toy_with_holes.question_ids[q],
                int(toy_with_holes.labels[m, q]) ^ int(flip),
            )
            for flip in flips
        ]
    return [found[number] for number in rng.permutation(len(found))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_long_form, write_csv, toy_with_holes, rows):
    folder = write_long_form(tmp_path_factory.mktemp("repeats") / "own", toy_with_holes)
    benchmark = toy_with_holes.questions["benchmark"]
    table = [[question, model, label, benchmark[question]] for model, question, label in rows]
    write_csv(folder / "correctness.csv", [["prompt_id", "model_name", "label", "category"], *table])
    return folder


@pytest.fixture(scope="module")
def readings(folder):
    return read_every_way(str(folder), load_dataset(folder))


@pytest.fixture(scope="module")
def scores(readings):
    return score_readings(readings, PREDICTORS, PROTOCOLS, seed=1, n_seeds=2)


@pytest.fixture(scope="module")
def simulated():
    return read_every_way("simulated", load_dataset("simulated", scale=0.01), missing=0.2)


class TestReadings:
    def test_equal_a_loop_over_the_rows(self, readings, rows):
        matrix = readings.matrix
        assert list(readings.readings) == [*RULES, *(f"{rule}{MISSING_AS_INCORRECT}" for rule in RULES)]
        for name in readings.readings:
            expected = slow_reading(rows, name, matrix.model_names, matrix.question_ids)
            assert as_cells(readings, name) == expected, name

    def test_counts(self, readings, rows):
        cells = defaultdict(list)
        for model, question, label in rows:
            cells[model, question].append(label)
        duplicates, conflicts, ties = readings.counts().values()
        assert duplicates == len(rows) - len(cells)
        assert conflicts == sum(len(set(seen)) == 2 for seen in cells.values())
        assert ties == sum(2 * sum(seen) == len(seen) for seen in cells.values())
        assert min(readings.counts().values()) > 0
        assert readings.missing().sum() == 6 * 40 - len(cells)

    def test_table(self, readings, rows):
        table = readings.table()
        assert table["same as"].eq("").all()
        assert table.at["rows", "labels"] == len(rows)
        assert table.at["rows", "correct (%)"] == pytest.approx(100 * np.mean([label for *_, label in rows]))
        assert table.at["rows", "columns"] > 40 == table.at["last", "columns"]
        assert set(table["data"]) == {readings.matrix.source}
        assert table.at["last, missing as incorrect", "labels"] == 6 * 40

    def test_without_duplicates_the_rules_are_the_same(self, monkeypatch, toy_with_holes):
        def read_again(*_, **__):
            raise AssertionError("there is nothing to read again")

        monkeypatch.setattr(label_rules, "load_dataset", read_again)
        readings = read_every_way("own data", toy_with_holes)
        assert set(readings.counts().values()) == {0}
        incorrect = f"majority{MISSING_AS_INCORRECT}"
        assert set(readings.same_as().values()) == {"majority", incorrect}
        np.testing.assert_array_equal(readings.readings["rows"].labels, toy_with_holes.labels)
        np.testing.assert_array_equal(readings.readings[incorrect].labels, toy_with_holes.labels.clip(0))

    def test_nothing_missing_and_no_duplicates_is_one_reading(self, toy):
        assert set(read_every_way("own data", toy).same_as().values()) == {"majority"}

    @pytest.mark.parametrize("missing", [-0.1, 1.0, float("nan")])
    def test_share_out_of_range(self, toy, missing):
        with pytest.raises(ValueError, match="missing must be at least 0 and below 1"):
            read_every_way("simulated", toy, missing=missing)


class TestSimulated:
    def test_rules_equal_a_loop_over_the_rows(self, simulated):
        matrix, cells = simulated.matrix, as_cells(simulated, "rows")
        rows = [(*cell, label) for cell, labels in cells.items() for label in labels]
        for name in simulated.readings:
            expected = slow_reading(rows, name, matrix.model_names, matrix.question_ids)
            assert as_cells(simulated, name) == expected, name

    def test_rows_are_the_answer_of_the_pool_and_duplicates(self, simulated):
        pool = load_dataset("simulated", scale=0.01)
        labels = pd.DataFrame(pool.labels, pool.model_names, pool.question_ids)
        others = []
        for (model, question), found in as_cells(simulated, "rows").items():
            if found:
                assert labels.at[model, question] in found
                others += [label != labels.at[model, question] for label in found]
            if len(found) > 1:
                assert pool.questions.at[question, "benchmark"] == "GPQA"
        assert sum(others) == pytest.approx(CONFLICTS * next(iter(simulated.counts().values())), rel=0.1)

    def test_as_many_rows_as_in_the_look_alike(self, release):
        pool = load_dataset("simulated", scale=0.01)
        questions = pool.questions.assign(category=release_categories(pool.questions))
        for split in ("train", "val", "test"):
            drawn, labels = draw_answers(pool.labels, questions, split, 0.01, np.random.default_rng(7))
            written = pd.read_csv(release / f"{split}.csv", usecols=["prompt_id", "category", "label"])
            assert len(written) == labels.size == 112 * len(drawn)
            times, expected = written["prompt_id"].value_counts() // 112, drawn["question"].value_counts()
            assert set(times.index) == set(expected.index)
            assert sorted(times) == sorted(expected)

    def test_drawing_leaves_the_pool_alone(self):
        pool = load_dataset("simulated", scale=0.01)
        questions = pool.questions.assign(category=release_categories(pool.questions))
        drawn, labels = draw_answers(pool.labels, questions, "train", 1.0, np.random.default_rng(0))
        differ = labels != pool.labels[:, drawn["question"]]
        assert not differ[:, ~drawn["duplicate"]].any()
        assert differ[:, drawn["duplicate"]].mean() == pytest.approx(CONFLICTS, abs=0.01)

    def test_missing_entries(self, simulated):
        hidden = simulated.missing()
        assert hidden.mean() == pytest.approx(0.2, abs=0.01)
        for rule in RULES:
            labels, questions = simulated.readings[rule]
            assert (labels[:, np.diff(questions, prepend=-1) > 0][hidden] == -1).all()
            labels, questions = simulated.readings[f"{rule}{MISSING_AS_INCORRECT}"]
            assert (labels[:, np.diff(questions, prepend=-1) > 0][hidden] == 0).all()

    def test_source_says_what_is_simulated(self, simulated):
        assert simulated.matrix.source == "simulated pool with simulated duplicates and missing entries (20%)"
        duplicates, conflicts, ties = simulated.counts().values()
        # Of 409 rows of a model 52 are duplicates, and a fifth of the entries lose theirs.
        assert duplicates == pytest.approx(112 * 52 * 0.8, rel=0.05)
        assert conflicts <= CONFLICTS * duplicates
        assert ties < conflicts

    def test_same_seed_same_labels(self, simulated):
        pool = load_dataset("simulated", scale=0.01)
        for seed, same in ((0, True), (1, False)):
            again = read_every_way("simulated", pool, missing=0.2, random_state=seed)
            assert np.array_equal(again.matrix.labels, simulated.matrix.labels) == same


class Unseeded(BenchmarkMean):
    """Counts the fits of its clones."""

    fits: ClassVar[list] = []

    def __init__(self, name=""):
        self.name = name

    def fit(self, matrix):
        self.fits.append(self.name)
        return super().fit(matrix)


class Seeded(Unseeded):
    fits: ClassVar[list] = []

    def __init__(self, name="", random_state=0):
        self.name, self.random_state = name, random_state

    def fit(self, matrix):
        self.fits.append(f"{self.name} {self.random_state}")
        return BenchmarkMean.fit(self, matrix)


COUNTED = {"MF": Seeded("MF"), "KNN": Unseeded("KNN"), "benchmark mean": Unseeded("benchmark mean")}


class TestScores:
    @pytest.fixture(autouse=True)
    def reset(self):
        Seeded.fits.clear()
        Unseeded.fits.clear()

    def test_equal_a_loop_over_the_rows(self, readings, rows, scores):
        """Trained on one reading, scored on another, for predictors that are refitted here on a matrix by hand."""
        matrix = readings.matrix
        for seed in (1, 2):
            split = matrix.split(random_state=seed)
            for trained_on in ("any", "majority, missing as incorrect"):
                labels = readings.readings[trained_on].labels
                frame = pd.DataFrame(labels, matrix.model_names, matrix.question_ids)[split.train.question_ids]
                train = type(matrix)(frame, split.train.questions, split.train.embeddings)
                for predictor in (KNNCorrectness(5), BenchmarkMean()):
                    name = "KNN" if isinstance(predictor, KNNCorrectness) else "benchmark mean"
                    forecast = pd.DataFrame(
                        predictor.fit(train).predict_matrix(split.test) > 0.5,
                        matrix.model_names,
                        split.test.question_ids,
                    )
                    for scored_on in readings.readings:
                        cells = slow_reading(rows, scored_on, matrix.model_names, split.test.question_ids)
                        hits = [forecast.loc[cell] == label for cell, seen in cells.items() for label in seen]
                        found = scores.accuracy()[seed, name, trained_on, scored_on]
                        assert found == pytest.approx(100 * np.mean(hits)), (name, trained_on, scored_on)

    def test_copies_are_in_the_part_of_their_question(self, readings, rows, scores):
        rows_of = Counter(question for _, question, _ in rows)
        for seed in (1, 2):
            test = readings.matrix.split(random_state=seed).test.question_ids
            counted = scores.counted[seed, "MF", "majority", "rows"]
            assert {question: n for question, n in counted.items() if n} == {
                question: rows_of[question] for question in test
            }

    def test_readings_with_the_same_labels_share_their_fits(self, toy):
        score_readings(read_every_way("own data", toy), COUNTED, PROTOCOLS, n_seeds=2)
        # Each seed divides the questions anew.
        assert Counter(Seeded.fits) == {"MF 0": 1, "MF 1": 1}
        assert Counter(Unseeded.fits) == {"KNN": 2, "benchmark mean": 2}

    def test_on_the_own_split_only_seeded_predictors_are_fitted_for_every_seed(self, simulated):
        score_readings(simulated, COUNTED, PROTOCOLS, seed=4, n_seeds=2)
        # Six readings: five rules for all, and one for the authors' mixture.
        assert Counter(Seeded.fits) == {"MF 4": 6, "MF 5": 6}
        assert Counter(Unseeded.fits) == {"KNN": 6, "benchmark mean": 6}

    def test_missing_as_incorrect_is_learned(self, toy_with_holes):
        """A model without an answer on a benchmark: scored by its own labels, the rule does well there."""
        readings = read_every_way("own data", toy_with_holes)
        accuracy = (
            score_readings(readings, PREDICTORS, PROTOCOLS).accuracy().groupby(level=[1, 2, 3]).mean()["benchmark mean"]
        )
        incorrect = f"majority{MISSING_AS_INCORRECT}"
        assert accuracy[incorrect, incorrect] > accuracy[incorrect, "majority"]


class TestComparison:
    def test_every_protocol_by_every_way_of_scoring(self, scores):
        table = compare_protocols(scores, "MF", "KNN")
        assert table["protocol"].unique().tolist() == list(PROTOCOLS)
        assert len(table) == 3 * len(PROTOCOLS)
        np.testing.assert_allclose(table["gap"], table["MF"] - table["KNN"])
        assert table[["low", "high"]].isna().all(axis=None)  # from a handful of test questions
        assert set(table["data"]) == {scores.source}

    def test_intervals_hold_the_gaps(self, simulated):
        scores = score_readings(simulated, PREDICTORS, PROTOCOLS, seed=0, n_seeds=1)
        table = compare_protocols(scores, "MF", "KNN")
        assert (table["low"] <= table["gap"]).all()
        assert (table["gap"] <= table["high"]).all()

    def test_the_mixture_has_labels_of_its_own_for_each_method(self, scores):
        accuracy = scores.accuracy().groupby(level=["predictor", "trained_on", "scored_on"]).mean()
        table = compare_protocols(scores, "MF", "KNN").set_index(["protocol", "scored on"])
        own = table.loc[("authors' mixture", "own labels")]
        rows, any_ = f"rows{MISSING_AS_INCORRECT}", f"any{MISSING_AS_INCORRECT}"
        assert own["MF"] == pytest.approx(accuracy["MF", rows, rows])
        assert own["KNN"] == pytest.approx(accuracy["KNN", any_, any_])
        alike = table.loc[("authors' mixture", "majority labels")]
        assert alike["gap"] == pytest.approx(accuracy["MF", rows, "majority"] - accuracy["KNN", any_, "majority"])
        # Each rule alone has one reading for all.
        assert table.at[("any", "own labels"), "KNN"] == pytest.approx(accuracy["KNN", "any", "any"])
        assert table.at[("any", "every row"), "KNN"] == pytest.approx(accuracy["KNN", "any", "rows"])

    def test_rules_crossed(self, scores):
        table, comparison = (
            cross_rules(scores, "MF", "KNN"),
            compare_protocols(scores, "MF", "KNN").set_index(["protocol", "scored on"]),
        )
        assert table.columns.tolist() == list(RULES)
        for rule in RULES:
            row = table.loc[(scores.source, rule)]
            assert row[rule] == pytest.approx(comparison.at[(rule, "own labels"), "gap"])
            assert row["majority"] == pytest.approx(comparison.at[(rule, "majority labels"), "gap"])
            assert row["rows"] == pytest.approx(comparison.at[(rule, "every row"), "gap"])


class TestValues:
    def test_values(self, readings, scores):
        comparison = compare_protocols(scores, "MF", "KNN")
        reported_values = {each.key: each for each in label_rule_values(readings, comparison)}
        gap = comparison.set_index(["protocol", "scored on"])["gap"]
        own = gap.xs("own labels", level="scored on")
        assert reported_values["repeated_rows"].value == next(iter(readings.counts().values()))
        assert reported_values["missing_cells"].value == pytest.approx(100 * readings.missing().mean())
        for rule in RULES:
            assert reported_values[f"gap_{rule}"].value == pytest.approx(own[rule])
            assert len(reported_values[f"gap_{rule}"].runs) == 2
        assert reported_values["gap_authors"].value == pytest.approx(own["authors' mixture"])
        assert reported_values["authors_effect"].value == pytest.approx(own["authors' mixture"] - own["majority"])
        assert reported_values["missing_effect"].value == pytest.approx(
            own["majority, missing as incorrect"] - own["majority"]
        )
        assert reported_values["rows_effect"].value == pytest.approx(gap["majority", "every row"] - own["majority"])
        runs = np.array([reported_values[f"gap_{rule}"].runs for rule in RULES])
        np.testing.assert_allclose(reported_values["gap_range"].runs, runs.max(axis=0) - runs.min(axis=0))

    def test_where_the_rules_are_the_same_they_have_no_effect(self, toy):
        readings = read_every_way("own data", toy)
        comparison = compare_protocols(score_readings(readings, PREDICTORS, PROTOCOLS, n_seeds=1), "MF", "KNN")
        values = {each.key: each.value for each in label_rule_values(readings, comparison)}
        assert values["gap_range"] == values["missing_effect"] == values["rows_effect"] == values["authors_effect"] == 0
        assert not math.isnan(values["gap_majority"])
