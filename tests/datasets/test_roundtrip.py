"""Any matrix, written in any form that the package reads, comes back equal, cell by cell."""

import csv
import gzip
import io
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedllm import CorrectnessMatrix, load_dataset, write_long_form
from embedllm.datasets.formats.answers import benchmark_of

SPELLINGS = {1: ["1", "1.0", "true", "True", "TRUE", " 1 "], 0: ["0", "0.0", "false", "False", "FALSE", " 0"]}

texts = st.text(st.characters(codec="utf-8"), max_size=30)
odd = st.sampled_from(
    ["NA", "null", "nan", "N/A", "None", "007", "7", "-1", "1e3", "a,b", 'q"q', "two\nlines", "x\r\ny", "模"]
)
names = st.one_of(odd, texts).filter(lambda name: name.strip() and name != "overall")


@dataclass
class Form:
    """How a folder is written."""

    kind: str  # csv, csv.gz, parquet
    windows: bool  # byte order mark and CRLF
    unnamed_index: bool
    own_split: str  # in files, in a column, not at all
    category_in: str  # answers, question_order
    tensor: bool  # embeddings as .pth
    seed: int


forms = st.builds(
    Form,
    kind=st.sampled_from(["csv", "csv.gz", "parquet"]),
    windows=st.booleans(),
    unnamed_index=st.booleans(),
    own_split=st.sampled_from(["files", "column", "none"]),
    category_in=st.sampled_from(["answers", "question_order"]),
    tensor=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)


@st.composite
def matrices(draw):
    model_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    ids = draw(st.lists(names, min_size=3, max_size=8, unique=True))
    shape = (len(model_names), len(ids))
    cells = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    labels = np.array(cells).reshape(shape)
    # Each question has an answer, and each model one in each part of the split.
    labels[0, labels.max(axis=0) < 0] = 0
    split = np.array([("train", "val", "test")[number % 3] for number in range(len(ids))])
    labels[:, :3] = np.where(labels[:, :3] < 0, 1, labels[:, :3])
    questions = pd.DataFrame(
        {
            "benchmark": draw(st.lists(names, min_size=len(ids), max_size=len(ids))),
            "prompt": draw(st.lists(texts, min_size=len(ids), max_size=len(ids))),
            "split": split,
        },
        index=ids,
    )
    questions["category"] = questions["benchmark"]
    questions["benchmark"] = questions["category"].map(benchmark_of)  # some names mean one of the ten
    embeddings = np.random.default_rng(0).standard_normal((len(ids), 3)).astype(np.float32)
    return CorrectnessMatrix(pd.DataFrame(labels, model_names, ids), questions, embeddings)


def write_table(path: Path, form: Form, columns: dict[str, list], rng: random.Random) -> None:
    """Write columns in random order, by the csv module or pandas."""
    order = rng.sample(list(columns), len(columns))
    if form.kind == "parquet":
        pd.DataFrame({name: columns[name] for name in order}, dtype=object).to_parquet(f"{path}.parquet")
        return
    if form.unnamed_index:
        columns, order = {"": list(range(len(columns[order[0]]))), **columns}, ["", *order]
    text = io.StringIO()
    # A row that is one empty field would be an empty line.
    writer = csv.writer(text, lineterminator="\r\n" if form.windows else "\n", quoting=csv.QUOTE_ALL)
    writer.writerows([order, *zip(*(columns[name] for name in order), strict=True)])
    data = text.getvalue().encode("utf-8-sig" if form.windows else "utf-8")
    Path(f"{path}.{form.kind}").write_bytes(gzip.compress(data) if form.kind == "csv.gz" else data)


def write_folder(folder: Path, matrix: CorrectnessMatrix, form: Form, n_duplicates: int) -> None:
    rng = random.Random(form.seed)
    rows = [
        (question, model, matrix.labels[m, q], matrix.questions["category"].iat[q], matrix.questions["split"].iat[q])
        for m, model in enumerate(matrix.model_names)
        for q, question in enumerate(matrix.question_ids)
        if matrix.labels[m, q] != -1
    ]
    rows += rng.choices(rows, k=n_duplicates)
    rng.shuffle(rows)
    parts = {"correctness": rows}
    if form.own_split == "files":
        parts = {part: [row for row in rows if row[4] == part] for part in ("train", "val", "test")}
    for stem, part in parts.items():
        columns = {
            "prompt_id": [row[0] for row in part],
            "model_name": [row[1] for row in part],
            "label": [rng.choice(SPELLINGS[row[2]]) for row in part],
            "more": ["x"] * len(part),
        }
        if form.category_in == "answers":
            columns["category"] = [row[3] for row in part]
        write_table(folder / stem, form, columns, rng)
    questions = {"prompt_id": list(matrix.question_ids), "prompt": matrix.questions["prompt"].tolist()}
    if form.category_in == "question_order":
        questions["category"] = matrix.questions["category"].tolist()
    if form.own_split == "column":
        questions["split"] = matrix.questions["split"].tolist()
    write_table(folder / "question_order", form, questions, rng)
    write_table(folder / "model_order", form, {"model_name": list(matrix.model_names)}, rng)
    if form.tensor:
        torch.save(torch.tensor(matrix.embeddings), folder / "question_embeddings.pth")
    else:
        np.save(folder / "question_embeddings.npy", matrix.embeddings)


def check(read: CorrectnessMatrix, written: CorrectnessMatrix, columns: list[str]) -> None:
    assert read.labels.dtype == np.int8
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.embeddings, written.embeddings)
    assert read.model_names.tolist() == written.model_names.tolist()
    assert read.question_ids.tolist() == written.question_ids.tolist()
    for column in columns:
        assert read.questions[column].tolist() == written.questions[column].tolist()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(matrix=matrices(), form=forms, n_duplicates=st.integers(0, 12))
def test_any_matrix_in_any_form(matrix, form, n_duplicates):
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), matrix, form, n_duplicates)
        read = load_dataset(folder)
    check(read, matrix, ["benchmark", "category", "prompt"] + (["split"] if form.own_split != "none" else []))
    counts = dict(zip(read.report_["what"], read.report_["count"], strict=True))
    rows = {"rows read": int(matrix.observed.sum()) + n_duplicates}
    assert counts == ({"duplicated rows": n_duplicates} if n_duplicates else {}) | rows


@settings(max_examples=50, deadline=None)
@given(matrix=matrices())
def test_what_the_package_writes_it_reads(matrix):
    with tempfile.TemporaryDirectory() as folder:
        write_long_form(matrix, Path(folder) / "written")
        check(load_dataset(Path(folder) / "written"), matrix, ["benchmark", "category", "prompt", "split"])


cell_labels = st.lists(st.integers(0, 1), max_size=6)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(cell_labels, min_size=3, max_size=3), min_size=2, max_size=2), seed=st.integers(0, 999))
def test_rules_for_duplicates_against_their_definitions(rows, seed):
    """`rows[m][q]` are the labels of a cell, in the order of the file."""
    rows[0][0] = [*rows[0][0], 1]  # something is observed
    flat = [[q, m, position, label] for m in range(2) for q in range(3) for position, label in enumerate(rows[m][q])]
    # Shuffle, but keep the order within a cell.
    slots = random.Random(seed).sample(range(len(flat)), len(flat))
    flat = sorted(flat, key=lambda row: (row[2], slots[flat.index(row)]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(f"{q},m{m},{label}\n" for q, m, _, label in flat)
        (folder / "correctness.csv").write_text("prompt_id,model_name,label\n" + lines)
        (folder / "model_order.csv").write_text("model_name\nm0\nm1\n")
        (folder / "question_order.csv").write_text("prompt_id,category\n" + "".join(f"{q},c\n" for q in range(3)))
        np.save(folder / "question_embeddings.npy", np.eye(3))
        read = {rule: load_dataset(folder, duplicates=rule) for rule in ("majority", "any", "last", "rows")}

    for m in range(2):
        for q in range(3):
            labels = rows[m][q]
            if not any(rows[other][q] for other in range(2)):
                continue
            expected = {
                "majority": -1 if 2 * sum(labels) == len(labels) else int(2 * sum(labels) > len(labels)),
                "any": max(labels, default=-1),
                "last": labels[-1] if labels else -1,
            }
            for rule, label in expected.items():
                frame = pd.DataFrame(read[rule].labels, read[rule].model_names, read[rule].question_ids)
                assert frame.at[f"m{m}", str(q)] == label, rule
            copies = [str(q), *(f"{q} (row {number})" for number in range(2, 9))]
            frame = pd.DataFrame(read["rows"].labels, read["rows"].model_names, read["rows"].question_ids)
            spread = [frame.at[f"m{m}", name] for name in copies if name in frame]
            assert [label for label in spread if label != -1] == labels
            assert spread[: len(labels)] == labels
    n_duplicates = sum(max(0, len(labels) - 1) for model in rows for labels in model)
    for matrix in read.values():
        counts = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
        assert counts.get("duplicated rows", 0) == n_duplicates
        # Copies of a question share its embedding.
        origin = [int(name.partition(" ")[0]) for name in matrix.question_ids]
        np.testing.assert_array_equal(matrix.embeddings, np.eye(3, dtype=np.float32)[origin])
