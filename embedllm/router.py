"""A router for typed questions: an encoder and a factorization in one object, and in one folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted

from embedllm._files import replacing
from embedllm.datasets.encoder import DEFAULT_ENCODER, encode_questions, find_encoder
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import check_matrix
from embedllm.predictors.mf import MatrixFactorization

_FORMAT = 1
_DESCRIPTION = "router.json"
_WEIGHTS = re.compile(r"factorization-[0-9a-f]{64}\.safetensors")
_BLOCK = 512  # questions multiplied at a time
_N_PROBES = 16  # questions of a matrix that are encoded, to see whether its embeddings come from the encoder
_SAME = 0.99  # cosine; float16 and other processors leave more than 0.999, another encoder next to nothing


class Router:
    """Send each question to the model with the highest predicted probability of a correct answer.

    Ties go to the model whose name comes first in sorted order, as in `embedllm.studies.routing`.

    Parameters
    ----------
    factorization : MatrixFactorization
        A fitted one, such as `MatrixFactorization.from_authors` gives.
    encoder : str or path
        The encoder on whose vectors the factorization was fitted: a Hub id, or a local folder. This cannot be checked
        here; `Router.fit` checks it.
    device : "auto", "cpu", "cuda", or a list such as ["cuda:0", "cuda:1"]
        Where the encoder runs (see `encode_questions`).

    Attributes
    ----------
    factorization : MatrixFactorization
    encoder : Encoder
    device : str or list of str

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        If the encoder cannot be found (see `embedllm.datasets.encoder.find_encoder`).

    References
    ----------
    EmbedLLM (arXiv:2410.02223), section 5.2.

    Examples
    --------
    The encoder is downloaded at its first use:

    >>> from embedllm import MatrixFactorization, Router, load_dataset
    >>> matrix = load_dataset("zeroeval")  # doctest: +SKIP
    >>> router = Router.fit(matrix, factorization=MatrixFactorization(dim=64))  # doctest: +SKIP
    >>> router.route(["What is 7 times 8?"])[["model", "probability"]]  # doctest: +SKIP
    >>> router.save("my-router")  # doctest: +SKIP
    """

    def __init__(
        self,
        factorization: MatrixFactorization,
        encoder: str | os.PathLike[str] = DEFAULT_ENCODER,
        device: str | list[str] = "auto",
    ) -> None:
        if not isinstance(factorization, MatrixFactorization):
            raise TypeError(f"factorization must be a MatrixFactorization, got {type(factorization).__name__}")
        check_is_fitted(factorization, "model_names_")
        self.factorization, self.encoder, self.device = factorization, find_encoder(encoder), device

    @classmethod
    def fit(
        cls,
        matrix: CorrectnessMatrix,
        *,
        encoder: str | os.PathLike[str] = DEFAULT_ENCODER,
        factorization: MatrixFactorization | None = None,
        device: str | list[str] = "auto",
    ) -> Router:
        """Fit a factorization to all observed answers of a matrix whose embeddings come from the encoder.

        Parameters
        ----------
        matrix : CorrectnessMatrix
            Its questions need the column `prompt`.
        encoder : str or path
        factorization : MatrixFactorization, optional
            Brings the hyperparameters, and is fitted; by default one with its defaults.
        device : str or list of str
            Where the encoder runs.

        Raises
        ------
        TypeError
            If `matrix` is not a CorrectnessMatrix.
        ValueError
            If the questions have no prompt, or their embeddings do not come from this encoder: on the vectors of
            another encoder, the choice of a router is arbitrary.
        """
        check_encoder(check_matrix(matrix), encoder, device)
        factorization = MatrixFactorization() if factorization is None else factorization
        return cls(factorization.fit(matrix), encoder, device)

    def route(self, texts: Sequence[str]) -> pd.DataFrame:
        """Choose a model for each question.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        DataFrame
            A row for each text. Columns: `question`, `model` (the most likely to be correct), `probability` (float32)
            and the second as `runner_up`, `runner_up_probability`; None and NaN in a pool of one model.

        Raises
        ------
        TypeError
            If `texts` is a single text, or an entry is not text.
        ValueError
            If a text is empty, or the encoder gives vectors of another width than the factorization was fitted on.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of questions, got the text {texts[:40]!r}: pass [text]")
        texts = list(texts)
        for position, text in enumerate(texts):
            if isinstance(text, str) and not text.strip():
                raise ValueError(f"question {position} is empty: there is nothing to route")
        vectors = encode_questions(texts, self.encoder.folder, device=self.device)
        width = self.factorization.coef_.shape[1]
        if vectors.shape[1] != width:
            raise ValueError(
                f"the encoder {self.encoder.name} gives vectors of width {vectors.shape[1]}, but the factorization was "
                f"fitted on width {width}: pass the encoder that it was fitted with"
            )
        models, logits = best_two(self.factorization, vectors)
        names, probability = np.full((len(texts), 2), None), np.full((len(texts), 2), np.nan, dtype=np.float32)
        names[:, : models.shape[1]] = self.factorization.model_names_[models]
        probability[:, : models.shape[1]] = expit(logits)
        return pd.DataFrame(
            {
                "question": pd.Series(texts, dtype=object),
                "model": pd.Series(names[:, 0], dtype=object),
                "probability": probability[:, 0],
                "runner_up": pd.Series(names[:, 1], dtype=object),
                "runner_up_probability": probability[:, 1],
            }
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the router to a folder: its factorization, and `router.json`, which names that and the encoder.

        The encoder itself is not copied. One from a local folder is recorded by its path on this machine: construct a
        router that you publish with the Hub id of its encoder.

        The new factorization is beside the old one until `router.json` is replaced in one step, so that the folder
        always holds the old router or the new one, whatever interrupts this. Other files in it stay as they are.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.factorization.to_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        weights = folder / f"factorization-{sha256}.safetensors"
        description: dict[str, Any] = {
            "format": _FORMAT,
            "encoder": {"name": self.encoder.name, "fingerprint": self.encoder.fingerprint},
            "weights": {"name": weights.name, "sha256": sha256},
        }
        description["sha256"] = _checksum(description)
        try:
            replaced = folder / _describe(folder)["weights"]["name"]
        except (FileNotFoundError, ValueError):  # no router yet, or none that can be read
            replaced = weights
        with replacing(weights) as temporary:
            temporary.write_bytes(content)
        with replacing(folder / _DESCRIPTION) as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        if replaced != weights:
            replaced.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        encoder: str | os.PathLike[str] | None = None,
        device: str | list[str] = "auto",
    ) -> Router:
        """Read a router that `save` wrote, on any machine.

        Parameters
        ----------
        folder : str or path
        encoder : str or path, optional
            Where to find the encoder here, if not under the name that it had when the router was saved.
        device : str or list of str
            Where the encoder runs.

        Raises
        ------
        FileNotFoundError
            If there is no router in the folder, a part of it is missing, or there is no such encoder.
        ConnectionError
            If the encoder has to be downloaded and cannot be.
        ValueError
            If the router is damaged, or the encoder is not that of the router.
        """
        folder = Path(folder)
        description = _describe(folder)
        weights = folder / description["weights"]["name"]
        if not weights.is_file():
            raise FileNotFoundError(f"the router in {folder} lacks its file {weights.name}: save or fetch it again")
        if hashlib.sha256(weights.read_bytes()).hexdigest() != description["weights"]["sha256"]:
            raise ValueError(f"{weights} is damaged: save or fetch the router again")
        known, factorization = description["encoder"], MatrixFactorization.load(weights)
        try:
            router = cls(factorization, known["name"] if encoder is None else encoder, device)
        except FileNotFoundError as error:
            if encoder is not None:
                raise
            raise FileNotFoundError(
                f"the router in {folder} was fitted with the encoder in the folder {known['name']}, which is not on "
                f"this machine: pass encoder=... (--encoder on the command line), a folder or a Hub id that holds it"
            ) from error
        if router.encoder.fingerprint != known["fingerprint"]:
            raise ValueError(
                f"the router in {folder} was fitted with the encoder {known['name']} (fingerprint "
                f"{known['fingerprint']}), but {router.encoder.name} is another one (fingerprint "
                f"{router.encoder.fingerprint}): pass a folder or a Hub id that holds the former, or fit anew"
            )
        return router


def best_two(factorization: MatrixFactorization, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank the models most likely to be correct on each question, whatever other questions come along.

    A matrix product in floating point rounds in ways that depend on its shape and on the place of a row in it: a
    question could change its model with the company it is asked in, and models with equal parameters might not tie.
    Here the product is one of whole numbers, which float64 adds exactly in any order.

    Parameters
    ----------
    factorization : MatrixFactorization
    vectors : ndarray of shape (n_questions, width), float32

    Returns
    -------
    models : ndarray of shape (n_questions, 2), int; or (n_questions, 1) in a pool of one model
        Positions in `model_names_`, the best first; ties go to the model whose name comes first in sorted order.
    logits : ndarray of the same shape, float64
        Those of `predict_proba` up to rounding.
    """
    by_name = np.argsort(factorization.model_names_.astype(str), kind="stable")
    coef, coef_unit = _whole_numbers(factorization.coef_[by_name])
    logits = np.empty((len(vectors), len(coef)))
    for start in range(0, len(vectors), _BLOCK):
        numbers, unit = _whole_numbers(vectors[start : start + _BLOCK])
        logits[start : start + _BLOCK] = numbers @ coef.T * (unit * coef_unit.T)
    logits += factorization.intercept_[by_name]
    found = []
    for _ in by_name[:2]:
        best = logits.argmax(axis=1, keepdims=True)  # the first of equals
        found.append((by_name[best], np.take_along_axis(logits, best, axis=1)))
        np.put_along_axis(logits, best, -np.inf, axis=1)
    models, best_logits = (np.hstack(each) for each in zip(*found, strict=True))
    return models, best_logits


def _whole_numbers(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round each row to whole numbers, float64, times a power of two, (n_rows, 1).

    The numbers are so small that a scalar product of two rows has at most 53 bits.
    """
    bits = (53 - math.ceil(math.log2(rows.shape[1]))) // 2  # 21 at width 768
    exponents = np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1]
    unit = np.ldexp(np.float32(1), np.maximum(exponents - bits, -149))  # at least the least number of float32
    return np.rint(rows / unit).astype(np.float64), unit.astype(np.float64)


def check_encoder(
    matrix: CorrectnessMatrix, encoder: str | os.PathLike[str] = DEFAULT_ENCODER, device: str | list[str] = "auto"
) -> None:
    """Check that the embeddings of a matrix come from an encoder, by a few of its questions.

    Raises
    ------
    ValueError
        If the questions have no prompt, or the encoder gives other vectors for the prompts.
    """
    prompts = matrix.questions.get("prompt", pd.Series(dtype=object))
    with_prompt = np.flatnonzero([isinstance(prompt, str) for prompt in prompts])
    if not len(with_prompt):
        raise ValueError(
            f"the questions of {matrix!r} have no prompt, so nothing shows that their embeddings come from the encoder "
            f"{encoder}: bring data with a column 'prompt', the text of each question"
        )
    probes = with_prompt[np.linspace(0, len(with_prompt) - 1, min(_N_PROBES, len(with_prompt))).astype(int)]
    encoded = encode_questions(prompts.iloc[probes].tolist(), encoder, device=device)
    given = matrix.embeddings[probes]
    remedy = "name the encoder that made them, or make them anew with encode_questions"
    if given.shape != encoded.shape:
        raise ValueError(
            f"the embeddings of {matrix!r} do not come from the encoder {encoder}: they have width {given.shape[1]}, "
            f"and it gives width {encoded.shape[1]}; {remedy}"
        )
    cosines = (given * encoded).sum(axis=1) / (np.linalg.norm(given, axis=1) * np.linalg.norm(encoded, axis=1))
    if not (cosines > _SAME).all():
        worst = int(np.argmin(cosines))
        raise ValueError(
            f"the embeddings of {matrix!r} do not come from the encoder {encoder}: on question "
            f"{matrix.question_ids[probes[worst]]!r} the cosine between the two is {cosines[worst]:.3f}; {remedy}"
        )


def _checksum(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _describe(folder: Path) -> dict[str, Any]:
    """Return the content of `router.json`, if it is as `save` wrote it."""
    path = folder / _DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"there is no router in {folder}: it holds no file {_DESCRIPTION}")
    try:
        description = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: save or fetch the router again") from error
    if description.pop("sha256", None) != _checksum(description):
        raise ValueError(f"{path} differs from its checksum: save or fetch the router again")
    # First the format: a later one may have other parts.
    if (form := description.get("format", _FORMAT)) != _FORMAT:
        raise ValueError(f"{path} has format {form}, and this version reads {_FORMAT}: update embedllm")
    try:
        encoder, weights = description["encoder"], description["weights"]
        texts = [encoder["name"], encoder["fingerprint"], weights["name"], weights["sha256"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks a part that Router.save writes: save or fetch the router again") from error
    # A path instead of the name would leave the folder, where `save` deletes what it replaces.
    if not all(isinstance(text, str) for text in texts) or not _WEIGHTS.fullmatch(weights["name"]):
        raise ValueError(f"{path} holds an entry that Router.save never writes: save or fetch the router again")
    return description
