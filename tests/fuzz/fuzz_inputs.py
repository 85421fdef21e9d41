"""Damaged and hostile inputs by the thousand: an error in one line that names the file, or a result, and nothing else.

`make fuzz` runs it; the name keeps it out of `make test`.
"""

import functools
import gzip
import io
import json
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from embedllm import CorrectnessMatrix, MatrixFactorization, load_dataset
from embedllm.__main__ import main
from embedllm.datasets.formats.every_eval_ever import read_every_eval_ever
from embedllm.datasets.formats.lm_eval import read_lm_eval
from embedllm.datasets.formats.long import write_long_form
from embedllm.datasets.formats.mmlu_pro import read_mmlu_pro
from embedllm.datasets.formats.resolved_lists import read_resolved
from embedllm.datasets.formats.wide import read_wide
from embedllm.datasets.formats.zeroeval import read_zeroeval
from embedllm.datasets.recognize import recognize
from embedllm.predictors.router_files import describe

fuzz = settings(
    max_examples=4_000,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
DATE = "2024-07-01T12-30-45.123456"


def lines(*objects):
    return "".join(json.dumps(each) + "\n" for each in objects).encode()


SAMPLE = {
    "doc_id": 0, "doc": {"question": "q?"}, "target": "1", "arguments": {"gen_args_0": {"arg_0": "q?", "arg_1": " a"}},
    "filter": "none", "metrics": ["acc"], "doc_hash": "h", "prompt_hash": "p", "target_hash": "t", "acc": 1.0,
}  # fmt: skip
RECORD = {
    "evaluation_id": "t/m/1", "model_id": "m", "evaluation_name": "t", "sample_id": "1", "input": {"raw": "q?"},
    "evaluation": {"score": 1.0, "is_correct": True}, "metadata": {"filter": "none", "lm_eval_metrics": "{}"},
    "evaluation_result_id": "acc:1", "token_usage": {"total_tokens": 3},
}  # fmt: skip
RESULTS = {"model_name": "m", "config": {"model_args": "pretrained=m,dtype=x", "limit": 2}, "n-shot": {"t": 5}}
AGGREGATE = {
    "evaluation_timestamp": "17", "evaluation_results": [
        {"evaluation_result_id": "acc:1", "metric_config": {"metric_id": "acc", "max_score": 1},
         "source_data": {"additional_details": {"scenario_args": '{"subject": "a"}'}}},
    ],
}  # fmt: skip
GSM = [{"id": "1", "question": "q?", "answer": "3", "output": ['{"answer": "6/2"}']}]
MMLU = [{"question_id": 1, "question": "q", "options": "['a', 'b']", "answer": "A", "pred": "A", "category": "math"}]
REPORT = {"schema_version": 2, "resolved_ids": ["1"], "submitted_ids": ["1", "2"], "error_ids": ["2"]}
WIDE = b"prompt,benchmark,A,A|total_cost,A|model_response\n\"['a', 'b']\",x,1,0.5,r\nq,y,,,\n"
HEADERS = b"prompt_id,model_name,category,label,prompt,cost_usd\n"


def long_rows():
    return HEADERS + b'1,A,c,1,"p, q",0.1\n2,A,c,0,p2,\n1,B,c,true,"p, q",3\n2,B,c,0,p2,1\n'


@functools.cache
def own_files():
    """Files that the package writes, by name."""
    rng, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    ids = [f"q{n}" for n in range(12)]
    questions = pd.DataFrame({"benchmark": ["a", "b"] * 6, "prompt": ids}, ids)
    labels = pd.DataFrame(rng.integers(0, 2, (3, 12)), ["A", "B", "C"], ids)
    matrix = CorrectnessMatrix(labels, questions, rng.standard_normal((12, 4)))
    matrix.save(folder / "matrix.npz")
    for solver in ("exact", "sgd"):
        MatrixFactorization(dim=2, alpha=0.1, solver=solver).fit(matrix).save(folder / f"{solver}.safetensors")
    state = {"P.weight": torch.ones(3, 2), "text_proj.weight": torch.ones(2, 4), "text_proj.bias": torch.ones(2)}
    torch.save(state | {"classifier.weight": torch.ones(2, 2), "classifier.bias": torch.ones(2)}, folder / "model.pth")
    write_long_form(matrix, folder / "pool")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table_of(form):
    frame, stream = pd.read_csv(io.BytesIO(long_rows()), dtype=str, keep_default_na=False), io.BytesIO()
    if form == "parquet":
        frame.to_parquet(stream)
        return stream.getvalue()
    return gzip.compress(long_rows(), mtime=0)


def zipped(entries):
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", json.dumps(entries))
    return stream.getvalue()


def import_long(folder, name):
    from embedllm.datasets.importers import _read_long

    _read_long(folder / name)


def load_matrix(folder, name):
    CorrectnessMatrix.load(folder / name)


def load_fit(folder, name):
    MatrixFactorization.load(folder / name)


def pool(folder, name):
    for other, content in own_files().items():
        if other.startswith("pool/") and not (folder / other).exists():
            put(folder / other, content)
    load_dataset(folder / "pool")


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def logs(folder, name):
    for other, content in ((f"m/samples_t_{DATE}.jsonl", lines(SAMPLE)), (f"m/results_{DATE}.json", lines(RESULTS))):
        if not (folder / other).exists():
            put(folder / other, content)
    read_lm_eval(folder)


def records(folder, name):
    for other, content in (("m/u_samples.jsonl", lines(RECORD)), ("m/u.json", lines(AGGREGATE))):
        if not (folder / other).exists():
            put(folder / other, content)
    read_every_eval_ever(folder)


def lists(folder, name):
    if not (folder / "q.csv").exists():
        put(folder / "q.csv", b"prompt_id,prompt\n1,p\n2,p2\n")
    if "board" not in name:
        put(folder / "board" / "A.run.json", lines(REPORT))
    read_resolved(folder / "board", folder / "q.csv")


def auto(folder, name):
    recognize(folder / name.split("/")[0])


def cases():
    own = own_files()
    return {
        "answers.csv": (long_rows(), import_long),
        "answers.csv.gz": (table_of("gz"), import_long),
        "answers.parquet": (table_of("parquet"), import_long),
        "wide.csv": (WIDE, lambda folder, name: read_wide(folder / name)),
        f"m/samples_t_{DATE}.jsonl": (lines(SAMPLE), logs),
        f"m/results_{DATE}.json": (lines(RESULTS), logs),
        "m/u_samples.jsonl": (lines(RECORD), records),
        "m/u.json": (lines(AGGREGATE), records),
        "gsm/A.json": (lines(GSM), lambda folder, name: read_zeroeval([folder / name])),
        "model_outputs_A_5shots.zip": (zipped(MMLU), lambda folder, name: read_mmlu_pro([folder / name])),
        "board/A.run.json": (lines(REPORT), lists),
        "board/A.txt": (b"1\n2\n", lists),
        "q.csv": (b"prompt_id,prompt\n1,p\n2,p2\n", lists),
        "in/log.json": (b'{"version": 2, "status": "success", "eval": {}}', auto),
        "table.csv": (WIDE, auto),
        "matrix.npz": (own["matrix.npz"], load_matrix),
        "exact.safetensors": (own["exact.safetensors"], load_fit),
        "sgd.safetensors": (own["sgd.safetensors"], load_fit),
        "model.pth": (own["model.pth"], lambda folder, name: MatrixFactorization.from_authors(folder / name, "ABC")),
        "pool/question_order.csv": (own["pool/question_order.csv"], pool),
        "pool/model_order.csv": (own["pool/model_order.csv"], pool),
        "pool/correctness.csv": (own["pool/correctness.csv"], pool),
        "pool/question_embeddings.npy": (own["pool/question_embeddings.npy"], pool),
        "router.json": (lines({"format": 1, "encoder": {}, "weights": {}}), lambda folder, name: describe(folder)),
    }


HOSTILE = [
    b"\0", b"\r", b"\n", b'"', b"\xff", b"\xef\xbb\xbf", b"[" * 2000, b'{"a":' * 150, b"9" * 5000, b"1e999", b"NaN",
    b"\\ud800", b"-1", b"null", b"true", b"[]", b"{}", b'""', b",", b"\xe2\x80\xa8", b"2147483648",
    b"99999999999999999999",
    b"../../x", b"\x1b[2J", b" ",
]  # fmt: skip
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=8))),
    min_size=1,
    max_size=4,
)


def survive(data, name, read):
    """Read a file; what is raised is an error of its content, in one line."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        put(Path(place) / name, data)
        try:
            read(Path(place), name)
        except (ValueError, OSError) as error:
            assert str(error).strip() and "\n" not in str(error), error
            assert "Traceback" not in str(error)


@fuzz
@given(st.sampled_from(list(cases())), edits, st.floats(0.5, 2))
def test_damaged_bytes(name, changes, keep):
    data, read = cases()[name]
    for place, cut, new in changes:
        start = int(place * len(data))
        data = data[:start] + new + data[start + cut :]
    survive(data[: int(keep * len(data))] if keep < 1 else data, name, read)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1", "A", "m", "t"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = {name: json.loads(data) for name, (data, _) in cases().items() if name.endswith((".json", ".jsonl"))}
DOCUMENTS["model_outputs_A_5shots.zip"] = MMLU


def replaced(draw, value, depth=0):
    """A document with a value in it exchanged for any other, or left out."""
    if not isinstance(value, (dict, list)) or not value or (depth and draw(st.integers(0, 3)) == 0):
        return draw(values)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = draw(st.sampled_from(list(keys)))
    if isinstance(value, dict) and draw(st.integers(0, 7)) == 0:
        return {other: each for other, each in value.items() if other != key}
    new = replaced(draw, value[key], depth + 1)
    if isinstance(value, dict):
        return value | {key: new}
    return [new if place == key else each for place, each in enumerate(value)]


@fuzz
@given(st.sampled_from(list(DOCUMENTS)), st.data(), st.integers(1, 3))
def test_other_values(name, data, times):
    document = DOCUMENTS[name]
    for _ in range(times):
        document = replaced(data.draw, document)
    content = zipped(document) if name.endswith(".zip") else lines(document)
    survive(content, name, cases()[name][1])


cells = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["1", "0", "", "NaN", "1.0", "TRUE", "inf", "-1", "1e400", "$x$", "<b>", "\x1b[31m", "=1+1", " "]),
)


@fuzz
@given(st.sampled_from(["answers.csv", "wide.csv", "pool/question_order.csv", "pool/model_order.csv"]), st.data())
def test_other_cells(name, data):
    frame = pd.read_csv(io.BytesIO(cases()[name][0]), dtype=str, keep_default_na=False)
    for _ in range(data.draw(st.integers(1, 4))):
        row, column = data.draw(st.integers(0, len(frame) - 1)), data.draw(st.integers(0, frame.shape[1] - 1))
        frame.iat[row, column] = data.draw(cells)
    if data.draw(st.booleans()):
        frame.columns = [data.draw(cells) if data.draw(st.integers(0, 5)) == 0 else name for name in frame]
    stream = io.BytesIO()
    frame.to_csv(stream, index=False)
    survive(stream.getvalue(), name, cases()[name][1])


words = st.sampled_from([
    "import", "auto", "long", "wide", "lm-eval", "resolved", "every-eval-ever", "inspect", "fit", "route", "--out",
    "--strict", "--dry-run", "--duplicates", "--debug", "--limit", "row=9", "--metric", "acc", "--threshold", "0.5",
    "--prompt", "--ignore", "*", "--router", "--dim", "-1", "--alpha", "--seed", "--", "SOURCE", "OUT", "nowhere",
])  # fmt: skip


@settings(fuzz, max_examples=4_000)
@given(
    st.sampled_from(["answers.csv", "wide.csv", "m/u_samples.jsonl", f"m/samples_t_{DATE}.jsonl"]),
    edits,
    st.lists(st.one_of(words, cells), max_size=8),
    st.booleans(),
)
def test_command_line(name, changes, arguments, is_import):
    """One line on stderr, or the usage; what is printed holds no command to a terminal."""
    data = cases()[name][0]
    for place, cut, new in changes:
        start = int(place * len(data))
        data = data[:start] + new + data[start + cut :]
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        put(Path(place) / name, data)
        source = str(Path(place) / name.split("/")[0])
        paths = {"SOURCE": source, "OUT": f"{place}/out"}
        given = [paths.get(word, word) for word in arguments if word != "--debug"]
        if is_import:
            given = ["import", "auto", source, "--out", f"{place}/out", "--dry-run", *given]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(given)
            except SystemExit as error:
                status = error.code
        assert status in (0, 1, 2), (status, given)
        if status == 1:
            assert err.getvalue().startswith("error: ") and err.getvalue().count("\n") == 1, err.getvalue()
            assert "--debug shows the traceback" not in err.getvalue(), err.getvalue()
        if status != 2:
            printed = (out.getvalue() + err.getvalue()).replace("\n", "")
            assert printed.isprintable(), printed
