"""The correctness matrix: axes matched by name, three-valued labels, split, accuracy, and a file that is whole or not
there."""

import stat
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm._checks import name_positions

MODELS = ["zeta", "alpha", "mid"]
QUESTIONS = ["q3", "q1", "q2", "q0"]
LABELS = np.array([[1, 0, 1, -1], [0, 0, -1, 1], [1, 1, 0, 0]])


def questions_frame(ids=QUESTIONS):
    return pd.DataFrame({"benchmark": ["math", "code", "math", "code"][: len(ids)]}, index=ids)


def embeddings(n=4, width=3):
    return np.random.default_rng(0).standard_normal((n, width)).astype(np.float32)


def matrix_of(labels=LABELS, models=MODELS, questions=QUESTIONS, **rest):
    frame = labels if isinstance(labels, pd.DataFrame) else pd.DataFrame(labels, models, questions)
    return CorrectnessMatrix(frame, questions_frame(questions), embeddings(len(questions)), **rest)


def with_cell(value, dtype=object):
    """Labels that are all right, but for a value of model alpha on question q1."""
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

    def test_without_a_frame_of_models_the_labels_give_their_order(self):
        assert list(matrix_of(pd.DataFrame(LABELS, MODELS, QUESTIONS)).model_names) == MODELS

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
    def test_repeated_names_are_refused(self, models, questions, message):
        with pytest.raises(ValueError, match=message):
            matrix_of(models=models, questions=questions)

    def test_names_are_text(self):
        matrix = matrix_of(models=["NA", "null", "nan"], questions=[7, 1000000007, "007", -1])
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
    def test_value_becomes_a_label(self, value, label):
        matrix = matrix_of(with_cell(value))
        assert matrix.labels.dtype == np.int8
        assert matrix.labels.tolist() == [[1, 1, 1, 1], [1, label, 1, 1], [1, 1, 1, 1]]
        assert matrix.observed.tolist() == (matrix.labels != -1).tolist()

    @pytest.mark.parametrize("dtype", ["bool", "boolean", "int8", "uint8", "Int64", "float32", "Float64"])
    def test_dtype_of_the_frame_does_not_matter(self, dtype):
        labels = pd.DataFrame(np.abs(LABELS), MODELS, QUESTIONS).astype(dtype)
        np.testing.assert_array_equal(matrix_of(labels).labels, np.abs(LABELS))

    @pytest.mark.parametrize("dtype", ["float64", "Int64", "boolean"])
    def test_missing_value_of_any_dtype_is_not_observed(self, dtype):
        assert matrix_of(with_cell(None, dtype)).labels[1, 1] == -1

    @pytest.mark.parametrize("value", [2, -2, 0.7, np.inf, "1", "", "correct", "True", 1 + 0j], ids=repr)
    def test_anything_else_is_refused_with_its_place(self, value):
        with pytest.raises(ValueError) as error:
            matrix_of(with_cell(value))
        assert str(error.value).startswith(f"label {value!r} of model 'alpha' on question 'q1': use 1 (right)")

    def test_value_is_shown_as_written_also_from_a_frame_of_integers(self):
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
        matrix = CorrectnessMatrix(
            pd.DataFrame(toy.labels, toy.model_names, toy.question_ids),
            toy.questions.assign(split=own),
            toy.embeddings,
        )
        parts = matrix.split(random_state=3)
        for name, part in parts._asdict().items():
            assert list(part.question_ids) == [i for i, of in zip(matrix.question_ids, own, strict=True) if of == name]
        assert matrix.split(own=False).train.n_questions == 32

    @pytest.mark.parametrize("value", ["dev", None])
    def test_unknown_part_of_an_own_split_is_refused(self, value):
        questions = questions_frame().assign(split=["train", "val", "test", value])
        matrix = CorrectnessMatrix(pd.DataFrame(LABELS, MODELS, QUESTIONS), questions, embeddings())
        with pytest.raises(ValueError, match=r"column 'split' holds .*it may hold \['train', 'val', 'test'\]"):
            matrix.split()

    @pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.0, 0.1, -0.1), (0.9, 0.1, 0.0)])
    def test_bad_fractions_are_refused(self, toy, fractions):
        with pytest.raises(ValueError, match="three positive numbers that sum to 1"):
            toy.split(fractions)


class TestSubset:
    def test_names_give_the_order(self):
        part = matrix_of().subset(models=["mid", "zeta"], questions=["q0", "q3", "q2"])
        assert list(part.model_names) == ["mid", "zeta"]
        assert list(part.question_ids) == ["q0", "q3", "q2"]
        assert part.labels.tolist() == [[0, 1, 0], [-1, 1, 1]]
        assert list(part.benchmarks) == ["code", "math", "math"]
        np.testing.assert_array_equal(part.embeddings, embeddings()[[3, 0, 2]])

    def test_mask(self):
        matrix = matrix_of()
        part = matrix.subset(models=np.array([True, False, True]), questions=matrix.benchmarks == "math")
        assert part.labels.tolist() == [[1, 1], [1, 0]]
        with pytest.raises(ValueError, match="a mask of questions must have 4 entries, got 3"):
            matrix.subset(questions=np.array([True, False, True]))

    def test_nothing_is_possible(self):
        assert matrix_of().subset(models=[]).labels.shape == (0, 4)
        assert matrix_of().subset(questions=[]).labels.shape == (3, 0)

    def test_unknown_name_lists_the_known_ones(self):
        with pytest.raises(KeyError, match="unknown model 'omega'; known: zeta, alpha, mid"):
            matrix_of().subset(models=["mid", "omega"])
        with pytest.raises(KeyError, match="unknown question 'q9'; known: q3, q1, q2, q0"):
            matrix_of().subset(questions=["q9"])

    def test_long_list_of_known_names_is_cut(self):
        with pytest.raises(KeyError, match=r"known: m0, .*, m19, \.\.\."):
            name_positions("model", ["x"], [f"m{number}" for number in range(30)])

    def test_repeated_name_is_refused_as_everywhere(self):
        # A matrix with a repeated name could be saved, and then not be loaded.
        with pytest.raises(ValueError, match="q1"):
            matrix_of().subset(questions=["q1", "q1"])


class TestAccuracy:
    def test_hand_computed(self):
        matrix = matrix_of()
        overall = matrix.accuracy()
        assert overall["n_observed"].item() == 10
        assert overall["accuracy"].item() == pytest.approx(5 / 10)
        by_model = matrix.accuracy(by="model")
        assert by_model.index.tolist() == MODELS
        assert by_model["n_observed"].tolist() == [3, 3, 4]
        assert by_model["accuracy"].tolist() == pytest.approx([2 / 3, 1 / 3, 2 / 4])
        by_benchmark = matrix.accuracy(by="benchmark")
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
        # The hole that the fixture makes on purpose.
        assert table["accuracy"].isna().sum() == 1

    def test_stopped_run_says_over_how_many_questions(self, toy, relabel):
        labels = toy.labels.copy()
        labels[0, 25:] = -1
        row = relabel(toy, labels).accuracy(by="model").iloc[0]
        assert row["n_observed"] == 25
        assert row["accuracy"] == pytest.approx(toy.labels[0, :25].mean())

    def test_nothing_observed_is_undefined(self, toy, relabel):
        table = relabel(toy, np.full_like(toy.labels, -1)).accuracy(by="model")
        assert table["accuracy"].isna().all()
        assert (table["n_observed"] == 0).all()

    def test_unknown_axis_is_refused(self, toy):
        with pytest.raises(ValueError, match=r"by must be 'model', 'benchmark' or both, got \['question'\]"):
            toy.accuracy(by="question")


ODD_NAMES = ["NA", "null", "007", "🦙 llama", "模型@v1.0 (chat)__x"]


@pytest.fixture
def odd():
    """A matrix of all that a file format likes to change: odd names, missing metadata, long and odd texts."""
    ids = ["NA", "nan", "-1", "1000000007", "", " q "]
    rng = np.random.default_rng(0)
    questions = pd.DataFrame(
        {
            "benchmark": ["NA", "NA", "b,1", "b,1", '"b"', "日本"],
            "prompt": ["N/A", "", 'two\nlines, "quoted"\r\n', "提示 🙂", "x" * 200_000, None],
            "category": ["a"] * 6,
        },
        index=ids,
    )
    models = pd.DataFrame(
        {"params_b": [7.0, np.nan, 0.5, 70.0, np.nan], "tags": ["", "a;b", None, "NA", "x"]}, ODD_NAMES
    )
    report = pd.DataFrame({"what": ["tied labels"], "count": [3], "rule": ["not observed"]})
    labels = pd.DataFrame(rng.integers(-1, 2, (5, 6)), ODD_NAMES, ids)
    vectors = rng.standard_normal((6, 7))
    return CorrectnessMatrix(labels, questions, vectors, models=models, report=report, source="odd 🙂 <data>")


class TestFile:
    @pytest.mark.parametrize("name", ["matrix.npz", "no suffix", "with.dot"])
    def test_round_trip(self, tmp_path, odd, assert_same, name):
        odd.save(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        loaded = CorrectnessMatrix.load(tmp_path / name)
        assert_same(loaded, odd)
        assert list(loaded.model_names) == ODD_NAMES
        assert loaded.labels.dtype == np.int8
        assert loaded.embeddings.dtype == np.float32
        assert loaded.source == odd.source
        pd.testing.assert_frame_equal(loaded.report_, odd.report_, check_dtype=False)

    def test_parts_travel_too(self, tmp_path, toy_with_holes, assert_same):
        for number, part in enumerate([*toy_with_holes.split(), toy_with_holes.subset(questions=[])]):
            part.save(tmp_path / str(number))
            assert_same(CorrectnessMatrix.load(tmp_path / str(number)), part)

    @pytest.mark.parametrize("kept", [0, 4, 0.5, 0.9, -1], ids=str)
    def test_truncated_file_is_refused(self, tmp_path, toy, kept):
        path = tmp_path / "matrix.npz"
        toy.save(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        with pytest.raises(ValueError, match=r"matrix\.npz was not written by CorrectnessMatrix\.save, or not compl"):
            CorrectnessMatrix.load(path)

    def test_flipped_byte_is_noticed(self, tmp_path, toy):
        path = tmp_path / "matrix.npz"
        toy.save(path)
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("embeddings.npy")
        data = bytearray(path.read_bytes())
        data[member.header_offset + member.compress_size // 2] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"matrix\.npz"):
            CorrectnessMatrix.load(path)

    def test_foreign_files_are_refused(self, tmp_path):
        (tmp_path / "text").write_text("not an archive")
        np.savez(tmp_path / "other.npz", labels=np.ones(3))
        np.save(tmp_path / "array.npy", np.ones(3))
        # An object array is a pickle, which can run code when it is loaded.
        np.savez(tmp_path / "pickle.npz", labels=np.array([{}], dtype=object), embeddings=np.ones((1, 1)))
        for path in list(tmp_path.iterdir()):
            with pytest.raises(ValueError, match=path.name):
                CorrectnessMatrix.load(path)

    def test_missing_file_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            CorrectnessMatrix.load(tmp_path / "nowhere")

    @pytest.mark.parametrize("broken", ["write", "rename"])
    def test_failed_save_leaves_the_old_file_and_nothing_else(
        self, tmp_path, toy, odd, monkeypatch, assert_same, broken
    ):
        path = tmp_path / "matrix.npz"
        toy.save(path)

        def fail(target, *_, **__):
            if broken == "write":
                target.write(b"half of it")
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(np, "savez_compressed", fail) if broken == "write" else patch.setattr(Path, "replace", fail)
            with pytest.raises(OSError, match="disk full"):
                odd.save(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["matrix.npz"]
        assert_same(CorrectnessMatrix.load(path), toy)

    def test_file_is_as_readable_as_any_other(self, tmp_path, toy):
        # A temporary file is private, and a rename would keep it so: others of the group could not read the matrix.
        toy.save(tmp_path / "matrix.npz")
        (tmp_path / "plain").touch()
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert len(modes) == 1


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


def test_fractions_are_not_ignored_beside_an_own_split(toy):
    questions = toy.questions.assign(split=["train", "val", "test", "train"] * 10)
    labels = pd.DataFrame(toy.labels, index=toy.model_names, columns=toy.question_ids)
    matrix = CorrectnessMatrix(labels, questions, toy.embeddings)
    with pytest.raises(ValueError, match="own=False"):
        matrix.split((0.5, 0.25, 0.25))
    assert matrix.split((0.5, 0.25, 0.25), own=False).train.n_questions == 20


def test_text_is_no_list_of_names(toy):
    with pytest.raises(TypeError, match="list of names"):
        toy.subset(models="m1")


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "7"])
def test_bad_seed_is_named(toy, seed):
    with pytest.raises(ValueError, match="the seed"):
        toy.split(random_state=seed)
