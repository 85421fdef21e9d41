"""Matrix factorization: the paper's predictor, an embedding of each model learned from its observed answers.

The probability that model m answers question q correctly is the logistic function of::

    z[m, q] = ((c1 - c0) * p_m) . (W (q + alpha e) + b) + (a1 - a0),    e ~ N(0, I) in training, 0 in prediction,

with q the embedding of the question, p_m that of the model, W and b the projection of question embeddings, and c, a the
weights and biases of a classifier with an output for an incorrect (0) and a correct answer (1). Multiplied out,
it is one linear function of q for each model (`coef_` and `intercept_`)::

    z[m, q] = u_m . q + t_m,    u_m = W' ((c1 - c0) * p_m),    t_m = ((c1 - c0) * p_m) . b + (a1 - a0).
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from embedllm._checks import check_device, check_positive, check_seed
from embedllm._files import replacing
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors import checkpoints
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix
from embedllm.predictors.sgd import PRESETS, Parameters, TrainingPreset, train


class MatrixFactorization(CorrectnessPredictor):
    """The paper's embedder of language models.

    Parameters
    ----------
    dim : int
        Size of a model embedding (paper: 232).
    alpha : float
        Standard deviation of the noise on the question embeddings, in training only (authors' default: 0.05).
    preset : "fast", "paper", or a TrainingPreset
        "paper": 2,048 pairs a step, Adam at 1e-4 with weight decay 1e-5, 50 epochs. "fast": larger blocks, a one-cycle
        schedule and fewer epochs; a test compares its validation loss with that of "paper".
    device : "auto", "cpu" or "cuda"
        "auto" takes a GPU if there is one.
    random_state : int
        Seeds initial values, order of the questions and noise. Same seed, same machine and as many threads: same bits.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    model_embeddings_ : ndarray of shape (n_models, dim), float32
    coef_ : ndarray of shape (n_models, width), float32
        u_m of each model: logits are `embeddings @ coef_.T + intercept_`.
    intercept_ : ndarray of shape (n_models,), float32
        t_m of each model.
    parameters_ : Parameters, on the CPU
    history_ : DataFrame
        For each epoch `train_loss` and, with validation data, `val_loss` and `val_accuracy` (per observed pair).

    References
    ----------
    EmbedLLM (arXiv:2410.02223), section 4. The noise is in the authors' code only.

    Examples
    --------
    >>> from embedllm import MatrixFactorization, load_dataset
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> mf = MatrixFactorization(dim=8, device="cpu").fit(train, validation=val)
    >>> mf.model_embeddings_.shape, mf.coef_.shape
    ((112, 8), (112, 768))
    >>> mf.predict_proba(test.embeddings).shape
    (30, 112)
    >>> list(mf.history_.columns)
    ['train_loss', 'val_loss', 'val_accuracy']
    """

    model_embeddings_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    parameters_: Parameters
    history_: pd.DataFrame

    def __init__(
        self,
        dim: int = 232,
        alpha: float = 0.05,
        preset: str | TrainingPreset = "fast",
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.dim, self.alpha, self.preset = dim, alpha, preset
        self.device, self.random_state = device, random_state

    def fit(self, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None = None) -> Self:
        """Learn model embeddings from the observed cells.

        Parameters
        ----------
        matrix : CorrectnessMatrix
        validation : CorrectnessMatrix, optional
            Not learned from: its loss is shown with the progress and kept in `history_`.

        Raises
        ------
        ValueError
            If a hyperparameter is out of range, the matrix has no observed answer, or the validation data lack a model.
        """
        matrix = check_matrix(matrix)
        dim, preset, device = check_positive("dim", self.dim), self._preset(), torch.device(check_device(self.device))
        if not (isinstance(self.alpha, numbers.Real) and 0 <= self.alpha < float("inf")):
            raise ValueError(f"alpha must be a number of at least 0, got {self.alpha!r}")
        seed = check_seed(self.random_state)
        if validation is not None:
            _check_validation(matrix, validation)
        # Models are trained in the order of their names, so that the order of the matrix changes nothing.
        by_name = np.argsort(matrix.model_names.astype(str), kind="stable")
        names = matrix.model_names[by_name].tolist()
        parameters, history = train(matrix, validation, names, dim, float(self.alpha), preset, device, seed)
        # Only now: an interrupted fit leaves the estimator as it was.
        self.model_names_, self.history_ = matrix.model_names, history
        self._finish(parameters, by_name)
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        vectors = check_embeddings(embeddings, self.coef_.shape[1])
        logits = torch.addmm(torch.from_numpy(self.intercept_), vectors, torch.from_numpy(self.coef_).T)
        return logits.sigmoid_().numpy()

    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` writes: safetensors, with names and hyperparameters as JSON."""
        check_is_fitted(self, "model_names_")
        hyperparameters = {
            "dim": int(self.dim),
            "alpha": float(self.alpha),
            "preset": self.preset if isinstance(self.preset, str) else asdict(self.preset),
            "random_state": int(self.random_state),
        }
        names, history = self.model_names_.tolist(), self.history_.to_dict(orient="list")
        header = {"hyperparameters": hyperparameters, "model_names": names, "history": history}
        return checkpoints.to_bytes(self.parameters_, header)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted factorization to one file, under a temporary name and then renamed.

        A checksum of names, hyperparameters and tensors goes with them, so that `load` finds any change.
        """
        content = self.to_bytes()
        with replacing(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "auto") -> MatrixFactorization:
        """Read a factorization that `save` wrote, on any machine.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a complete and unchanged one; no pickled object is ever loaded.
        """
        with checkpoints.reading(path, "a factorization written by MatrixFactorization.save"):
            parameters, header = checkpoints.read(path)
            loaded = cls(**header["hyperparameters"], device=device)
            return loaded._restore(parameters, header["model_names"], header["history"])

    @classmethod
    def from_authors(
        cls, path: str | os.PathLike[str], model_names: Iterable[str], device: str = "auto"
    ) -> MatrixFactorization:
        """Read a checkpoint of the authors' trainer: the state dict of their model, written by `torch.save`.

        Their embedding of the training questions (`Q`) is not needed, and the file has no record of the training:
        `history_` is empty, and the other hyperparameters are those of the preset "paper".

        Parameters
        ----------
        path : str or path
        model_names : iterable of str
            Names of the models in the order of the authors' model ids, which is that of `model_order.csv`.
        device : "auto", "cpu" or "cuda"
            For a later `fit`. The checkpoint is read on the CPU, wherever it was written.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, holds objects other than tensors (which are never loaded), lacks a tensor, or has
            tensors that fit neither each other nor the names.
        """
        with checkpoints.reading(path, "a checkpoint of the authors' trainer"):
            parameters = checkpoints.read_authors(path)
            loaded = cls(dim=parameters.model_embeddings.shape[1], preset="paper", device=device)
            return loaded._restore(parameters, [str(name) for name in model_names], {})

    def _restore(self, parameters: Parameters, model_names: list[str], history: dict[str, list[float]]) -> Self:
        """Set the fitted attributes from parameters in the order of the names."""
        checkpoints.check_parameters(parameters, self.dim, model_names)
        self.model_names_ = np.array(model_names, dtype=object)
        self.history_ = pd.DataFrame(history).rename_axis("epoch")
        self._finish(parameters, np.arange(len(model_names)))
        return self

    def _finish(self, parameters: Parameters, by_name: np.ndarray) -> None:
        """Bring the parameters to the CPU, in the order of `model_names_`, and multiply them out."""
        p, w, b, c, a = (value.detach().cpu() for value in parameters)
        p = p[torch.from_numpy(np.argsort(by_name))].contiguous()
        self.parameters_ = Parameters(p, w, b, c, a)
        self.model_embeddings_ = p.numpy().copy()
        # In float64, so that the two forms of the predictor agree to float32 rounding.
        directions = (c[1] - c[0]).double() * p.double()  # (c1 - c0) * p_m      (n_models, dim)
        self.coef_ = (directions @ w.double()).float().numpy()  # u_m       (n_models, width)
        self.intercept_ = (directions @ b.double() + (a[1] - a[0]).double()).float().numpy()  # t_m  (n_models,)

    def _preset(self) -> TrainingPreset:
        if isinstance(self.preset, TrainingPreset):
            return self.preset
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)} or a TrainingPreset, got {self.preset!r}")
        return PRESETS[self.preset]


def _check_validation(matrix: CorrectnessMatrix, validation: object) -> None:
    if not isinstance(validation, CorrectnessMatrix):
        raise TypeError(f"validation must be a CorrectnessMatrix, got {type(validation).__name__}")
    if missing := sorted(set(matrix.model_names) - set(validation.model_names)):
        raise ValueError(f"the validation data lack {len(missing)} of the models, the first {missing[0]!r}")
    widths = matrix.embeddings.shape[1], validation.embeddings.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"question embeddings are {widths[0]} wide in training and {widths[1]} in validation")
