"""Pools and short fits that several test files share."""

import numpy as np
import pandas as pd

from embedllm import CorrectnessMatrix, MatrixFactorization, TrainingPreset, encode_questions
from embedllm.predictors.base import CorrectnessPredictor

QUICK = TrainingPreset(pairs_per_step=64, epochs=12, learning_rate=1e-2, weight_decay=1e-5)
SUMS = [f"What is {a} plus {b}?" for a in range(2, 9) for b in (13, 27, 41)]
TOWNS = [
    f"Which country is {town} the capital of?" for town in ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Bern")
]


class Known(CorrectnessPredictor):
    """Predicts what it is given, a frame of models and question ids."""

    def __init__(self, frame):
        self.frame = frame

    def fit(self, matrix):
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        raise NotImplementedError

    def predict_matrix(self, matrix):
        return self.frame.loc[matrix.model_names, matrix.question_ids].to_numpy()


def quick(**settings):
    """Return a factorization that SGD trains in a moment."""
    return MatrixFactorization(**({"dim": 6, "solver": "sgd", "preset": QUICK, "device": "cpu"} | settings))


def exact(**settings):
    """Return a small factorization that is solved exactly, at an alpha that need not be chosen."""
    return MatrixFactorization(**({"dim": 4, "alpha": 0.05, "device": "cpu"} | settings))


def bits(model):
    """Return all parameters of a fit, for comparisons without any tolerance."""
    return [value.numpy().tobytes() for value in model.parameters_]


def random_factorization(names, width=384, seed=0, equal_rows=False):
    """A fitted factorization without a fit."""
    rng = np.random.default_rng(seed)
    model = quick(dim=3)  # by SGD: of models with equal answers, an exact fit is equal up to rounding
    model.fit(
        CorrectnessMatrix(
            pd.DataFrame(rng.integers(0, 2, (len(names), 5)), names, list("vwxyz")),
            pd.DataFrame({"benchmark": "b"}, list("vwxyz")),
            rng.standard_normal((5, width)),
        )
    )
    if equal_rows:
        model.coef_[:] = model.coef_[0]
        model.intercept_[:] = model.intercept_[0]
    return model


def noise_with_copies(n_questions, n_models=10):
    """Labels of pure noise, each question given twice: a copy that is learned from tells the answer."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((n_questions, 5)), rng.integers(0, 2, (n_models, n_questions))
    ids = [f"q{number}" for number in range(2 * n_questions)]
    texts = [f"text {number % n_questions}" for number in range(len(ids))]
    frame = pd.DataFrame(np.hstack([labels, labels]), [f"m{number}" for number in range(n_models)], ids)
    return CorrectnessMatrix(frame, pd.DataFrame({"benchmark": "b", "prompt": texts}, ids), np.vstack([x, x]))


def sums_and_capitals(encoder):
    """A pool of 28 questions: one model adds, one knows the capitals, one knows nothing."""
    prompts = SUMS + TOWNS
    ids = [f"q{number}" for number in range(len(prompts))]
    is_sum = np.array([prompt in SUMS for prompt in prompts])
    labels = pd.DataFrame([is_sum * 1, ~is_sum * 1, is_sum * 0], ["sums", "capitals", "nothing"], ids)
    questions = pd.DataFrame({"benchmark": np.where(is_sum, "sums", "capitals"), "prompt": prompts}, ids)
    return CorrectnessMatrix(labels, questions, encode_questions(prompts, encoder, device="cpu"))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
