"""What is no file of data, and what exceeds the limits, is refused at once by every reader of every file."""

import gzip
import os
import subprocess
import sys
import time
import zipfile
from threading import Timer

import numpy as np
import pandas as pd
import pytest
import torch
from import_helpers import put

from embedllm import CorrectnessMatrix, MatrixFactorization, Router, load_dataset, reading_limits
from embedllm.datasets.encoder import find_encoder
from embedllm.datasets.formats import _tables
from embedllm.datasets.formats._tables import read_rows, read_table
from embedllm.datasets.formats.mmlu_pro import read_mmlu_pro
from embedllm.datasets.formats.zeroeval import read_zeroeval
from embedllm.datasets.importers import (
    import_every_eval_ever,
    import_lm_eval,
    import_long,
    import_resolved,
    import_wide,
)
from embedllm.datasets.recognize import import_auto

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 2700000000\n"
HEADER = b"prompt_id,model_name,category,label,prompt\n"


def long_file(folder):
    import_long(folder / "answers.csv.gz", folder / "out")


def long_folder(folder):
    for name in ("train", "val"):
        put(folder / f"{name}.csv", "prompt_id,model_name,category,label,prompt\n1,A,c,1,p\n")
    import_long(folder, folder / "out")


def wide(folder):
    import_wide(folder / "table.parquet", folder / "out")


def auto(folder):
    import_auto(folder / "table.csv", folder / "out")


def resolved(folder):
    put(folder / "q.csv", "prompt_id,prompt\ni-0,p\n")
    import_resolved(folder / "board", folder / "out", questions=folder / "q.csv")


def questions(folder):
    put(folder / "board" / "A.json", [])
    import_resolved(folder / "board", folder / "out", questions=folder / "q.jsonl")


def mmlu_pro(folder):
    read_mmlu_pro([folder / "model_outputs_A_5shots.zip"])


def zeroeval(folder):
    read_zeroeval([folder / "gsm" / "A.json"])


def every_eval_ever(folder):
    import_every_eval_ever(folder / "data", folder / "out")


def lm_eval(folder):
    import_lm_eval(folder / "logs", folder / "out")


def embeddings(folder):
    put(folder / "pool" / "correctness.csv", HEADER + b"1,A,c,1,p\n")
    put(folder / "pool" / "model_order.csv", "model_name\nA\n")
    put(folder / "pool" / "question_order.csv", "prompt_id\n1\n")
    load_dataset(folder / "pool")


def matrix(folder):
    CorrectnessMatrix.load(folder / "matrix.npz")


def fit(folder):
    MatrixFactorization.load(folder / "fit.safetensors")


def authors(folder):
    MatrixFactorization.from_authors(folder / "model.pth", ["A"])


def router(folder):
    Router.load(folder / "router")


def encoder(folder):
    put(folder / "encoder" / "modules.json", [])
    find_encoder(folder / "encoder")


CASES = {
    "answers.csv.gz": long_file,
    "test.csv": long_folder,
    "table.parquet": wide,
    "table.csv": auto,
    "board/A.json": resolved,
    "board/A.txt": resolved,
    "q.jsonl": questions,
    "model_outputs_A_5shots.zip": mmlu_pro,
    "gsm/A.json": zeroeval,
    "data/t/org/A/u_samples.jsonl.gz": every_eval_ever,
    "logs/A/samples_t_2024-07-01T12-30-45.jsonl": lm_eval,
    "pool/question_embeddings.npy": embeddings,
    "pool/question_embeddings.pth": embeddings,
    "matrix.npz": matrix,
    "fit.safetensors": fit,
    "model.pth": authors,
    "router/router.json": router,
    "encoder/model.safetensors": encoder,
}
NAMES = pytest.mark.parametrize("name", CASES)


@NAMES
def test_pointer_is_named(tmp_path, encoded, name):
    put(tmp_path / name, POINTER)
    with pytest.raises(ValueError, match=r"is a Git LFS pointer, not the data: run `git lfs pull` in its") as caught:
        CASES[name](tmp_path)
    assert f"{tmp_path / name} is" in str(caught.value)
    assert encoded == []


@NAMES
def test_pipe_and_circle_of_links(tmp_path, encoded, name):
    """Reading a pipe that nobody writes to would wait for ever."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"is a pipe, a socket or a device|holds no weights"):
        CASES[name](tmp_path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises((ValueError, OSError), match=r"Too many levels of symbolic links|holds no weights"):
        CASES[name](tmp_path)
    assert encoded == []


@pytest.mark.parametrize("name", list(CASES)[:-1])  # the weights of an encoder may have any size
@pytest.mark.parametrize("start", [b"", HEADER + b"1,A,c,1,p\n"], ids=["zeros", "header"])
def test_sparse_file_of_5_gb(tmp_path, encoded, name, start):
    path = tmp_path / name
    put(path, start)
    os.truncate(path, 5 << 30)
    began = time.process_time()
    with pytest.raises((ValueError, OSError), match=r"\S"):
        CASES[name](tmp_path)
    assert encoded == []
    assert time.process_time() - began < 10


def test_field_of_a_compressed_table(tmp_path):
    """120 MB in 120 kB."""
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(HEADER + b"1,A,c,1,")
        for _ in range(120):
            stream.write(b"x" * 1_000_000)
    with pytest.raises(
        ValueError, match=r"t\.csv\.gz: it expands to more than 200 times its own bytes: .* --limit ratio="
    ):
        read_table(path)
    with reading_limits(ratio=2000), pytest.raises(ValueError, match="a row or a line of more than 33,554,432 bytes"):
        read_table(path)
    with (
        reading_limits(ratio=2000, expanded=50_000_000),
        pytest.raises(ValueError, match="to more than 50,000,000 byt"),
    ):
        read_table(path)
    with reading_limits(ratio=2000, row=1 << 28):
        assert len(read_table(path)["prompt"][0]) == 120_000_000


def test_process_ends_after_an_error(tmp_path):
    """Arrow's thread, which reads ahead, is waited for while there is a Python to wait for it."""
    put(tmp_path / "t.csv", b"prompt_id,prompt\n1,p\n")
    os.truncate(tmp_path / "t.csv", 1 << 30)
    code = "import sys; from pathlib import Path; from embedllm.datasets.formats._tables import read_table\n"
    code += "try: read_table(Path(sys.argv[1]))\nexcept ValueError: print('refused')"
    for _ in range(2):
        command = [sys.executable, "-c", code, tmp_path / "t.csv"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stdout) == (0, "refused\n"), run.stderr


def test_read_ends_when_nobody_holds_the_stream_any_more(tmp_path, monkeypatch):
    """However it ends: a thread of Arrow that is the last to hold it may outlive the process's Python."""
    lent, events = _tables._lent, []

    def held_for_a_while(stream):
        file, released = lent(stream)
        events.append(released)
        holding = [stream]
        Timer(0.2, holding.clear).start()
        return file, released

    monkeypatch.setattr(_tables, "_lent", held_for_a_while)
    rows = b"".join(b"%d,some text\n" % number for number in range(200_000))
    for name, content in {"whole": rows, "long row": b"1," + bytes(1 << 26), "short row": rows + b"1\n" + rows}.items():
        put(tmp_path / f"{name}.csv", b"prompt_id,prompt\n" + content)
    assert len(read_table(tmp_path / "whole.csv")) == 200_000
    assert events.pop().is_set()
    for name in ("long row", "short row"):
        with pytest.raises(ValueError, match=name):
            read_table(tmp_path / f"{name}.csv")
        assert events.pop().is_set()
    put(tmp_path / "bomb.csv.gz", gzip.compress(b"prompt_id,prompt\n" + b"1,some text\n" * 8_000_000, 9))
    with pytest.raises(ValueError, match=r"bomb\.csv\.gz: it expands to more than"):  # raised while Arrow reads
        read_table(tmp_path / "bomb.csv.gz")
    assert events.pop().is_set()
    begun = read_rows(tmp_path / "whole.csv", ["prompt"])
    next(begun)
    begun.close()
    assert events.pop().is_set()


def test_texts_of_a_parquet(tmp_path):
    """Which holds a text of many rows once."""
    table = pd.DataFrame({"a": pd.Categorical(["x" * 1_000_000] * 40), "b": ["y", None] * 20, "c": range(40)})
    for name, each in (("plain", table.astype({"a": str})), ("categories", table)):
        each.to_parquet(path := tmp_path / f"{name}.parquet")
        assert path.stat().st_size < 3_000_000
        found = read_table(path)
        assert (found["a"] == "x" * 1_000_000).all() and found["c"].tolist() == [str(n) for n in range(40)]
        assert found["b"].tolist() == ["y", ""] * 20
        for limits, what in ({"expanded": 20_000_000}, "expands to"), ({"row": 900_000}, "a row or a line"):
            with reading_limits(**limits), pytest.raises(ValueError, match=f"{name}.parquet: .*{what}"):
                read_table(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "not JSON"),
        (b'[{"a": ' + b"[" * 900 + b"]" * 900 + b"}]", "lists and objects in each other, more than 100 deep"),
        (b"[" + b"[]," * 3_000_000 + b"1]", "would take more than 536,870,912 bytes of memory"),
        (b'["' + "🙂".encode() + b" " * 60_000_000 + b'"]', "would take more than 536,870,912 bytes of memory"),
    ],
    ids=["unclosed", "deep", "many", "wide characters"],
)
def test_json(tmp_path, data, message):
    put(tmp_path / "gsm" / "A.json", data)
    with pytest.raises(ValueError, match=f"A.json.* {message}"):
        read_zeroeval([tmp_path / "gsm" / "A.json"])


def test_deep_json_within_a_raised_limit(tmp_path):
    put(tmp_path / "gsm" / "A.json", b"[{}, " + b"[" * 200 + b"]" * 200 + b"]")
    with reading_limits(depth=201), pytest.raises(ValueError, match="entry 1 has no 'id'"):
        read_zeroeval([tmp_path / "gsm" / "A.json"])


def test_answers_that_fill_no_matrix(tmp_path, encoded):
    """Such as numbers of rows in place of the names of models."""
    put(tmp_path / "t.csv", HEADER + b"".join(b"q%d,m%d,c,1,p%d\n" % (n, n, n) for n in range(20_000)))
    with pytest.raises(
        ValueError, match="20,000 models x 20,000 questions with only 20,000 answers: what is read would"
    ):
        import_long(tmp_path / "t.csv", tmp_path / "out")


def test_columns(tmp_path, encoded):
    put(tmp_path / "t.csv", ",".join(f"c{n}" for n in range(100_000)) + "\n")
    with pytest.raises(ValueError, match=r"t\.csv: more than 10,000 columns"):
        import_wide(tmp_path / "t.csv", tmp_path / "out")


def test_archive_that_expands(tmp_path):
    with zipfile.ZipFile(tmp_path / "matrix.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(40_000_000))
    with pytest.raises(ValueError, match="it expands to more than 200 times its own bytes"):
        matrix(tmp_path)


def test_tensor_of_one_number(tmp_path):
    """A few hundred bytes that would become 4 GB."""
    state = {"P.weight": torch.ones(1).expand(1 << 20, 1 << 10)}
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"it holds no P\.weight, a dense tensor"):
        authors(tmp_path)
    put(tmp_path / "pool" / "x", b"")
    torch.save(state["P.weight"], tmp_path / "pool" / "question_embeddings.pth")
    with pytest.raises(ValueError, match="it holds no dense tensor of floating-point numbers with two dimensions"):
        embeddings(tmp_path)


def test_embeddings_of_any_width(tmp_path):
    path = tmp_path / "pool" / "question_embeddings.npy"
    put(path, b"")
    with path.open("wb") as stream:
        header = {"descr": "<f8", "fortran_order": False, "shape": (1, 5 << 27)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + (5 << 30))
    with pytest.raises(ValueError, match="a row or a line of more than"):
        embeddings(tmp_path)


@pytest.mark.parametrize("limits", [{"rows": 1}, {"row": 0}, {"depth": -1}])
def test_no_such_limit(limits):
    with pytest.raises(ValueError, match="a limit must be one of row, columns, memory"), reading_limits(**limits):
        pass


def test_limits_end_with_their_block(tmp_path):
    put(path := tmp_path / "t.csv", b"a\n" + b"x" * 100 + b"\n")
    with reading_limits(row=50), pytest.raises(ValueError, match="more than 50 bytes"):
        with reading_limits(row=1000):
            assert len(read_table(path)) == 1
        read_table(path)
    assert read_table(path)["a"].tolist() == ["x" * 100]
