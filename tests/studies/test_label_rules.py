"""The rules for labels: readings and scores against loops over the rows, and the simulated duplicates."""

from collections import defaultdict

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
    label_rule_values,
    read_every_way,
    reading_table,
)

PREDICTORS = {
    "MF": MatrixFactorization(dim=3, alpha=0.1),
    "KNN": KNNCorrectness(5),
    "benchmark mean": BenchmarkMean(),
}
READINGS = [*RULES, *(f"{rule}{MISSING_AS_INCORRECT}" for rule in RULES[:3])]


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
    reading, cells = readings[name], defaultdict(list)
    questions = reading.question_ids.astype(str)
    for model, row in zip(reading.model_names, reading.labels, strict=True):
        for column, label in zip(questions, row.tolist(), strict=True):
            cells[model, column.partition(" (row ")[0]] += [label] if label >= 0 else []
    return cells


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
def comparison(readings):
    return compare_protocols(readings, PREDICTORS, "MF", "KNN", seed=1)


@pytest.fixture(scope="module")
def simulated():
    return read_every_way("simulated", load_dataset("simulated", scale=0.01), missing=0.2)


def counts_of(readings):
    """Duplicated rows, and entries with conflicting and with tied labels."""
    comparison = compare_protocols(readings, {"MF": BenchmarkMean(), "KNN": BenchmarkMean()}, "MF", "KNN")
    values = {each.key: each.value for each in label_rule_values(readings, comparison)}
    return [values[key] for key in ("repeated_rows", "conflicting_cells", "tied_cells")]


class TestReadings:
    def test_equal_a_loop_over_the_rows(self, readings, rows):
        matrix = readings["majority"]
        assert list(readings) == READINGS
        for name in readings:
            assert as_cells(readings, name) == slow_reading(rows, name, matrix.model_names, matrix.question_ids), name

    def test_table(self, readings, rows):
        table = reading_table(readings)
        assert table.at["rows", "labels"] == len(rows)
        assert table.at["rows", "correct (%)"] == pytest.approx(100 * np.mean([label for *_, label in rows]))
        assert table.at["rows", "columns"] > 40 == table.at["last", "columns"]
        assert set(table["data"]) == {readings["majority"].source}
        assert table.at["any, missing as incorrect", "labels"] == 6 * 40

    def test_without_duplicates_the_rules_are_the_same(self, monkeypatch, toy_with_holes):
        def read_again(*_, **__):
            raise AssertionError("there is nothing to read again")

        monkeypatch.setattr(label_rules, "load_dataset", read_again)
        readings = read_every_way("own data", toy_with_holes)
        for rule in RULES:
            assert readings[rule] is toy_with_holes
        for rule in RULES[:3]:
            labels = readings[f"{rule}{MISSING_AS_INCORRECT}"].labels
            np.testing.assert_array_equal(labels, toy_with_holes.labels.clip(0))

    @pytest.mark.parametrize("missing", [-0.1, 1.0, float("nan")])
    def test_share_out_of_range(self, toy, missing):
        with pytest.raises(ValueError, match="missing must be at least 0 and below 1"):
            read_every_way("simulated", toy, missing=missing)


class TestSimulated:
    def test_rules_equal_a_loop_over_the_rows(self, simulated):
        matrix, cells = simulated["majority"], as_cells(simulated, "rows")
        rows = [(*cell, label) for cell, labels in cells.items() for label in labels]
        for name in simulated:
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
        assert sum(others) == pytest.approx(CONFLICTS * counts_of(simulated)[0], rel=0.1)

    def test_as_many_rows_as_in_the_look_alike(self, release):
        pool = load_dataset("simulated", scale=0.01)
        questions = pool.questions.assign(category=release_categories(pool.questions))
        questions = questions.sort_values("category", kind="stable")  # as in the look-alike
        pool = pool.subset(questions=questions.index)
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
        hidden = simulated["any"].labels == -1
        assert hidden.mean() == pytest.approx(0.2, abs=0.01)
        for rule in RULES[:3]:
            reading, filled = simulated[rule], simulated[f"{rule}{MISSING_AS_INCORRECT}"]
            first = reading.questions.index.isin(simulated["any"].questions.index)
            assert (reading.labels[:, first][hidden] == -1).all()
            assert (filled.labels[:, first][hidden] == 0).all()

    def test_source_says_what_is_simulated(self, simulated):
        assert simulated["rows"].source == "simulated pool with simulated duplicates and missing entries (20%)"
        duplicates, conflicts, ties = counts_of(simulated)
        # Of 409 rows of a model 52 are duplicates, and a fifth of the entries lose theirs.
        assert duplicates == pytest.approx(112 * 52 * 0.8, rel=0.05)
        assert conflicts <= CONFLICTS * duplicates
        assert ties < conflicts

    def test_same_seed_same_labels(self, simulated):
        pool = load_dataset("simulated", scale=0.01)
        for seed, same in ((0, True), (1, False)):
            again = read_every_way("simulated", pool, missing=0.2, random_state=seed)
            assert np.array_equal(again["last"].labels, simulated["last"].labels) == same


class TestComparison:
    def test_equal_a_loop_over_the_rows(self, readings, rows, comparison):
        """Predictors that are refitted here on a matrix by hand, and scored row by row."""
        matrix, table = readings["majority"], comparison.set_index(["protocol", "scored on"])
        split = matrix.split(random_state=1)
        for protocol, of_knn, of_others in (
            ("any", "any", "any"),
            ("majority, missing as incorrect",) * 3,
            ("authors' mixture", "any, missing as incorrect", "rows, missing as incorrect"),
        ):
            for name, predictor in PREDICTORS.items():
                trained_on = of_knn if name == "KNN" else of_others
                if trained_on.startswith("rows"):
                    continue  # copies have ids of their own, and are compared below
                frame = pd.DataFrame(readings[trained_on].labels, matrix.model_names, matrix.question_ids)
                part = split.train
                train = type(matrix)(frame[part.question_ids], part.questions, part.embeddings)
                forecast = predictor.fit(train).predict_matrix(split.test) > 0.5
                forecast = pd.DataFrame(forecast, matrix.model_names, split.test.question_ids)
                for way, scored_on in (("own labels", trained_on), ("majority labels", "majority")):
                    cells = slow_reading(rows, scored_on, matrix.model_names, split.test.question_ids)
                    hits = [forecast.loc[cell] == label for cell, seen in cells.items() for label in seen]
                    found = table.at[(protocol, way), name]
                    assert found == pytest.approx(100 * np.mean(hits)), (protocol, way, name)

    def test_rows_are_scored_one_by_one_and_copies_are_in_the_part_of_their_question(self, readings, rows):
        class Optimist(BenchmarkMean):
            def fit(self, matrix):
                fitted.append(matrix)
                return super().fit(matrix)

            def predict_matrix(self, matrix):
                return np.ones((matrix.n_models, matrix.n_questions))

        fitted = []
        table = compare_protocols(readings, {"MF": Optimist(), "KNN": Optimist()}, "MF", "KNN", seed=1)
        split = readings["majority"].split(random_state=1)
        test = set(split.test.question_ids)
        own = table.set_index(["protocol", "scored on"]).at[("rows", "own labels"), "MF"]
        assert own == pytest.approx(100 * np.mean([label for _, question, label in rows if question in test]))
        for matrix in fitted:
            assert {id_.partition(" (row ")[0] for id_ in matrix.question_ids} == set(split.train.question_ids)

    def test_every_protocol_by_every_way_of_scoring(self, readings, comparison):
        assert comparison["protocol"].unique().tolist() == [*READINGS[:5], "authors' mixture"]
        assert len(comparison) == 2 * 6
        np.testing.assert_allclose(comparison["gap"], comparison["MF"] - comparison["KNN"])
        assert comparison[["low", "high"]].isna().all(axis=None)  # from a handful of test questions
        assert set(comparison["data"]) == {readings["majority"].source}

    def test_intervals_hold_the_gaps(self):
        # With 30 items and more in the test part: wordings of one are resampled together.
        readings = read_every_way("simulated", load_dataset("simulated", scale=0.03), missing=0.1, random_state=0)
        table = compare_protocols(readings, PREDICTORS, "MF", "KNN")
        assert (table["low"] <= table["gap"]).all()
        assert (table["gap"] <= table["high"]).all()


class TestValues:
    def test_values(self, readings, rows, comparison):
        reported_values = {each.key: each.value for each in label_rule_values(readings, comparison)}
        gap = comparison.set_index(["protocol", "scored on"])["gap"]
        own, alike = (gap.xs(way, level="scored on") for way in ("own labels", "majority labels"))
        cells = defaultdict(list)
        for model, question, label in rows:
            cells[model, question].append(label)
        assert counts_of(readings) == [
            len(rows) - len(cells),
            sum(len(set(seen)) == 2 for seen in cells.values()),
            sum(2 * sum(seen) == len(seen) for seen in cells.values()),
        ]
        assert min(counts_of(readings)) > 0
        assert reported_values["missing_cells"] == pytest.approx(100 - 100 * len(cells) / (6 * 40))
        for rule in RULES:
            assert reported_values[f"gap_{rule}"] == pytest.approx(own[rule])
        assert reported_values["gap_authors"] == pytest.approx(own["authors' mixture"])
        assert reported_values["authors_effect"] == pytest.approx(own["authors' mixture"] - own["majority"])
        incorrect = f"majority{MISSING_AS_INCORRECT}"
        assert reported_values["missing_effect"] == pytest.approx(own[incorrect] - own["majority"])
        for key, each in (("gap_range", own), ("gap_range_training", alike)):
            assert reported_values[key] == pytest.approx(each[list(RULES)].max() - each[list(RULES)].min())

    def test_where_the_rules_are_the_same_they_have_no_effect(self, toy):
        readings = read_every_way("own data", toy)
        comparison = compare_protocols(readings, PREDICTORS, "MF", "KNN")
        values = {each.key: each.value for each in label_rule_values(readings, comparison)}
        assert values["gap_range"] == values["missing_effect"] == values["authors_effect"] == 0
        assert not np.isnan(values["gap_majority"])
