"""Folders in the authors' long form: any matrix written so is read back equal, and what a folder lacks is named."""

import numpy as np
import pandas as pd
import pytest
import torch

from embedllm import CorrectnessMatrix, KNNCorrectness, MatrixFactorization, load_dataset
from embedllm.datasets.formats import _tables as tables
from embedllm.datasets.formats.answers import benchmark_of
from embedllm.datasets.formats.long import read_long_form
from embedllm.datasets.formats.long import write_long_form as write_folder
from embedllm.matrix import EncoderName

TEXTS = ["plain", "N/A", "two\nlines", "commas, \"quotes\", 'both'", "提示文字", "🦙🙂", "", " spaces ", "x" * 200_000]
NAMES = ["NA", "null", "nan", "org/model@v1.0 (chat)__x", "模型 七", "007"]
CATEGORIES = ["mmlu_anatomy", "social_iqa", "NA", "own, category"]


@pytest.fixture(scope="module")
def rich(make_matrix):
    """A matrix of everything that the form can carry: odd names and texts, missing labels, metadata, a split."""
    toy = make_matrix(missing=0.3, seed=3)
    ids = [str(number) for number in [*range(36), 1000000007, -1, "007", "null"]]
    category = [CATEGORIES[number % 4] for number in range(40)]
    questions = pd.DataFrame(
        {
            "benchmark": [benchmark_of(name) for name in category],
            "split": [("train", "train", "val", "test", "train")[number % 5] for number in range(40)],
            "category": category,
            "prompt": [TEXTS[number % len(TEXTS)] for number in range(40)],
        },
        index=ids,
    )
    models = pd.DataFrame(
        {"params_b": [7, 0.5, np.nan, 70, 13, np.nan], "tags": ["", "a;b", "NA", "x", "", "y"]}, NAMES
    )
    return CorrectnessMatrix(pd.DataFrame(toy.labels, NAMES, ids), questions, toy.embeddings, models=models)


def without_split(matrix):
    frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    return CorrectnessMatrix(frame, matrix.questions.drop(columns="split"), matrix.embeddings, models=matrix.models)


class TestRoundTrip:
    @pytest.mark.parametrize("compressed", [False, True], ids=["csv", "gz"])
    @pytest.mark.parametrize("unnamed_index", [False, True], ids=["no index", "unnamed index"])
    @pytest.mark.parametrize("windows", [False, True], ids=["utf-8", "BOM and CRLF"])
    def test_one_file(self, tmp_path, rich, write_long_form, assert_same, compressed, unnamed_index, windows):
        form = {"compressed": compressed, "unnamed_index": unnamed_index, "windows": windows}
        read = read_long_form(write_long_form(tmp_path, rich, **form))
        assert_same(read, without_split(rich))
        assert read.report_["what"].tolist() == ["rows read"]

    @pytest.mark.parametrize("compressed", [False, True], ids=["csv", "gz"])
    @pytest.mark.filterwarnings("ignore:the source's own split")  # two of its prompts are equal
    def test_split_of_the_source(self, tmp_path, rich, write_long_form, assert_same, compressed):
        read = read_long_form(write_long_form(tmp_path, rich, by_split=True, compressed=compressed))
        assert_same(read, rich)
        for left, right in zip(read.split(), rich.split(), strict=True):
            assert_same(left, right)

    def test_order_of_the_rows_changes_nothing(self, tmp_path, rich, write_long_form, assert_same):
        first, second = (read_long_form(write_long_form(tmp_path / str(s), rich, seed=s)) for s in (1, 2))
        assert_same(first, second)

    @pytest.mark.parametrize("rows", [1, 2, 7, 10_000])
    def test_chunk_boundaries_change_nothing(self, tmp_path, rich, write_long_form, assert_same, monkeypatch, rows):
        folder = write_long_form(tmp_path, rich, by_split=True)
        monkeypatch.setattr(tables, "_ROWS", rows)
        assert_same(read_long_form(folder), rich)

    def test_categories_may_stand_in_the_answers_only(self, tmp_path, rich, write_long_form, write_csv):
        folder = write_long_form(tmp_path, rich)
        write_csv(folder / "question_order.csv", [["prompt_id"], *([name] for name in rich.question_ids)])
        read = read_long_form(folder)
        assert list(read.benchmarks) == list(rich.benchmarks)
        np.testing.assert_array_equal(read.labels, rich.labels)

    def test_embeddings_as_a_tensor(self, tmp_path, rich, write_long_form, assert_same):
        folder = write_long_form(tmp_path, rich)
        (folder / "question_embeddings.npy").unlink()
        torch.save(torch.tensor(rich.embeddings), folder / "question_embeddings.pth")
        assert_same(read_long_form(folder), without_split(rich))

    def test_unanswered_question_is_left_out_and_counted(self, tmp_path, rich, write_long_form, assert_same):
        labels = rich.labels.copy()
        labels[:, [4, 20]] = -1
        matrix = rich.with_labels(labels)
        read = read_long_form(write_long_form(tmp_path, matrix, by_split=True))
        assert_same(read, matrix.subset(questions=np.delete(rich.question_ids, [4, 20])))
        assert read.report_.to_numpy().tolist()[:-1] == [["questions without an answer", 2, "left out"]]

    def test_unfinished_run_is_not_observed(self, tmp_path, rich, write_long_form):
        labels = rich.labels.copy()
        labels[2, 30:] = -1
        read = read_long_form(write_long_form(tmp_path, rich.with_labels(labels)))
        assert read.accuracy(by="model").loc["nan", "n_observed"] == (labels[2] != -1).sum()
        assert not read.observed[2, 30:].any()


class TestWhatTheFolderKeeps:
    def test_costs_of_observed_answers(self, tmp_path, rich, assert_same):
        costs = pd.DataFrame(np.random.default_rng(0).random(rich.labels.shape), rich.model_names, rich.question_ids)
        costs.iloc[:, ::3] = np.nan
        labels = pd.DataFrame(rich.labels, rich.model_names, rich.question_ids)
        for unit in ("US dollars", "tokens"):
            matrix = CorrectnessMatrix(
                labels, rich.questions, rich.embeddings, rich.models, costs=costs.where(labels != -1), cost_unit=unit
            )
            write_folder(matrix, tmp_path / unit)
            assert_same(read_long_form(tmp_path / unit), matrix)

    def test_encoder(self, tmp_path, rich):
        named = rich._with(encoder=EncoderName("org/encoder", "0" * 64))
        write_folder(named, tmp_path / "named")
        assert read_long_form(tmp_path / "named").encoder == named.encoder
        write_folder(rich, tmp_path / "not named")
        assert read_long_form(tmp_path / "not named").encoder is None
        (tmp_path / "named" / "encoder.json").write_text('{"name": 3}')
        with pytest.raises(ValueError, match=r"encoder\.json must hold name and fingerprint of an encoder: correct or"):
            read_long_form(tmp_path / "named")


class TestMalformed:
    @pytest.mark.parametrize("chunk", [1, 1000])
    def test_question_in_two_splits(self, tmp_path, rich, write_long_form, monkeypatch, chunk):
        folder = write_long_form(tmp_path, rich, by_split=True)
        monkeypatch.setattr(tables, "_ROWS", chunk)
        val, test = (pd.read_csv(folder / f"{part}.csv", dtype=str, keep_default_na=False) for part in ("val", "test"))
        pd.concat([test, val[:1]]).to_csv(folder / "test.csv", index=False)
        message = rf"test\.csv: question '{val['prompt_id'][0]}' belongs to split 'test' here, and to 'val'"
        with pytest.raises(ValueError, match=message):
            read_long_form(folder)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "correctness.csv",
                r"must hold correctness\.csv, or train\.csv, val\.csv and test\.csv .*; of these it holds \[\]",
            ),
            ("model_order.csv", r"model_order\.csv is missing: it gives the order of the model_names"),
            ("question_order.csv", r"question_order\.csv is missing: it gives the order of the prompt_ids"),
            ("question_embeddings.npy", r"question_embeddings\.npy is missing: one row of floats for each row"),
        ],
    )
    def test_missing_file(self, tmp_path, toy, write_long_form, name, message):
        folder = write_long_form(tmp_path, toy)
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=message):
            read_long_form(folder)

    def test_missing_part_of_a_split(self, tmp_path, rich, write_long_form):
        folder = write_long_form(tmp_path, rich, by_split=True)
        (folder / "val.csv").unlink()
        with pytest.raises(FileNotFoundError, match=r"it holds \['test\.csv', 'train\.csv'\]"):
            read_long_form(folder)

    def test_both_forms_at_once(self, tmp_path, rich, write_long_form):
        write_long_form(tmp_path, rich)
        folder = write_long_form(tmp_path, rich, by_split=True)
        with pytest.raises(
            FileNotFoundError, match=r"it holds \['correctness\.csv', 'test\.csv', 'train\.csv', 'val\.csv'\]"
        ):
            read_long_form(folder)

    def test_pickles_are_never_loaded(self, tmp_path, toy, write_long_form):
        folder = write_long_form(tmp_path, toy)
        np.save(folder / "question_embeddings.npy", np.array([{}] * 40, dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match="Python objects"):
            read_long_form(folder)
        (folder / "question_embeddings.npy").unlink()
        torch.save({"vectors": _Code()}, folder / "question_embeddings.pth")
        with pytest.raises(ValueError, match="holds objects other than tensors, which are never loaded"):
            read_long_form(folder)


class _Code:
    """Not a tensor: loading it would run its code."""


class TestSplitFiles:
    def test_model_missing_from_one_file(self, tmp_path, rich, write_long_form, write_csv):
        folder = write_long_form(tmp_path, rich, by_split=True)
        val = pd.read_csv(folder / "val.csv", dtype=str, keep_default_na=False)
        left = val[val["model_name"] != "NA"]
        write_csv(folder / "val.csv", [list(left), *left.to_numpy().tolist()])
        with pytest.raises(
            ValueError, match=r"val\.csv: no answer of model 'NA', which model_order lists: add its rows"
        ):
            read_long_form(folder)

    def test_file_without_a_row(self, tmp_path, rich, write_long_form):
        folder = write_long_form(tmp_path, rich, by_split=True)
        (folder / "test.csv").write_text((folder / "test.csv").read_text(encoding="utf-8").splitlines()[0] + "\n")
        with pytest.raises(ValueError, match=r"test\.csv: no answer in it"):
            read_long_form(folder)

    def test_column_that_disagrees_with_the_files(self, tmp_path, rich, write_long_form):
        folder = write_long_form(tmp_path, rich, by_split=True)
        table = pd.read_csv(folder / "question_order.csv", dtype=str, keep_default_na=False)
        table["split"] = "train"
        table.to_csv(folder / "question_order.csv", index=False)
        with pytest.raises(ValueError, match=r"val\.csv: question '\d+' belongs to split 'val' here, and to 'train'"):
            read_long_form(folder)


class TestZeroEval:
    """Numbers of the README that comes with the data."""

    def test_size(self, zeroeval):
        assert zeroeval.labels.shape == (56, 3352)
        assert zeroeval.observed.sum() == 133_498
        assert zeroeval.embeddings.shape == (3352, 768)
        assert zeroeval.questions["benchmark"].value_counts().to_dict() == {
            "gsm": 1319,
            "math-l5": 721,
            "crux": 800,
            "numersense-v2": 512,
        }
        assert zeroeval.report_.to_numpy().tolist() == [["rows read", 133_498, "= 133,498 cells"]]
        assert zeroeval.models["params_b"].isna().sum() == 35
        assert zeroeval.accuracy()["accuracy"].item() == pytest.approx(0.689, abs=5e-4)

    @pytest.mark.parametrize(
        ("model", "benchmark", "percent", "answers"),
        [
            ("claude-3-5-sonnet-20240620", "numersense-v2", 80.7, 512),
            ("gemma-2-2b-it", "math-l5", 4.3, 721),
            ("o1-mini-2024-09-12", "crux", 93.8, 800),
            ("gemini-1.5-flash-exp-0827", "gsm", 95.0, 681),
            ("Llama-3.1-405B-Inst@hyperbolic", "math-l5", 51.6, 706),
        ],
    )
    def test_accuracy_of_a_model(self, zeroeval, model, benchmark, percent, answers):
        row = zeroeval.accuracy(by=["model", "benchmark"]).loc[(model, benchmark)]
        assert row["accuracy"] * 100 == pytest.approx(percent, abs=0.051)
        assert row["n_observed"] == answers

    def test_model_that_was_not_run_is_not_observed(self, zeroeval):
        row = zeroeval.accuracy(by=["model", "benchmark"]).loc[("command-r", "crux")]
        assert np.isnan(row["accuracy"])
        assert row["n_observed"] == 0


def test_no_partial_folder_is_written(tmp_path, rich, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("numpy.save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_folder(rich, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class TestWrite:
    def test_metadata_of_questions_is_kept(self, tmp_path, rich):
        questions = rich.questions.assign(difficulty=[str(number) for number in range(40)])
        labels = pd.DataFrame(rich.labels, rich.model_names, rich.question_ids)
        matrix = CorrectnessMatrix(labels, questions, rich.embeddings, models=rich.models)
        write_folder(matrix, tmp_path / "out")
        assert read_long_form(tmp_path / "out").questions["difficulty"].tolist() == questions["difficulty"].tolist()

    @pytest.mark.parametrize(
        ("models", "questions", "message"),
        [
            (["A", "B"], {"split": ["train", None]}, r"out/question_order\.csv, row 2: split '' is none of train"),
            (["A", "B"], {"prompt_id": [1, 2]}, r"the index as column 'prompt_id', and there is such a column already"),
        ],
    )
    def test_what_could_not_be_read_back_is_refused(self, tmp_path, matrix_of, models, questions, message):
        matrix = matrix_of([[1, 0], [0, 1]], models, **questions)
        with pytest.raises(ValueError, match=message):
            write_folder(matrix, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


class TestEmbeddingsMappedToMemory:
    """They may be larger than the memory, so nothing on the way to a fit may copy them as a whole."""

    @staticmethod
    def mapped(matrix):
        return isinstance(matrix.embeddings.base, np.memmap)

    def test_stay_a_file(self, tmp_path, toy, write_long_form):
        matrix = load_dataset(write_long_form(tmp_path, toy))
        assert self.mapped(matrix) and not matrix.embeddings.flags.writeable
        np.testing.assert_array_equal(matrix.embeddings, toy.embeddings)

    def test_runs_of_questions_are_views(self, tmp_path, toy, write_long_form):
        matrix = load_dataset(write_long_form(tmp_path, toy))
        part = matrix.subset(models=toy.model_names[::-1], questions=toy.question_ids[7:20])
        assert np.shares_memory(part.embeddings, matrix.embeddings)
        np.testing.assert_array_equal(part.embeddings, toy.embeddings[7:20])
        assert not np.shares_memory(matrix.subset(questions=toy.question_ids[::2]).embeddings, matrix.embeddings)

    def test_fit_and_predict_the_same(self, tmp_path, toy, write_long_form):
        matrix = load_dataset(write_long_form(tmp_path, toy))
        # A choice of alpha would depend on the prompts, which the toy does not have.
        for predictor in (MatrixFactorization(dim=4, alpha=0.1), KNNCorrectness(5)):
            expected = predictor.fit(toy).predict_proba(toy.embeddings)
            np.testing.assert_array_equal(predictor.fit(matrix).predict_proba(matrix.embeddings), expected)

    @pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
    def test_other_types_are_read(self, tmp_path, toy, write_long_form, dtype):
        folder = write_long_form(tmp_path, toy)
        np.save(folder / "question_embeddings.npy", toy.embeddings.astype(dtype))
        matrix = load_dataset(folder)
        assert matrix.embeddings.dtype == np.float32 and not self.mapped(matrix)
        np.testing.assert_allclose(matrix.embeddings, toy.embeddings, rtol=1e-3)
