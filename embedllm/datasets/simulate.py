"""A simulated pool with a ground truth, anchored to what is published of the paper's pool.

Every model, question and answer here is fictional. With this pool the whole companion runs offline in minutes, and what
a method recovers can be compared with the ground truth::

    topic of a question        t_q = domain, benchmark, subject and own part                       in R^d, d = 100
    its embedding              unit(topic frame . t_q + wording noise)                             in R^768
    logit of a correct answer  a_m,benchmark + (common + skill_m) . shown(t_q) - hidden_q

`shown` is what the text tells beyond the benchmark. It depends on the `structure`:

- `"linear"`: the topic itself, MF's own form;
- `"nonlinear"`: cosines of the topic, here with d = 12: near questions share them, and no linear map follows them;
- `"none"`: nothing, a negative control.

`hidden_q` is a difficulty that the text does not show. Wordings of one item share it.

Each fictional model takes the accuracies on the ten benchmarks, the size and the tags of one model of the paper. The
published counts have the noise of their few test questions. It is removed by the method of moments: the differences
from the benchmark's mean are shrunk until their variance is the observed one less that noise (Morris 1983), so that
drawing answers again does not add it twice.

==========================================  =========  ============================================================
quantity                                    published  in the pool
==========================================  =========  ============================================================
mean accuracy                                  40.6 %  by construction: the published accuracies
per-benchmark majority baseline                69.5 %  by construction
best single model                              60.5 %  by construction
best model per benchmark                       69.0 %  by construction
oracle                                         97.9 %  tuned: spread of the hidden and of the common difficulty
MF, all training questions                     74.1 %  tuned, `"linear"` only: what the text shows of a single model
KNN, all training questions                    71.5 %  tuned, `"linear"` only: dimensions and parts of the topic
agreement of a model with its nearest          79.0 %  free
==========================================  =========  ============================================================

A result on this pool that one of these decides is not evidence about the paper.

References
----------
Morris, *Parametric Empirical Bayes Inference*, Journal of the American Statistical Association 78 (1983).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from embedllm._support.checks import check_option, check_seed
from embedllm.datasets.model_names import describe_models
from embedllm.datasets.published_counts import PublishedCounts, load_published_counts
from embedllm.matrix import CorrectnessMatrix

Structure = Literal["linear", "nonlinear", "none"]

WIDTH = 768  # of all-mpnet-base-v2, the paper's encoder
N_QUESTIONS = 35_673  # distinct prompts of the paper's release
N_HELD_OUT = 3_000  # of them in each of the validation and test parts

# Questions of each benchmark in the paper's release; how many subjects share them here.
_BENCHMARKS = pd.DataFrame.from_dict(
    {
        "MMLU": (14_042, 57, "knowledge"),
        "GPQA": (5_960, 15, "knowledge"),
        "MedMCQA": (4_183, 12, "knowledge"),
        "MathQA": (2_985, 8, "mathematics"),
        "ASDiv": (2_305, 6, "mathematics"),
        "SocialQA": (1_954, 6, "everyday"),
        "PIQA": (1_838, 6, "everyday"),
        "GSM8K": (1_319, 5, "mathematics"),
        "TruthfulQA": (817, 4, "everyday"),
        "LogiQA": (651, 4, "everyday"),
    },
    orient="index",
    columns=["questions", "subjects", "domain"],
)
_GPQA_WORDINGS = 5_960 / 546  # one GPQA item stands in the release in up to 15 wordings

_FAMILIES = (
    "Agate", "Basalt", "Cobalt", "Dolerite", "Feldspar", "Garnet", "Hornfels",
    "Jasper", "Kyanite", "Marble", "Onyx", "Quartz", "Slate", "Topaz",
)  # fmt: skip
_WORDS = {"long_context": "32k", "rag": "RAG", "roleplay": "metharme", "safety": "guard", "quantized": "AWQ"}

_TOPIC_SHARE = 0.7  # of the squared length of an embedding; the rest is wording
_TOPIC_PARTS = {"domain": 0.1, "benchmark": 0.4, "subject": 0.05, "own": 0.45}  # shares of the topic's variance
_SKILL_PARTS = {"tier": 0.2, "tags": 0.35, "own": 0.45}  # shares of the variance of a model's skill


class _Strength(NamedTuple):
    """Dimensions of the topic, and standard deviations on the logit scale, tuned to the oracle, MF and KNN."""

    topic_dim: int
    common: float  # difficulty that the text shows
    skill: float  # what the text shows of a single model
    hidden: float  # difficulty that it does not show


_STRENGTHS = {
    "linear": _Strength(100, 1.9, 0.8, 1.0),
    "nonlinear": _Strength(12, 2.1, 0.8, 1.0),
    "none": _Strength(100, 0.0, 0.0, 1.6),
}


ANCHORS = {
    "mean accuracy": "by construction",
    "per-benchmark majority baseline": "by construction",
    "best single model": "by construction",
    "best model per benchmark": "by construction",
    "oracle": "tuned",
    "MF": "tuned (linear)",
    "KNN": "tuned (linear)",
    "agreement with the nearest model": "free",
}
"""How the pool comes to each published quantity."""


class GroundTruth(NamedTuple):
    """What the answers of a simulated pool were drawn from.

    Attributes
    ----------
    probability : ndarray of shape (n_models, n_questions), float32
        Probability of a correct answer.
    ceiling : ndarray of shape (n_models, n_questions), float32
        Its expectation given the text and the benchmark, the hidden difficulty integrated out: no prediction from the
        text can be expected to do better. Its logits are what a predictor can recover.
    skills : DataFrame of shape (n_models, d)
        Skill of each model; models of one size tier, or with a tag in common, share a part.
    topics : DataFrame of shape (n_questions, d)
    """

    probability: np.ndarray
    ceiling: np.ndarray
    skills: pd.DataFrame
    topics: pd.DataFrame


def simulate_pool(
    scale: float = 1.0, random_state: int = 0, structure: Structure = "linear"
) -> tuple[CorrectnessMatrix, GroundTruth]:
    """Simulate 112 fictional models on 35,673 fictional questions.

    Parameters
    ----------
    scale : float in (0, 1]
        Share of the questions; the models are always all 112.
    random_state : int
        Seed of everything but the list of models and their accuracies, which are the same for every seed.
    structure : "linear", "nonlinear" or "none"
        How the text of a question shows which models answer it correctly.

    Returns
    -------
    matrix : CorrectnessMatrix
        With its own split (29,673 / 3,000 / 3,000 at full scale, wordings of an item in one part) and, for each
        question, its `category` and its `item`.
    truth : GroundTruth

    Raises
    ------
    ValueError
        If the scale is out of range or leaves a benchmark without questions, or there is no such structure.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale!r}")
    check_option("structure", structure, Structure)
    rng = np.random.default_rng(check_seed(random_state))
    counts = load_published_counts()
    models = _models(counts.correct.index)
    questions = _questions(scale, rng)
    dim, common_sd, skill_sd, hidden_sd = _STRENGTHS[structure]
    topics, embeddings = _topics(questions, dim, rng)
    skills = skill_sd * _skills(models, dim, rng)
    common = rng.standard_normal(dim)
    weights = skills + common * (common_sd / np.linalg.norm(common))
    shown = _waves(topics, rng) if structure == "nonlinear" else topics
    logits = (weights @ shown.T).astype(np.float32)  # (n_models, n_questions), given the text
    hidden = hidden_sd * _shared_normal(questions["item"], 1, rng)[:, 0].astype(np.float32)
    accuracies = shrunk_accuracies(counts)
    for benchmark, columns in questions.groupby("benchmark").indices.items():
        part = logits[:, columns]
        logits[:, columns] += _offsets_to(accuracies[benchmark].to_numpy(), part - hidden[columns])[:, None]
    probability = expit(logits - hidden)
    labels = (rng.random(probability.shape, dtype=np.float32) < probability).astype(np.int8)
    matrix = CorrectnessMatrix(
        pd.DataFrame(labels, index=models.index, columns=questions.index),
        questions,
        embeddings,
        models=models,
        source="simulated pool" if structure == "linear" else f"simulated pool ({structure})",
    )
    return matrix, GroundTruth(
        probability,
        _integrated(logits, hidden_sd),
        pd.DataFrame(skills, index=models.index),
        pd.DataFrame(topics, index=questions.index),
    )


def shrunk_accuracies(counts: PublishedCounts) -> pd.DataFrame:
    """Remove the binomial noise from the published accuracies.

    Parameters
    ----------
    counts : PublishedCounts

    Returns
    -------
    DataFrame of shape (n_models, n_benchmarks)
        With the mean of the benchmark, and the variance over the models less that of the noise; if nothing is left of
        it, all are the mean.
    """
    accuracy = counts.correct / counts.questions
    noise = (accuracy * (1 - accuracy) / (counts.questions - 1)).mean()
    kept = np.sqrt((1 - noise / accuracy.var()).clip(lower=0))
    return accuracy.mean() + kept * (accuracy - accuracy.mean())


def _models(real: pd.Index) -> pd.DataFrame:
    """Names, sizes, families and tags of the 112 models; a name states them as real names do."""
    rng = np.random.default_rng(0)  # the list is part of the definition of the pool, not of a draw from it
    described = describe_models(real)
    family = rng.permutation(np.resize(_FAMILIES, len(real)))
    sizes = [f"-{size:g}B" if size == size else "" for size in described["params_b"]]
    words = ["".join(f"-{_WORDS.get(tag, tag)}" for tag in tags.split(";") if tag) for tags in described["tags"]]
    names = pd.Series(family) + sizes + words
    names += names.groupby(names).cumcount().map(lambda n: f"-v{n + 1}" if n else "")
    index = pd.Index(names, dtype=object, name="model")
    return described.set_axis(index).assign(family=family)[["params_b", "family", "tags"]]


def _questions(scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """One row a question: benchmark, category, item (shared by its wordings), split."""
    n = round(N_QUESTIONS * scale)
    exact = _BENCHMARKS["questions"] / _BENCHMARKS["questions"].sum() * n
    counts = np.floor(exact).astype(int)
    counts[(exact - counts).nlargest(n - counts.sum()).index] += 1
    if (counts == 0).any():
        raise ValueError(f"scale {scale} leaves {counts.idxmin()} without questions: 0.002 is enough")
    frame = pd.DataFrame({"benchmark": np.repeat(counts.index.to_numpy(dtype=object), counts)})
    subject = np.concatenate(
        [rng.integers(0, _BENCHMARKS.at[name, "subjects"], count) for name, count in counts.items()]
    )
    category = np.array([f"{name}/{number:02d}" for name, number in zip(frame["benchmark"], subject, strict=True)])
    # Wordings share the subject of the first question of their item.
    item = np.arange(n)
    gpqa = np.flatnonzero(frame["benchmark"] == "GPQA")
    item[gpqa] = gpqa[rng.integers(0, max(1, round(len(gpqa) / _GPQA_WORDINGS)), len(gpqa))]
    frame["category"], frame["item"] = category[item].astype(object), item
    frame["split"] = _split(frame, round(N_HELD_OUT * scale), rng)
    return frame.set_axis(pd.Index([f"q{number:05d}" for number in range(n)], dtype=object, name="question"))


def _split(questions: pd.DataFrame, held_out: int, rng: np.random.Generator) -> np.ndarray:
    """Divide whole items at random, each benchmark in proportion: validation and test have `held_out` questions."""
    items = questions.groupby("item")["benchmark"].agg(["first", "size"]).sample(frac=1, random_state=rng)
    of = items.groupby("first")["size"]
    n = of.transform("count")
    # From 0 to 1 in each benchmark, so that either end holds all of them; fewer than 3 items are for training.
    position = (of.cumcount() / (n - 1).clip(lower=1)).where(n >= 3, 0.5)
    part = dict.fromkeys(items.index, "train")
    for name, order in (("val", position), ("test", -position)):
        free = held_out
        for item, size in items["size"].loc[order.sort_values(kind="stable").index].items():
            if size <= free:
                part[item] = name
                free -= size
            if not free:
                break
    return questions["item"].map(part).to_numpy(dtype=object)


def _topics(questions: pd.DataFrame, dim: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Topics (n_questions, dim) and unit embeddings (n_questions, 768)."""
    groups = {
        "domain": questions["benchmark"].map(_BENCHMARKS["domain"]),
        "benchmark": questions["benchmark"],
        "subject": questions["category"],
        "own": questions["item"],
    }
    topics = sum(np.sqrt(share) * _shared_normal(groups[part], dim, rng) for part, share in _TOPIC_PARTS.items())
    topics -= topics.mean(axis=0)
    frame = np.linalg.qr(rng.standard_normal((WIDTH, dim)))[0] * np.sqrt(_TOPIC_SHARE / dim)
    embeddings = rng.standard_normal((len(topics), WIDTH), dtype=np.float32)
    embeddings *= np.sqrt((1 - _TOPIC_SHARE) / WIDTH)
    embeddings += topics.astype(np.float32) @ frame.T.astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return topics, embeddings


def _skills(models: pd.DataFrame, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Skills (n_models, dim) of length about 1: a part of the size tier, one of each tag, an own part."""
    tier = pd.cut(models["params_b"], [0, 5, 9, 20, 50, 100], labels=False)
    tagged = models["tags"].replace("", "base").str.get_dummies(";").to_numpy()  # (n_models, n_tags)
    parts = {
        "tier": _shared_normal(tier.fillna(-1), dim, rng),
        "tags": tagged / np.sqrt(tagged.sum(axis=1, keepdims=True)) @ rng.standard_normal((tagged.shape[1], dim)),
        "own": rng.standard_normal((len(models), dim)),
    }
    return sum(np.sqrt(share / dim) * parts[part] for part, share in _SKILL_PARTS.items())


def _waves(topics: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cosines of the topic in as many random directions, (n_questions, dim), each of variance about 1."""
    dim = topics.shape[1]
    directions = rng.standard_normal((dim, dim))
    directions /= np.linalg.norm(directions, axis=0)  # a radian in a standard deviation of the topic
    return np.sqrt(2) * np.cos(topics @ directions + rng.uniform(0, 2 * np.pi, dim))


def _offsets_to(accuracies: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """What to add to the logits (n_models, n_questions) for given means (n_models,) of the probabilities."""
    offsets = np.zeros(len(logits), dtype=np.float32)
    for _ in range(12):  # Newton steps on the logit of the mean
        p = expit(logits + offsets[:, None])
        mean = p.mean(axis=1)
        slope = (p * (1 - p)).mean(axis=1) / (mean * (1 - mean))
        offsets += (logit(accuracies) - logit(mean)) / slope
        if np.abs(mean - accuracies).max() < 1e-5:
            break
    return offsets


def _integrated(logits: np.ndarray, hidden_sd: float) -> np.ndarray:
    """E expit(logit - hidden) over the hidden difficulty, by Gauss-Hermite quadrature on a grid of logits."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    grid = np.linspace(logits.min(), logits.max(), 4_001)
    means = expit(grid[:, None] - hidden_sd * nodes) @ (weights / weights.sum())
    return np.interp(logits, grid, means).astype(np.float32)


def _shared_normal(groups: pd.Series, width: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal vectors (n, width), one drawn for each group and shared by its members."""
    codes, unique = pd.factorize(groups)
    return rng.standard_normal((len(unique), width))[codes]
