"""A look-alike of the paper's release: the simulated pool, written as the files that the authors published.

The release has 3.4 GB and is downloaded. Its reader is tested on a folder with the same files, columns, counts,
categories, duplicates and conflicts, and with fictional models, prompts and answers.
"""

from __future__ import annotations

import csv
import io
import os
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from embedllm._support.checks import check_seed
from embedllm._support.division import SPLITS
from embedllm._support.files import creating_folder
from embedllm.datasets.simulate import N_HELD_OUT, N_QUESTIONS, simulate_pool

HEADER = ["", "prompt_id", "model_id", "model_name", "category_id", "category", "label", "prompt"]

# Of each model in the release: its rows, and its prompts with more than one row.
_ROWS = {"train": 34_056, "val": 3_424, "test": 3_469}
_DUPLICATED_PROMPTS = 381
CONFLICTS = 0.1
"""Share of the duplicates with the other label: an assumption, since the release was not available."""

_SUBJECTS = [
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology",
    "college_chemistry", "college_computer_science", "college_mathematics", "college_medicine", "college_physics",
    "computer_security", "conceptual_physics", "econometrics", "electrical_engineering", "elementary_mathematics",
    "formal_logic", "global_facts", "high_school_biology", "high_school_chemistry", "high_school_computer_science",
    "high_school_european_history", "high_school_geography", "high_school_government_and_politics",
    "high_school_macroeconomics", "high_school_mathematics", "high_school_microeconomics", "high_school_physics",
    "high_school_psychology", "high_school_statistics", "high_school_us_history", "high_school_world_history",
    "human_aging", "human_sexuality", "international_law", "jurisprudence", "logical_fallacies", "machine_learning",
    "management", "marketing", "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition",
    "philosophy", "prehistory", "professional_accounting", "professional_law", "professional_medicine",
    "professional_psychology", "public_relations", "security_studies", "sociology", "us_foreign_policy", "virology",
    "world_religions",
]  # fmt: skip
_WORDINGS = ("zeroshot", "n_shot", "cot_zeroshot", "cot_n_shot", "generative_n_shot")
CATEGORIES = {
    "MMLU": [f"mmlu_{subject}" for subject in _SUBJECTS],
    "GPQA": [f"gpqa_{part}_{wording}" for part in ("main", "diamond", "extended") for wording in _WORDINGS],
    "MedMCQA": ["medmcqa"],
    "MathQA": ["mathqa"],
    "ASDiv": ["asdiv"],
    "SocialQA": ["social_iqa"],
    "PIQA": ["piqa"],
    "GSM8K": ["gsm8k"],
    "TruthfulQA": ["truthfulqa_mc1"],
    "LogiQA": ["logiqa"],
}
"""The 80 categories of the release, by benchmark."""

_WORDS_IN_PROMPT = 95  # about 600 characters, as many as a row of the release holds on average


def write_lookalike(folder: str | os.PathLike[str], scale: float = 1.0, random_state: int = 0) -> None:
    """Write the files of the release that are needed, with fictional content.

    At full scale these are 112 models, 35,673 prompts and 4,586,288 rows in 3.3 GB.

    Parameters
    ----------
    folder : path
        Must not exist, or be empty. It appears when it is complete.
    scale : float in (0, 1]
        Share of the questions and of the duplicates; the models are always all 112.
    random_state : int

    Raises
    ------
    FileExistsError
        If something is there already.
    ValueError
        If the scale or the seed is out of range.
    """
    import torch  # takes seconds, and only the embeddings need it

    matrix, _ = simulate_pool(scale=scale, random_state=random_state)
    rng = np.random.default_rng([check_seed(random_state), 1])  # another stream than the pool's
    names = [f"simulated__{name}" for name in matrix.model_names]
    # As in the release, whose prompts are in the order of their categories.
    questions = matrix.questions.assign(category=release_categories(matrix.questions))
    questions = questions.sort_values("category", kind="stable")
    questions["prompt"] = _prompts(questions, rng)
    matrix = matrix.subset(questions=questions.index)
    category_ids = {name: number for number, name in enumerate(sorted(chain.from_iterable(CATEGORIES.values())))}
    with creating_folder(folder) as temporary:
        for split in SPLITS:
            rows, labels = draw_answers(matrix.labels, questions, split, scale, rng)
            _write_answers(temporary / f"{split}.csv", rows, labels, names, questions["prompt"], category_ids)
        pd.DataFrame({"model_id": range(len(names)), "model_name": names}).to_csv(temporary / "model_order.csv")
        prompts = pd.DataFrame({"prompt_id": range(len(questions)), "prompt": questions["prompt"].to_numpy()})
        prompts.to_csv(temporary / "question_order.csv", index=False)
        torch.save(torch.tensor(matrix.embeddings), temporary / "question_embeddings.pth")


def release_categories(questions: pd.DataFrame) -> list[str]:
    """Return the subjects of the pool's questions under the names of the release."""
    subjects = questions["category"].str.rpartition("/")[2].astype(int)
    return [
        CATEGORIES[name][subject % len(CATEGORIES[name])]
        for name, subject in zip(questions["benchmark"], subjects, strict=True)
    ]


def draw_answers(
    labels: np.ndarray, questions: pd.DataFrame, split: str, scale: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw the rows of one file of the release: an answer to each question, and duplicates, some with the other
    label.

    Every model has the same rows. There are as many duplicates as in the release, on as few prompts; a share of
    `CONFLICTS` has the other label.

    Parameters
    ----------
    labels : ndarray of shape (n_models, n_questions), int8
        Of the simulated pool, where nothing is missing.
    questions : DataFrame
        In the order of the columns, with `benchmark`, `split` and, from `release_categories`, `category`.
    split : "train", "val" or "test"
    scale : float
        Share of the duplicates.
    rng : Generator

    Returns
    -------
    rows : DataFrame of n_rows rows
        The rows of a model, in random order: `question` (its position), `category`, and whether it is a `duplicate`.
    labels : ndarray of shape (n_models, n_rows), int8
    """
    rows = _rows(questions, split, scale, rng)
    drawn = labels[:, rows["question"]]  # a copy
    drawn[:, rows["duplicate"]] ^= rng.random((len(labels), rows["duplicate"].sum())) < CONFLICTS
    return rows, drawn


def _prompts(questions: pd.DataFrame, rng: np.random.Generator) -> list[str]:
    """Prompts that differ, with line ends, commas, quotes and letters beyond ASCII; MMLU's name their subject."""
    letters = np.array(list("aaabcdeeeefghiiijklmnoooprstuvwéß"))
    vocabulary = np.array(["".join(rng.choice(letters, length)) for length in rng.integers(2, 9, 2_000)])
    texts = []
    for number, (benchmark, category) in enumerate(zip(questions["benchmark"], questions["category"], strict=True)):
        subject = category.removeprefix("mmlu_").replace("_", " ")
        first = f"Multiple choice questions about {subject}.\n\n" if benchmark == "MMLU" else ""
        words = rng.choice(vocabulary, _WORDS_IN_PROMPT * (4 if benchmark == "TruthfulQA" else 1))
        half = len(words) // 2
        texts.append(
            f'{first}Simulated {benchmark} question {number}: {" ".join(words[:half])}, "{words[half]}"?\n'
            f"{' '.join(words[half:])}\nAnswer:"
        )
    return texts


def _rows(questions: pd.DataFrame, split: str, scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """The rows of a model in one file, as in `draw_answers`."""
    own = np.flatnonzero(questions["split"] == split)
    frame = pd.DataFrame({"question": own, "category": questions["category"].to_numpy()[own], "duplicate": False})
    n_prompts = N_QUESTIONS - 2 * N_HELD_OUT if split == "train" else N_HELD_OUT
    n_duplicates = round((_ROWS[split] - n_prompts) * scale)
    # Duplicates are on few prompts, one for each other wording of a GPQA question.
    wordings = CATEGORIES["GPQA"]
    gpqa = own[questions["benchmark"].to_numpy()[own] == "GPQA"]
    n_several = max(round(_DUPLICATED_PROMPTS * len(own) / N_QUESTIONS), -(-n_duplicates // (len(wordings) - 1)))
    several = rng.permutation(gpqa)[:n_several]
    others = [(q, name) for q in several for name in wordings if name != questions["category"].iat[q]]
    duplicates = pd.DataFrame(others[:n_duplicates], columns=["question", "category"]).assign(duplicate=True)
    rows = pd.concat([frame, duplicates]).astype({"question": int, "duplicate": bool})
    return rows.sample(frac=1, random_state=rng).reset_index(drop=True)


def _write_answers(
    path: Path, rows: pd.DataFrame, labels: np.ndarray, names: list[str], prompts: pd.Series, ids: dict[str, int]
) -> None:
    """Write one file, model after model; `labels` is (n_models, n_rows)."""
    before = [f",{question}," for question in rows["question"]]
    between = [f",{ids[name]},{name}," for name in rows["category"]]
    after = [f",{_quoted(prompts.iat[question])}\n" for question in rows["question"]]
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerow(HEADER)
        for number, name in enumerate(names):
            model = f"{number},{name}"
            first = number * len(rows)
            stream.writelines(
                f"{first + row}{before[row]}{model}{between[row]}{label}{after[row]}"
                for row, label in enumerate(labels[number].tolist())
            )


def _quoted(text: str) -> str:
    field = io.StringIO()
    csv.writer(field, lineterminator="").writerow([text])
    return field.getvalue()
