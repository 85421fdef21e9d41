"""The look-alike of the release has the files, columns, counts, duplicates and conflicts known of the real one."""

import csv
import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from embedllm import load_dataset
from embedllm.datasets.formats.answers import benchmark_of
from embedllm.datasets.lookalike import CATEGORIES, release_categories, write_lookalike
from embedllm.datasets.simulate import simulate_pool

PARTS = ("train", "val", "test")
ROWS = {"train": 34_056, "val": 3_424, "test": 3_469}  # a model, at full scale
PROMPTS = {"train": 29_673, "val": 3_000, "test": 3_000}


@pytest.fixture(scope="module")
def answers(release):
    return {part: pd.read_csv(release / f"{part}.csv") for part in PARTS}


def test_files_and_columns(release):
    assert {path.name for path in release.iterdir()} == {
        "train.csv", "val.csv", "test.csv", "model_order.csv", "question_order.csv", "question_embeddings.pth",
    }  # fmt: skip
    for part in PARTS:
        with (release / f"{part}.csv").open(newline="") as stream:
            assert next(csv.reader(stream)) == [
                "", "prompt_id", "model_id", "model_name", "category_id", "category", "label", "prompt",
            ]  # fmt: skip
    lines = (release / "model_order.csv").read_text().splitlines()
    assert lines[0] == ",model_id,model_name"
    assert len(lines) == 113
    questions = pd.read_csv(release / "question_order.csv")
    assert questions.columns.tolist() == ["prompt_id", "prompt"]  # no unnamed index column
    assert questions["prompt_id"].tolist() == list(range(357))
    assert questions["prompt"].is_unique
    vectors = torch.load(release / "question_embeddings.pth", weights_only=True)
    assert (vectors.shape, vectors.dtype) == ((357, 768), torch.float32)


def test_eighty_categories():
    names = [name for category in CATEGORIES.values() for name in category]
    assert len(set(names)) == len(names) == 80
    assert Counter(benchmark_of(name) for name in names) == {"MMLU": 57, "GPQA": 15} | dict.fromkeys(
        ["ASDiv", "GSM8K", "LogiQA", "MathQA", "MedMCQA", "PIQA", "SocialQA", "TruthfulQA"], 1
    )


@pytest.mark.parametrize("part", PARTS)
def test_counts(answers, part):
    frame = answers[part]
    assert frame["model_name"].nunique() == 112
    assert frame.groupby("model_name").size().unique() == [
        pytest.approx(ROWS[part] / 100, abs=1)
    ]  # the same for every model
    assert frame["prompt_id"].nunique() == pytest.approx(PROMPTS[part] / 100, abs=1)
    assert 550 < frame["prompt"].str.len().mean() < 900
    assert (frame.groupby("category")["category_id"].nunique() == 1).all()


def test_prompts_are_grouped_by_category_and_those_of_mmlu_name_it(release):
    questions = load_dataset(release).questions
    categories = questions["category"].tolist()
    alone = [name for name in categories if not name.startswith("gpqa_")]  # the others have several
    assert len(set(alone)) > 40
    assert len(list(itertools.groupby(alone))) == len(set(alone))
    assert len(list(itertools.groupby(questions["benchmark"]))) == 10
    prompts = pd.read_csv(release / "question_order.csv")["prompt"]
    for category, prompt in zip(categories, prompts, strict=True):
        subject = category.removeprefix("mmlu_").replace("_", " ")
        assert (f"about {subject}." in prompt.splitlines()[0]) == category.startswith("mmlu_")


def test_duplicates_are_on_few_prompts_and_some_conflict(answers):
    frame = pd.concat(answers.values())
    cells = frame.groupby(["model_name", "prompt_id"])["label"].agg(["size", "nunique"])
    assert (cells["size"] - 1).sum() / len(frame) == pytest.approx(0.129, abs=0.005)
    assert cells[cells["size"] > 1].reset_index()["prompt_id"].nunique() <= 12  # 381 at full scale
    assert cells["size"].max() == 15
    assert 0 < (cells["nunique"] > 1).sum() < (cells["size"] > 1).sum()
    # Several categories, one benchmark.
    categories = frame.groupby("prompt_id")["category"].agg(lambda names: {benchmark_of(name) for name in names})
    assert (categories.str.len() == 1).all()


def test_reads_as_the_pool_that_it_was_made_from(release):
    pool, _ = simulate_pool(scale=0.01)
    pool = pool.subset(questions=pool.question_ids[np.argsort(release_categories(pool.questions), kind="stable")])
    matrix = load_dataset(release, duplicates="majority")
    assert [f"simulated__{name}" for name in pool.model_names] == matrix.model_names.tolist()
    assert pool.benchmarks.tolist() == matrix.benchmarks.tolist()
    assert pool.questions["split"].tolist() == matrix.questions["split"].tolist()
    np.testing.assert_array_equal(pool.embeddings, matrix.embeddings)
    # They may differ only where there are several labels.
    differ = (pool.labels != matrix.labels).any(axis=0)
    assert 0 < differ.sum() <= 12
    counts = dict(zip(matrix.report_["what"], matrix.report_["count"], strict=True))
    assert set(counts) >= {"duplicated rows", "conflicting labels", "questions in several categories"}


def test_rules_disagree_on_the_conflicts_alone(release):
    read = {rule: load_dataset(release, duplicates=rule) for rule in ("majority", "any", "last", "rows")}
    base = read["majority"].labels
    for rule in ("any", "last"):
        assert 0 < (read[rule].labels != base).any(axis=0).sum() <= 12
    assert (read["any"].labels >= read["last"].labels).all()
    assert read["rows"].n_questions == pytest.approx(409, abs=3)  # rows of a model
    with pytest.raises(ValueError, match=r"has \d+ rows on question '\d+', and \d+ more .* have several: remove them"):
        load_dataset(release, duplicates="error")
    with pytest.raises(ValueError, match="duplicates must be one of"):
        load_dataset(release, duplicates="mean")


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_lookalike(tmp_path / name, scale=0.002, random_state=seed)
    for path in (tmp_path / "a").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert (tmp_path / "a" / "train.csv").read_bytes() != (tmp_path / "c" / "train.csv").read_bytes()


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="mine exists already: name a new folder, or remove it first"):
        write_lookalike(tmp_path / "mine", scale=0.002)
    with pytest.raises(ValueError, match="scale must be above 0"):
        write_lookalike(tmp_path / "new", scale=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]
