"""A simulated pool with a ground truth, shaped like the paper's release.

Every model, question and answer here is fictional. With this pool the whole companion runs offline in minutes, and what
a method recovers can be compared with the ground truth::

    topic of a question        t_q = benchmark part + subject part + own part                     in R^36
    its embedding              unit(topic frame . t_q + wording noise)                            in R^768
    logit of a correct answer  ability_m + affinity_m[benchmark] + skill_m . t_q - difficulty_q
    difficulty_q               a direction in topic space, a part hidden from the text, and the level of the benchmark

The constants are tuned so that single models score 0.2 to 0.7, the two predictors land near the published accuracies,
noise of 0.05 in training is close to the best, and the oracle is clearly above every router.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from embedllm._checks import check_seed
from embedllm.matrix import CorrectnessMatrix

WIDTH = 768  # of all-mpnet-base-v2, the paper's encoder
N_QUESTIONS = 35_673  # distinct prompts of the paper's release
N_HELD_OUT = 3_000  # of them in each of the validation and test parts

# Items of each benchmark in the paper's release; how many subjects share them here, and the pool's mean accuracy.
_BENCHMARKS = pd.DataFrame.from_dict(
    {
        "MMLU": (14_042, 57, "knowledge", 0.48),
        "GPQA": (5_960, 15, "knowledge", 0.28),
        "MedMCQA": (4_183, 12, "knowledge", 0.40),
        "MathQA": (2_985, 8, "mathematics", 0.34),
        "ASDiv": (2_305, 6, "mathematics", 0.55),
        "SocialQA": (1_954, 6, "everyday", 0.50),
        "PIQA": (1_838, 6, "everyday", 0.70),
        "GSM8K": (1_319, 5, "mathematics", 0.38),
        "TruthfulQA": (817, 4, "everyday", 0.42),
        "LogiQA": (651, 4, "everyday", 0.32),
    },
    orient="index",
    columns=["items", "subjects", "domain", "accuracy"],
)
_GPQA_WORDINGS = 5_960 / 546  # one GPQA question stands in the release in up to 15 wordings

_SIZES = {  # billions of parameters: how many of the 112 models
    0.5: 1, 1.3: 2, 2: 2, 4: 1, 6: 3, 7: 50, 8: 3, 11: 3, 12: 3, 13: 12, 15: 2, 20: 2, 30: 4, 34: 14, 40: 1, 70: 9,
}  # fmt: skip
_TAGS = {"chat": 40, "math": 10, "code": 10, "biomed": 8, "physics": 3}  # the others are base models
_FAMILIES = (
    "Agate", "Basalt", "Cobalt", "Dolerite", "Feldspar", "Garnet", "Hornfels",
    "Jasper", "Kyanite", "Marble", "Onyx", "Quartz", "Slate", "Topaz",
)  # fmt: skip
# Where a specialization helps, on the logit scale.
_AFFINITY = {
    "math": {"GSM8K": 1.2, "MathQA": 0.8, "ASDiv": 0.8, "SocialQA": -0.4, "PIQA": -0.4},
    "code": {"GSM8K": 0.5, "LogiQA": 0.5, "SocialQA": -0.6, "MedMCQA": -0.5},
    "biomed": {"MedMCQA": 1.0, "MMLU": 0.3, "GSM8K": -0.6, "MathQA": -0.3},
    "physics": {"GPQA": 0.8, "MathQA": 0.4, "MedMCQA": -0.3},
    "chat": {"TruthfulQA": 0.5, "SocialQA": 0.3},
}

_TOPIC_DIM = 36
_TOPIC_SHARE = 0.7  # of the squared length of an embedding; the rest is wording
_TOPIC_PARTS = {"domain": 0.15, "benchmark": 0.15, "subject": 0.2, "own": 0.5}  # shares of the topic's variance
_SKILL_PARTS = {"tier": 0.2, "tag": 0.35, "own": 0.45}  # shares of the variance of a model's skill
_SKILL_SD = 1.2  # logit
_DIFFICULTY_SD = 3.0  # logit, along a direction in topic space
_UNSEEN_DIFFICULTY_SD = 2.3  # logit, of the part that the text does not show
_ABILITY_SD, _ABILITY_PER_DOUBLING = 0.85, 0.35  # logit


class GroundTruth(NamedTuple):
    """What the answers of a simulated pool were drawn from.

    Attributes
    ----------
    probability : ndarray of shape (n_models, n_questions), float32
        Probability of a correct answer.
    skills : DataFrame of shape (n_models, 36)
        Skill of each model in topic space; models of one size tier or specialization share a part.
    topics : DataFrame of shape (n_questions, 36)
    """

    probability: np.ndarray
    skills: pd.DataFrame
    topics: pd.DataFrame


def simulate_pool(scale: float = 1.0, random_state: int = 0) -> tuple[CorrectnessMatrix, GroundTruth]:
    """Simulate 112 fictional models on 35,673 fictional questions.

    Parameters
    ----------
    scale : float in (0, 1]
        Share of the questions; the models are always all 112.
    random_state : int
        Seed of everything but the list of models, which is the same for every seed.

    Returns
    -------
    matrix : CorrectnessMatrix
        With its own split (29,673 / 3,000 / 3,000 at full scale) and, for each question, its `category`.
    truth : GroundTruth

    Raises
    ------
    ValueError
        If the scale is out of range or leaves a benchmark without questions.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale!r}")
    rng = np.random.default_rng(check_seed(random_state))
    models = _models()
    questions = _questions(scale, rng)
    topics, embeddings = _topics(questions, rng)
    skills = _skills(models, rng)
    logits = _logits(models, questions, topics, skills, rng)
    probability = (1 / (1 + np.exp(-logits))).astype(np.float32)
    labels = (rng.random(probability.shape, dtype=np.float32) < probability).astype(np.int8)
    matrix = CorrectnessMatrix(
        pd.DataFrame(labels, index=models.index, columns=questions.index),
        questions[["benchmark", "category", "split"]],
        embeddings,
        models=models,
        source="simulated pool",
    )
    return matrix, GroundTruth(
        probability, pd.DataFrame(skills, index=models.index), pd.DataFrame(topics, index=questions.index)
    )


def _models() -> pd.DataFrame:
    """Names, sizes, families and tags of the 112 models."""
    rng = np.random.default_rng(0)  # the list is part of the definition of the pool, not of a draw from it
    sizes = np.repeat(list(_SIZES), list(_SIZES.values()))
    tags = np.repeat([*_TAGS, "base"], [*_TAGS.values(), len(sizes) - sum(_TAGS.values())])
    frame = pd.DataFrame(
        {
            "params_b": sizes.astype(float),
            "family": rng.permutation(np.resize(_FAMILIES, len(sizes))),
            "tags": rng.permutation(tags),
        }
    )
    names = frame["family"] + "-" + frame["params_b"].map("{:g}B".format) + "-" + frame["tags"]
    version = frame.groupby(names).cumcount()
    frame.index = pd.Index(names + version.map(lambda n: f"-v{n + 1}" if n else ""), dtype=object, name="model")
    return frame


def _questions(scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """One row a question: benchmark, category, subject, source question (shared by wordings), split."""
    n = round(N_QUESTIONS * scale)
    exact = _BENCHMARKS["items"] / _BENCHMARKS["items"].sum() * n
    counts = np.floor(exact).astype(int)
    counts[(exact - counts).nlargest(n - counts.sum()).index] += 1
    if (counts == 0).any():
        raise ValueError(f"scale {scale} leaves {counts.idxmin()} without questions: 0.002 is enough")
    frame = pd.DataFrame({"benchmark": np.repeat(counts.index.to_numpy(dtype=object), counts)})
    subject = np.concatenate(
        [rng.integers(0, _BENCHMARKS.at[name, "subjects"], count) for name, count in counts.items()]
    )
    frame["category"] = [f"{name}/{number:02d}" for name, number in zip(frame["benchmark"], subject, strict=True)]
    # Wordings of one question share its subject, so the subject is taken from the first of them.
    source = np.arange(n)
    gpqa = np.flatnonzero(frame["benchmark"] == "GPQA")
    source[gpqa] = gpqa[rng.integers(0, max(1, round(len(gpqa) / _GPQA_WORDINGS)), len(gpqa))]
    frame["source"] = source
    frame["category"] = frame["category"].to_numpy()[source]
    held_out = round(N_HELD_OUT * scale)
    split = np.full(n, "train", dtype=object)
    order = rng.permutation(n)
    split[order[:held_out]] = "val"
    split[order[held_out : 2 * held_out]] = "test"
    frame["split"] = split
    frame.index = pd.Index([f"q{number:05d}" for number in range(n)], dtype=object, name="question")
    return frame


def _topics(questions: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Topics (n_questions, 36) and unit embeddings (n_questions, 768)."""
    groups = {
        "domain": questions["benchmark"].map(_BENCHMARKS["domain"]),
        "benchmark": questions["benchmark"],
        "subject": questions["category"],
        "own": questions["source"],
    }
    topics = sum(np.sqrt(_TOPIC_PARTS[part]) * _shared_normal(groups[part], _TOPIC_DIM, rng) for part in _TOPIC_PARTS)
    topics -= topics.mean(axis=0)
    frame = np.linalg.qr(rng.standard_normal((WIDTH, _TOPIC_DIM)))[0] * np.sqrt(_TOPIC_SHARE / _TOPIC_DIM)
    embeddings = rng.standard_normal((len(topics), WIDTH), dtype=np.float32)
    embeddings *= np.sqrt((1 - _TOPIC_SHARE) / WIDTH)
    embeddings += (topics @ frame.T).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return topics, embeddings


def _skills(models: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Skills (n_models, 36): a part of the size tier, a part of the specialization, an own part."""
    groups = {
        "tier": pd.cut(models["params_b"], [0, 5, 9, 20, 50, 100], labels=False),
        "tag": models["tags"],
        "own": pd.Series(models.index),
    }
    parts = [np.sqrt(_SKILL_PARTS[part]) * _shared_normal(groups[part], _TOPIC_DIM, rng) for part in _SKILL_PARTS]
    return sum(parts) * (_SKILL_SD / np.sqrt(_TOPIC_DIM))


def _logits(
    models: pd.DataFrame, questions: pd.DataFrame, topics: np.ndarray, skills: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Logits of a correct answer, (n_models, n_questions)."""
    doublings = np.log2(models["params_b"].to_numpy() / 7)
    ability = _ABILITY_PER_DOUBLING * doublings + _ABILITY_SD * rng.standard_normal(len(models))
    affinity = pd.DataFrame(0.0, index=models.index, columns=_BENCHMARKS.index)
    for tag, boosts in _AFFINITY.items():
        for benchmark, boost in boosts.items():
            affinity.loc[models["tags"] == tag, benchmark] = boost
    direction = rng.standard_normal(_TOPIC_DIM)
    direction *= _DIFFICULTY_SD / np.linalg.norm(direction)
    easiness = topics @ direction + _UNSEEN_DIFFICULTY_SD * _shared_normal(questions["source"], 1, rng)[:, 0]
    logits = ability[:, None] + affinity[questions["benchmark"]].to_numpy() + skills @ topics.T + easiness
    for benchmark, columns in questions.groupby("benchmark").indices.items():
        logits[:, columns] += _offset_to(_BENCHMARKS.at[benchmark, "accuracy"], logits[:, columns])
    return logits


def _offset_to(accuracy: float, logits: np.ndarray) -> float:
    """What to add to all logits for a given mean probability, by bisection."""
    low, high = -20.0, 20.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        too_low = (1 / (1 + np.exp(-logits - middle))).mean() < accuracy
        low, high = (middle, high) if too_low else (low, middle)
    return (low + high) / 2


def _shared_normal(groups: pd.Series, width: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal vectors (n, width), one drawn for each group and shared by its members."""
    codes, unique = pd.factorize(groups)
    return rng.standard_normal((len(unique), width))[codes]
