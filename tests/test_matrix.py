"""The correctness matrix: axes matched by name, three-valued labels, split, subset, accuracy and display."""

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm._support.checks import name_positions

MODELS = ["zeta", "alpha", "mid"]
QUESTIONS = ["q3", "q1", "q2", "q0"]
LABELS = np.array([[1, 0, 1, -1], [0, 0, -1, 1], [1, 1, 0, 0]])


def questions_frame(ids=QUESTIONS):
    return pd.DataFrame({"benchmark": ["math", "code", "math", "code"][: len(ids)]}, index=ids)


def embeddings(n=4, width=3):
    return np.random.default_rng(0).standard_normal((n, width)).astype(np.float32)


@pytest.fixture(scope="module")
def small(matrix_of):
    return matrix_of(LABELS, MODELS, QUESTIONS, benchmark=["math", "code", "math", "code"])


def with_cell(value, dtype=object):
    """Labels that are all correct, but for a value of model alpha on question q1."""
    frame = pd.DataFrame(1, MODELS, QUESTIONS).astype({"q1": dtype})
    frame["q1"] = pd.Series([1, value, 1], index=MODELS, dtype=dtype)
    return frame


class TestAxes:
    def test_order_of_rows_and_columns_does_not_matter(self):
        models = pd.DataFrame({"params_b": [7.0, 13.0, 70.0]}, index=MODELS)
        for seed in range(5):
            rng = np.random.default_rng(seed)
            shuffled = pd.DataFrame(LABELS, MODELS, QUESTIONS).iloc[rng.permutation(3), rng.permutation(4)]
            matrix = CorrectnessMatrix(shuffled, questions_frame(), embeddings(), models=models)
            np.testing.assert_array_equal(matrix.labels, LABELS)
            assert list(matrix.model_names) == MODELS
            assert matrix.models["params_b"].tolist() == [7.0, 13.0, 70.0]
            assert list(matrix.question_ids) == QUESTIONS

    def test_without_a_frame_of_models_the_labels_give_their_order(self, small):
        assert list(small.model_names) == MODELS

    @pytest.mark.parametrize("n", [3, 4], ids=["oblong", "square"])
    @pytest.mark.parametrize("with_models", [True, False])
    def test_transposed_labels_are_refused(self, n, with_models):
        names = ["a", "b", "c", "d"][:n]
        labels = pd.DataFrame(np.eye(n, 4, dtype=int), names, QUESTIONS)
        models = pd.DataFrame(index=names) if with_models else None
        CorrectnessMatrix(labels, questions_frame(), embeddings(), models=models)
        with pytest.raises(ValueError, match=r"labels is transposed: .* Pass labels\.T"):
            CorrectnessMatrix(labels.T, questions_frame(), embeddings(), models=models)

    @pytest.mark.parametrize(
        ("models", "questions", "message"),
        [
            (["zeta", "alpha", "other"], QUESTIONS, r"1 model\(s\) occur in labels only, the first 'mid'"),
            ([*MODELS, "other"], QUESTIONS, r"1 model\(s\) occur in models only, the first 'other'"),
            (MODELS, QUESTIONS[:3], r"1 question\(s\) occur in labels only, the first 'q0'"),
        ],
    )
    def test_names_that_do_not_match_are_named(self, models, questions, message):
        labels = pd.DataFrame(LABELS, MODELS, QUESTIONS)
        with pytest.raises(ValueError, match=message):
            CorrectnessMatrix(
                labels, questions_frame(questions), embeddings(len(questions)), models=pd.DataFrame(index=models)
            )

    def test_question_without_labels_is_named(self):
        labels = pd.DataFrame(LABELS, MODELS, QUESTIONS).drop(columns="q1")
        with pytest.raises(ValueError, match=r"1 question\(s\) occur in questions only, the first 'q1'"):
            CorrectnessMatrix(labels, questions_frame(), embeddings())

    @pytest.mark.parametrize(
        ("models", "questions", "message"),
        [
            (["zeta", "mid", "mid"], QUESTIONS, "model 'mid' occurs more than once"),
            (MODELS, ["q3", "q1", "q1", "q0"], "question 'q1' occurs more than once"),
            # A number and its text are one name, so that a file that was written and read again is the same data.
            (["7", 7, "mid"], QUESTIONS, "model '7' occurs more than once"),
        ],
    )
    def test_duplicate_names_are_refused(self, matrix_of, models, questions, message):
        with pytest.raises(ValueError, match=message):
            matrix_of(LABELS, models, questions)

    def test_names_are_text(self, matrix_of):
        matrix = matrix_of(LABELS, ["NA", "null", "nan"], [7, 1000000007, "007", -1])
        assert list(matrix.model_names) == ["NA", "null", "nan"]
        assert list(matrix.question_ids) == ["7", "1000000007", "007", "-1"]
        assert list(matrix.subset(questions=[1000000007, "007"]).question_ids) == ["1000000007", "007"]

    def test_bare_array_is_refused(self):
        with pytest.raises(TypeError, match=r"labels must be a DataFrame.*not ndarray"):
            CorrectnessMatrix(LABELS, questions_frame(), embeddings())

    def test_every_question_needs_a_benchmark(self):
        labels = pd.DataFrame(LABELS, MODELS, QUESTIONS)
        with pytest.raises(ValueError, match=r"questions needs a column 'benchmark'; it has \['topic'\]"):
            CorrectnessMatrix(labels, questions_frame().rename(columns={"benchmark": "topic"}), embeddings())
        with pytest.raises(ValueError, match="question 'q1' has no benchmark"):
            CorrectnessMatrix(labels, questions_frame().replace("code", None), embeddings())


class TestLabels:
    @pytest.mark.parametrize(
        ("value", "label"),
        [(1, 1), (0, 0), (-1, -1), (1.0, 1), (True, 1), (False, 0), (None, -1), (np.nan, -1), (pd.NA, -1)],
        ids=repr,
    )
    def test_value_becomes_a_label(self, matrix_of, value, label):
        matrix = matrix_of(with_cell(value))
        assert matrix.labels.dtype == np.int8
        assert matrix.labels.tolist() == [[1, 1, 1, 1], [1, label, 1, 1], [1, 1, 1, 1]]
        assert matrix.observed.tolist() == (matrix.labels != -1).tolist()

    @pytest.mark.parametrize("dtype", ["bool", "boolean", "int8", "uint8", "Int64", "float32", "Float64"])
    def test_dtype_of_the_frame_does_not_matter(self, matrix_of, dtype):
        labels = pd.DataFrame(np.abs(LABELS), MODELS, QUESTIONS).astype(dtype)
        np.testing.assert_array_equal(matrix_of(labels).labels, np.abs(LABELS))

    @pytest.mark.parametrize("dtype", ["float64", "Int64", "boolean"])
    def test_missing_value_of_any_dtype_is_not_observed(self, matrix_of, dtype):
        assert matrix_of(with_cell(None, dtype)).labels[1, 1] == -1

    @pytest.mark.parametrize("value", [2, -2, 0.7, np.inf, "1", "", "correct", "True", 1 + 0j], ids=repr)
    def test_anything_else_is_refused_with_its_place(self, matrix_of, value):
        with pytest.raises(ValueError) as error:
            matrix_of(with_cell(value))
        assert str(error.value).startswith(f"label {value!r} of model 'alpha' on question 'q1': use 1 (correct)")

    def test_value_is_shown_as_written_also_from_a_frame_of_integers(self, matrix_of):
        with pytest.raises(ValueError, match=r"^label 2 of model 'zeta' on question 'q3'"):
            matrix_of(pd.DataFrame(2, MODELS, QUESTIONS))

    def test_labels_cannot_be_changed_in_place(self, toy):
        for array in (toy.labels, toy.embeddings):
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 1


class TestEmbeddings:
    def build(self, vectors):
        return CorrectnessMatrix(pd.DataFrame(LABELS, MODELS, QUESTIONS), questions_frame(), vectors)

    @pytest.mark.parametrize("shape", [(3, 3), (5, 3), (4,), (4, 3, 1)], ids=str)
    def test_shape_is_checked(self, shape):
        with pytest.raises(ValueError, match="expected one row for each of 4 questions") as error:
            self.build(np.ones(shape))
        assert str(shape) in str(error.value)

    @pytest.mark.parametrize(("value", "why"), [(np.nan, "not finite"), (-np.inf, "not finite"), (0, "all zeros")])
    def test_useless_row_is_named(self, value, why):
        vectors = embeddings()
        vectors[2] = value
        with pytest.raises(ValueError, match=rf"the embedding of question 'q2' \(row 2\) is {why}"):
            self.build(vectors)

    @pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
    def test_kept_as_float32(self, dtype):
        vectors = (embeddings() * 100).astype(dtype)
        kept = self.build(vectors).embeddings
        assert kept.dtype == np.float32
        np.testing.assert_array_equal(kept, vectors.astype(np.float32))

    def test_array_of_the_caller_stays_the_caller_s(self):
        vectors = embeddings()
        matrix = self.build(vectors)
        vectors[:] = 0
        assert matrix.embeddings.any()


def with_split(matrix, parts):
    labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    return CorrectnessMatrix(labels, matrix.questions.assign(split=parts), matrix.embeddings)


class TestSplit:
    @pytest.mark.parametrize("n", [40, 100, 333])
    def test_questions_are_divided_80_10_10(self, make_matrix, n):
        matrix = make_matrix(n_questions=n)
        parts = matrix.split()
        assert [part.n_questions / n for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=1 / n)
        ids = [set(part.question_ids) for part in parts]
        assert set.union(*ids) == set(matrix.question_ids)
        assert sum(map(len, ids)) == n

    def test_each_part_holds_all_models_and_its_own_cells(self, toy_with_holes):
        for part in toy_with_holes.split():
            assert list(part.model_names) == list(toy_with_holes.model_names)
            columns = [list(toy_with_holes.question_ids).index(name) for name in part.question_ids]
            assert columns == sorted(columns)
            np.testing.assert_array_equal(part.labels, toy_with_holes.labels[:, columns])
            np.testing.assert_array_equal(part.embeddings, toy_with_holes.embeddings[columns])
            assert list(part.benchmarks) == list(toy_with_holes.benchmarks[columns])

    def test_seed_decides(self, toy):
        ids = [list(toy.split(random_state=seed).test.question_ids) for seed in (0, 0, 1)]
        assert ids[0] == ids[1] != ids[2]

    def test_own_split_is_honoured(self, toy):
        own = ["val", "test", "train", "train", "train"] * 8
        matrix = with_split(toy, own)
        parts = matrix.split(random_state=3)
        for name, part in parts._asdict().items():
            assert list(part.question_ids) == [i for i, of in zip(matrix.question_ids, own, strict=True) if of == name]
        assert matrix.split(own=False).train.n_questions == 32

    @pytest.mark.parametrize("value", ["dev", None])
    def test_unknown_part_of_an_own_split_is_refused(self, toy, value):
        with pytest.raises(ValueError, match=r"column 'split' holds .*it may hold \['train', 'val', 'test'\]"):
            with_split(toy, [*["train", "val", "test"] * 13, value]).split()

    def test_fractions_are_not_ignored_beside_an_own_split(self, toy):
        matrix = with_split(toy, ["train", "val", "test", "train"] * 10)
        with pytest.raises(ValueError, match="own=False"):
            matrix.split((0.5, 0.25, 0.25))
        assert matrix.split((0.5, 0.25, 0.25), own=False).train.n_questions == 20

    @pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.0, 0.1, -0.1), (0.9, 0.1, 0.0)])
    def test_bad_fractions_are_refused(self, toy, fractions):
        with pytest.raises(ValueError, match="three positive numbers that sum to 1"):
            toy.split(fractions)


class TestSubset:
    def test_names_give_the_order(self, small):
        part = small.subset(models=["mid", "zeta"], questions=["q0", "q3", "q2"])
        assert list(part.model_names) == ["mid", "zeta"]
        assert list(part.question_ids) == ["q0", "q3", "q2"]
        assert part.labels.tolist() == [[0, 1, 0], [-1, 1, 1]]
        assert list(part.benchmarks) == ["code", "math", "math"]
        np.testing.assert_array_equal(part.embeddings, small.embeddings[[3, 0, 2]])

    def test_mask(self, small):
        part = small.subset(models=np.array([True, False, True]), questions=small.benchmarks == "math")
        assert part.labels.tolist() == [[1, 1], [1, 0]]
        with pytest.raises(ValueError, match="a mask of questions must have 4 entries, got 3"):
            small.subset(questions=np.array([True, False, True]))

    def test_nothing_is_possible(self, small):
        assert small.subset(models=[]).labels.shape == (0, 4)
        assert small.subset(questions=[]).labels.shape == (3, 0)

    def test_unknown_name_lists_the_known_ones(self, small):
        with pytest.raises(KeyError, match="unknown model 'omega'; known: zeta, alpha, mid"):
            small.subset(models=["mid", "omega"])
        with pytest.raises(KeyError, match="unknown question 'q9'; known: q3, q1, q2, q0"):
            small.subset(questions=["q9"])

    def test_long_list_of_known_names_is_cut(self):
        with pytest.raises(KeyError, match=r"known: m0, .*, m19, \.\.\."):
            name_positions("model", ["x"], [f"m{number}" for number in range(30)])

    def test_duplicate_name_is_refused_as_everywhere(self, small):
        # A matrix with a duplicate name could be saved, and then not be loaded.
        with pytest.raises(ValueError, match="q1"):
            small.subset(questions=["q1", "q1"])


class TestAccuracy:
    def test_hand_computed(self, small):
        overall = small.accuracy()
        assert overall["n_observed"].item() == 10
        assert overall["accuracy"].item() == pytest.approx(5 / 10)
        by_model = small.accuracy(by="model")
        assert by_model.index.tolist() == MODELS
        assert by_model["n_observed"].tolist() == [3, 3, 4]
        assert by_model["accuracy"].tolist() == pytest.approx([2 / 3, 1 / 3, 2 / 4])
        by_benchmark = small.accuracy(by="benchmark")
        assert by_benchmark.index.tolist() == ["math", "code"]
        assert by_benchmark["n_observed"].tolist() == [5, 5]
        assert by_benchmark["accuracy"].tolist() == pytest.approx([3 / 5, 2 / 5])

    @pytest.mark.parametrize("by", [["model", "benchmark"], ["benchmark", "model"]], ids=str)
    def test_both_axes_equal_a_loop(self, toy_with_holes, by):
        table = toy_with_holes.accuracy(by=by)
        assert table.index.names == by
        assert len(table) == 12
        for key, row in table.iterrows():
            cell = dict(zip(by, key, strict=True))
            m = list(toy_with_holes.model_names).index(cell["model"])
            seen = [
                label
                for label, benchmark in zip(toy_with_holes.labels[m], toy_with_holes.benchmarks, strict=True)
                if benchmark == cell["benchmark"] and label != -1
            ]
            assert row["n_observed"] == len(seen)
            if seen:
                assert row["accuracy"] == pytest.approx(sum(seen) / len(seen))
            else:
                assert np.isnan(row["accuracy"])
        # The benchmark that the fixture takes from a model.
        assert table["accuracy"].isna().sum() == 1

    def test_stopped_run_says_over_how_many_questions(self, toy):
        labels = toy.labels.copy()
        labels[0, 25:] = -1
        row = toy.with_labels(labels).accuracy(by="model").iloc[0]
        assert row["n_observed"] == 25
        assert row["accuracy"] == pytest.approx(toy.labels[0, :25].mean())

    def test_nothing_observed_is_undefined(self, toy):
        table = toy.with_labels(np.full_like(toy.labels, -1)).accuracy(by="model")
        assert table["accuracy"].isna().all()
        assert (table["n_observed"] == 0).all()

    def test_unknown_axis_is_refused(self, toy):
        with pytest.raises(ValueError, match=r"by must be 'model', 'benchmark' or both, got \['question'\]"):
            toy.accuracy(by="question")


class TestWithLabels:
    def test_array_is_in_the_order_of_the_matrix(self, small):
        other = small.with_labels(1 - np.abs(LABELS))
        assert other.labels.tolist() == (1 - np.abs(LABELS)).tolist()
        assert other.models is small.models and other.questions is small.questions
        assert other.embeddings is small.embeddings and not other.labels.flags.writeable
        assert (other.source, len(other.report_)) == (small.source, 0)
        assert small.labels.tolist() == LABELS.tolist()

    def test_frame_is_matched_by_name(self, small):
        frame = pd.DataFrame(LABELS, MODELS, QUESTIONS).iloc[::-1, ::-1]
        np.testing.assert_array_equal(small.with_labels(frame).labels, LABELS)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (LABELS.T, r"Shape of passed values is \(4, 3\)"),
            (LABELS + 1, r"label 2 of model 'zeta' on question 'q3': use 1 \(correct\)"),
            (pd.DataFrame(LABELS, [*MODELS[:2], "other"], QUESTIONS), r"1 model\(s\) occur in labels only"),
            (pd.DataFrame(LABELS, MODELS, [*QUESTIONS[:3], "q9"]), r"1 question\(s\) occur in labels only"),
        ],
    )
    def test_what_does_not_match_is_refused(self, small, labels, message):
        with pytest.raises(ValueError, match=message):
            small.with_labels(labels)


class TestCosts:
    @pytest.fixture
    def costly(self):
        costs = pd.DataFrame(np.arange(12.0).reshape(3, 4), MODELS, QUESTIONS)
        costs.iloc[0, 3] = np.nan
        labels, shuffled = pd.DataFrame(LABELS, MODELS, QUESTIONS), costs.iloc[[2, 0, 1], [3, 0, 2, 1]]
        return CorrectnessMatrix(labels, questions_frame(), embeddings(), costs=shuffled, cost_unit="tokens")

    def test_are_matched_by_name(self, costly):
        expected = np.arange(12, dtype=np.float32).reshape(3, 4)
        expected[0, 3] = np.nan
        assert costly.costs.dtype == np.float32
        np.testing.assert_array_equal(costly.costs, expected)
        with pytest.raises(ValueError, match="read-only"):
            costly.costs[0, 0] = 1

    def test_follow_their_cells(self, costly):
        part = costly.subset(models=["mid", "zeta"], questions=["q0", "q1"])
        np.testing.assert_array_equal(part.costs, np.array([[11, 9], [np.nan, 1]], np.float32))
        for split in costly.split(fractions=(0.5, 0.25, 0.25)):
            columns = [QUESTIONS.index(name) for name in split.question_ids]
            np.testing.assert_array_equal(split.costs, costly.costs[:, columns])
            assert split.cost_unit == "tokens"
        other = costly.with_labels(1 - LABELS.clip(0))
        np.testing.assert_array_equal(other.costs, costly.costs)

    def test_are_optional(self, small):
        assert small.costs is None
        assert small.subset(models=["mid"]).costs is None

    @pytest.mark.parametrize(
        ("costs", "unit", "message"),
        [
            (
                pd.DataFrame(-1.0, MODELS, QUESTIONS),
                "tokens",
                r"cost -1\.0 of model 'zeta' on question 'q3': use a",
            ),
            (pd.DataFrame(np.inf, MODELS, QUESTIONS), "tokens", r"cost inf of model 'zeta'"),
            (pd.DataFrame(1.0, MODELS[:2], QUESTIONS), "tokens", r"1 model\(s\) occur in models only, the first 'mid'"),
            (pd.DataFrame(1.0, MODELS, QUESTIONS), "euros", r"cost_unit must be one of \['US dollars', 'tokens'\]"),
        ],
    )
    def test_what_is_no_cost(self, costs, unit, message):
        labels = pd.DataFrame(LABELS, MODELS, QUESTIONS)
        with pytest.raises(ValueError, match=message):
            CorrectnessMatrix(labels, questions_frame(), embeddings(), costs=costs, cost_unit=unit)


class TestDisplay:
    def test_html_shows_shape_share_and_benchmarks(self, toy_with_holes):
        shown = toy_with_holes._repr_html_()
        assert "6 models x 40 questions" in shown
        assert f"{toy_with_holes.observed.mean():.1%} observed" in shown
        assert "width 12" in shown
        for name, row in toy_with_holes.accuracy(by="benchmark").iterrows():
            assert name in shown
            assert f"{row['accuracy']:.1%}" in shown
            assert f"{row['n_observed'] / (6 * 20):.1%}" in shown

    def test_html_is_escaped(self):
        questions = questions_frame().assign(benchmark="<script>alert(1)</script>")
        labels = pd.DataFrame(LABELS, MODELS, QUESTIONS)
        shown = CorrectnessMatrix(labels, questions, embeddings(), source="<b>own</b>")._repr_html_()
        assert "<script>" not in shown
        assert "<b>" not in shown
        assert "&lt;script&gt;" in shown

    def test_repr(self, toy):
        assert "6 models x 40 questions, 2 benchmarks, 100.0% observed" in repr(toy)

    def test_empty_part_can_be_shown(self, toy):
        for part in (toy.subset(questions=[]), toy.subset(models=[])):
            assert f"{part.n_models} models x {part.n_questions} questions" in part._repr_html_()


def test_text_is_no_list_of_names(toy):
    with pytest.raises(TypeError, match="list of names"):
        toy.subset(models="m1")


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "7"])
def test_bad_seed_is_named(toy, seed):
    with pytest.raises(ValueError, match="the seed"):
        toy.split(random_state=seed)


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0"])
def test_blank_names_are_refused(matrix_of, blank):
    with pytest.raises(ValueError, match="the name of a model is blank"):
        matrix_of([[1], [0]], ["a", blank], ["q"])
    with pytest.raises(ValueError, match="the name of a question is blank"):
        matrix_of([[1, 0]], ["a"], ["q", blank])
    with pytest.raises(ValueError, match="'q' has no benchmark"):
        matrix_of([[1]], ["a"], ["q"], benchmark=blank)


@pytest.mark.parametrize("size", [0, -7, np.inf, -np.inf])
def test_sizes_are_finite_and_positive(matrix_of, size):
    matrix = matrix_of([[1], [0]], ["a", "b"], ["q"])
    labels = pd.DataFrame(matrix.labels, ["a", "b"], ["q"])
    models = pd.DataFrame({"params_b": [np.nan, size]}, ["a", "b"])
    with pytest.raises(ValueError, match=r"params_b of model 'b' is .*: use a finite number above 0"):
        CorrectnessMatrix(labels, matrix.questions, matrix.embeddings, models=models)
