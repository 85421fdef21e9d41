"""The procedure of the paper, written plainly: a trainer of pairs, a classifier for each model, a router of questions.

None of it uses the package, so that a ratio of times, and an agreement of results, is between two implementations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH = 2048  # pairs
EPOCHS = 50


class Pairs(Dataset):
    """A model, a question and whether the model answered it correctly, pair by pair."""

    def __init__(self, labels: np.ndarray) -> None:
        models, questions = np.nonzero(labels >= 0)
        self.models, self.questions = torch.from_numpy(models), torch.from_numpy(questions)
        self.labels = torch.from_numpy(labels[models, questions].astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.models[index], self.questions[index], self.labels[index]


class PairModel(nn.Module):
    """The paper's model: a classifier on the product of a model embedding and a projected question embedding."""

    def __init__(self, embeddings: np.ndarray, n_models: int, dim: int = 232, alpha: float = 0.05) -> None:
        super().__init__()
        self.P = nn.Embedding(n_models, dim)
        self.Q = nn.Embedding.from_pretrained(torch.tensor(embeddings), freeze=True)
        self.text_proj = nn.Linear(embeddings.shape[1], dim)
        self.classifier = nn.Linear(dim, 2)
        self.alpha = alpha

    def forward(self, models: torch.Tensor, questions: torch.Tensor) -> torch.Tensor:
        vectors = self.Q(questions)
        if self.training:
            vectors = vectors + self.alpha * torch.randn_like(vectors)
        return self.classifier(self.P(models) * self.text_proj(vectors))


def n_steps(labels: np.ndarray) -> int:
    """Optimiser steps of a whole fit."""
    return EPOCHS * -(-int((labels >= 0).sum()) // BATCH)


def step_seconds(model: PairModel, labels: np.ndarray, warm_up: int = 3) -> Iterator[float]:
    """Train, and yield how long each step took, loading of its batch included."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
    batches = iter(DataLoader(Pairs(labels), batch_size=BATCH))
    for number in range(len(batches)):
        start = time.perf_counter()
        models, questions, answers = next(batches)
        loss = nn.functional.cross_entropy(model(models, questions), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number >= warm_up:
            yield time.perf_counter() - start


def penalty(labels: np.ndarray, alpha: float) -> float:
    """The ridge penalty lambda that noise alpha is to second order.

    It is alpha^2 times the mean over the answers of r (1 - r), with r a model's share of correct answers, one answer at
    the share of the pool added.
    """
    n_seen, n_correct = (labels >= 0).sum(axis=1), (labels == 1).sum(axis=1)
    share = (n_correct + n_correct.sum() / n_seen.sum()) / (n_seen + 1)
    return alpha**2 * float(np.average(share * (1 - share), weights=n_seen))


def logistic_regressions(embeddings: np.ndarray, labels: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n_models, width) and intercepts (n_models,) of a classifier a model, C = 1 / (n_m lambda)."""
    fitted = []
    for row in labels:
        seen = row >= 0
        classifier = LogisticRegression(C=1 / (seen.sum() * penalty(labels, alpha)), max_iter=1000)
        fitted.append(classifier.fit(embeddings[seen], row[seen]))
    return np.concatenate([each.coef_ for each in fitted]), np.concatenate([each.intercept_ for each in fitted])


def objective(
    coef: np.ndarray, intercept: np.ndarray, embeddings: np.ndarray, labels: np.ndarray, alpha: float
) -> float:
    """Mean over the models of the mean loss and lambda / 2 |u|^2, in float64: what both of the above minimize."""
    losses = []
    for u, t, row in zip(coef.astype(float), intercept, labels, strict=True):
        logits = embeddings @ u + t
        losses.append(np.logaddexp(0, np.where(row == 1, -logits, logits))[row >= 0].mean())
    return float(np.mean(losses) + penalty(labels, alpha) / 2 * np.square(coef, dtype=float).sum(axis=1).mean())


def knn_proba(embeddings: np.ndarray, labels: np.ndarray, asked: np.ndarray, n_neighbors: int = 131) -> np.ndarray:
    """Probability of a correct answer from one model, (n_asked,), by a classifier of its own."""
    seen = labels >= 0
    classifier = KNeighborsClassifier(n_neighbors).fit(embeddings[seen], labels[seen])
    return classifier.predict_proba(asked)[:, -1]


@torch.no_grad()
def route(model: PairModel, questions: torch.Tensor) -> list[int]:
    """Choose a model for each question, one question at a time; `questions` are rows of the model's `Q`."""
    model.eval()
    everyone = torch.arange(model.P.num_embeddings, device=questions.device)
    chosen = []
    for question in questions:
        proba = model(everyone, question.expand(len(everyone))).softmax(dim=1)[:, 1]
        chosen.append(int(proba.argmax()))
    return chosen
