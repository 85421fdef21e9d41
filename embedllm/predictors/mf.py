"""Matrix factorization: the paper's predictor, an embedding of each model learned from its observed answers.

The probability that model m answers question q correctly is the logistic function of::

    z[m, q] = ((c1 - c0) * p_m) . (W (q + alpha e) + b) + (a1 - a0),    e ~ N(0, I) in training, 0 in prediction,

with q the embedding of the question, p_m that of the model, W and b the projection of question embeddings, and c, a the
weights and biases of a classifier with an output for an incorrect (0) and a correct answer (1). Multiplied out,
it is one linear function of q for each model (`coef_` and `intercept_`)::

    z[m, q] = u_m . q + t_m,    u_m = W' ((c1 - c0) * p_m),    t_m = ((c1 - c0) * p_m) . b + (a1 - a0).

There are two solvers: :mod:`embedllm.predictors.exact` finds the optimum of all u_m and t_m, whose best approximation
in `dim` dimensions is then taken (:mod:`embedllm.predictors.coordinates`); :mod:`embedllm.predictors.sgd` trains p_m,
W, b, c and a as the paper does.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable
from copy import copy
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform
from sklearn.utils.validation import check_is_fitted

from embedllm._support.checks import check_device, check_positive, check_seed
from embedllm._support.files import replacing
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors import checkpoints
from embedllm.predictors._answers import Answers
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix, check_validation
from embedllm.predictors.coordinates import Coordinates, model_coordinates
from embedllm.predictors.distributed import agree
from embedllm.predictors.path import choose_and_solve
from embedllm.predictors.sgd import PRESETS, Parameters, TrainingPreset, train

AUTHORS_ALPHA = 0.05

_LEARNED = ("history_", "alpha_", "rho_", "explained_", "n_iter_", "path_")


class MatrixFactorization(CorrectnessPredictor):
    """The paper's embedder of language models.

    Parameters
    ----------
    dim : int
        Size of a model embedding (paper: 232).
    alpha : "auto" or float
        Standard deviation of the noise on the question embeddings, in training only (authors' default: 0.05). For the
        exact solver it is the strength of a ridge penalty, above 0, and "auto" chooses it on the validation questions,
        or without them by 5-fold cross-validation over the questions. For "sgd", "auto" is the authors' default.
    solver : "exact" or "sgd"
        "exact": the optimum, by a convex problem; nothing is random. "sgd": the paper's training.
    prior : None or "pool"
        "pool": a model borrows from the others (:mod:`embedllm.predictors.pool_prior`); better where there are few
        answers a model. For the exact solver.
    rho : "auto" or float
        Of the prior: how far a model may be from what the others have in common, above 0. "auto" chooses it as alpha is
        chosen, and leaves the prior out where that predicts better.
    tol : float
        The exact solver stops when no model's gradient has a larger norm.
    preset : "paper" or a TrainingPreset
        Of "sgd". "paper": 2,048 pairs a step, Adam at 1e-4 with weight decay 1e-5, 50 epochs.
    device : "auto", "cpu" or "cuda"
        "auto" takes a GPU if there is one.
    random_state : int
        Of "sgd": seeds initial values, order of the questions and noise. Same seed, same machine and as many threads:
        same bits.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    model_embeddings_ : ndarray of shape (n_models, dim), float32
        Of the exact solver: ordered by importance, with mean 0 over the models, and such that ``|p_m - p_n|`` is the
        root mean square, over the training questions, of the difference of the two models' logits. Of "sgd": the
        trained vectors, which depend on the random start.
    coef_ : ndarray of shape (n_models, width), float32
        u_m of each model: logits are `embeddings @ coef_.T + intercept_`.
    intercept_ : ndarray of shape (n_models,), float32
        t_m of each model.
    parameters_ : Parameters ("sgd") or Coordinates ("exact"), on the CPU
    dim_ : int
        How many dimensions are not zero for all models: at most n_models - 1 for the exact solver.
    alpha_ : float
        The alpha of the fit.
    rho_ : float or None
        Of "exact": the rho of the fit; None without a prior.
    history_ : DataFrame
        Of "sgd", for each epoch `train_loss` and, with validation data, `val_loss` and `val_accuracy` (per observed
        pair). Of "exact", for each iteration, and the start as number 0, `objective` (mean over the models of loss and
        penalty) and `gradient` (the largest norm).
    explained_ : ndarray of shape (dim,)
        Of "exact": share of the squared logit differences in each dimension.
    ability_ : ndarray of shape (n_models,), float32
        Of "exact": mean logit over the training questions.
    n_iter_ : int
        Of "exact".
    path_ : DataFrame
        Of "exact": `parameter`, `value` and held-out `log_loss` of the strengths that "auto" tried.

    References
    ----------
    EmbedLLM (arXiv:2410.02223), section 4. The noise is in the authors' code only, the exact solver in this package.

    Examples
    --------
    >>> from embedllm import MatrixFactorization, load_dataset
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> mf = MatrixFactorization(dim=8, device="cpu").fit(train, validation=val)
    >>> mf.model_embeddings_.shape, mf.coef_.shape
    ((112, 8), (112, 768))
    >>> mf.predict_proba(test.embeddings).shape
    (30, 112)
    >>> mf.path_.columns.tolist()
    ['parameter', 'value', 'log_loss']
    """

    model_embeddings_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray
    parameters_: Parameters | Coordinates
    dim_: int
    alpha_: float
    rho_: float | None
    history_: pd.DataFrame
    explained_: np.ndarray
    ability_: np.ndarray
    n_iter_: int
    path_: pd.DataFrame

    def __init__(
        self,
        dim: int = 232,
        alpha: float | str = "auto",
        solver: str = "exact",
        prior: str | None = None,
        tol: float = 1e-3,
        preset: str | TrainingPreset = "paper",
        device: str = "auto",
        random_state: int = 0,
        rho: float | str = "auto",
    ) -> None:
        self.dim, self.alpha, self.solver, self.prior, self.rho, self.tol = dim, alpha, solver, prior, rho, tol
        self.preset, self.device, self.random_state = preset, device, random_state

    def fit(self, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None = None) -> Self:
        """Learn model embeddings from the observed cells.

        Parameters
        ----------
        matrix : CorrectnessMatrix
        validation : CorrectnessMatrix, optional
            The exact solver chooses the strength of the penalty on it. "sgd" does not learn from it: its loss is shown
            with the progress and kept in `history_`.

        Raises
        ------
        ValueError
            If a hyperparameter is out of range, the matrix has no observed answer, or the validation data lack a model.
        """
        matrix = check_matrix(matrix)
        self._check_hyperparameters()
        if validation is not None:
            check_validation(matrix, validation)
        device = torch.device(check_device(self.device))
        # Models are fitted in the order of their names, so that the order of the matrix changes nothing.
        by_name = np.argsort(matrix.model_names.astype(str), kind="stable")
        names = matrix.model_names[by_name].tolist()
        parameters: Coordinates | Parameters
        if self.solver == "exact":
            parameters, learned = self._fit_exact(matrix, validation, names, device)
        else:
            parameters, learned = self._fit_sgd(matrix, validation, names, device)
        # Only now: an interrupted fit leaves the estimator as it was.
        self.model_names_ = matrix.model_names
        self._set_learned(learned)
        self._set_parameters(parameters.of_models(torch.from_numpy(np.argsort(by_name))))
        return self

    def _fit_exact(
        self, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None, names: list[str], device: torch.device
    ) -> tuple[Coordinates, dict[str, Any]]:
        agree("models, hyperparameters or kinds of data", (names, self.get_params(), validation is None))
        if self.prior == "pool" and len(names) == 1:
            raise ValueError("prior 'pool' learns from other models, and there is one model only: leave out the prior")
        held_out = None if validation is None else Answers(validation, names, device)
        rho = self.rho if self.prior == "pool" else None
        problem, solution, chosen, path = choose_and_solve(
            Answers(matrix, names, device), held_out, self.alpha, rho, self.tol
        )
        coordinates, explained = model_coordinates(problem, solution.weights, self.dim)
        objective = solution.objective.mean(dim=1).tolist()
        history = pd.DataFrame({"objective": objective, "gradient": solution.gradient})
        return coordinates, {
            "history_": history.rename_axis("iteration"),
            "alpha_": chosen["alpha"],
            "rho_": chosen["rho"],
            "explained_": explained.numpy(),
            "n_iter_": solution.n_iter,
            "path_": path,
        }

    def _fit_sgd(
        self, matrix: CorrectnessMatrix, validation: CorrectnessMatrix | None, names: list[str], device: torch.device
    ) -> tuple[Parameters, dict[str, Any]]:
        alpha = AUTHORS_ALPHA if self.alpha == "auto" else float(self.alpha)
        preset, seed = self._preset(), check_seed(self.random_state)
        parameters, history = train(matrix, validation, names, self.dim, alpha, preset, device, seed)
        return Parameters(*(value.detach().cpu() for value in parameters)), {"history_": history, "alpha_": alpha}

    def truncated(self, dim: int) -> MatrixFactorization:
        """Return the fit with its first `dim` dimensions only: the best approximation of its logits of that rank.

        Raises
        ------
        ValueError
            If the fit has fewer, or the solver was not "exact": the dimensions of the other have no order.
        """
        check_is_fitted(self, "model_names_")
        if not isinstance(self.parameters_, Coordinates):
            raise ValueError("the dimensions of a fit by 'sgd' have no order: fit with solver='exact'")
        if check_positive("dim", dim) > self.dim:
            raise ValueError(f"dim must be at most {self.dim}, that of the fit, got {dim}")
        shorter = copy(self).set_params(dim=dim)
        shorter.explained_ = self.explained_[:dim]
        shorter._set_parameters(self.parameters_.truncated(dim))
        return shorter

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        check_is_fitted(self, "model_names_")
        vectors = check_embeddings(embeddings, self.coef_.shape[1])
        logits = torch.addmm(torch.from_numpy(self.intercept_), vectors, torch.from_numpy(self.coef_).T)
        return logits.sigmoid_().numpy()

    def distances(self, ability: bool = True) -> pd.DataFrame:
        """Return the distances between the model embeddings.

        Parameters
        ----------
        ability : bool
            False leaves out how good a model is whatever the question: of an exact fit, the distance is then the
            standard deviation over the training questions of the difference of two models' logits.

        Returns
        -------
        DataFrame of shape (n_models, n_models)

        Raises
        ------
        ValueError
            If `ability` is False for a fit by "sgd", whose embeddings do not hold it apart.
        """
        check_is_fitted(self, "model_names_")
        squares = pdist(self.model_embeddings_.astype(float), "sqeuclidean")
        if not ability:
            if not hasattr(self, "ability_"):
                raise ValueError("a fit by 'sgd' has no ability_ to leave out: fit with solver='exact'")
            squares -= pdist(self.ability_[:, None].astype(float), "sqeuclidean")
        values = squareform(np.sqrt(squares.clip(min=0)))
        return pd.DataFrame(values, self.model_names_, self.model_names_)

    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` writes: safetensors, with names and hyperparameters as JSON."""
        check_is_fitted(self, "model_names_")
        hyperparameters = {
            "dim": int(self.dim),
            "alpha": self.alpha if self.alpha == "auto" else float(self.alpha),
            "solver": self.solver,
            "prior": self.prior,
            "rho": self.rho if self.rho == "auto" else float(self.rho),
            "tol": float(self.tol),
            "preset": self.preset if isinstance(self.preset, str) else asdict(self.preset),
            "random_state": int(self.random_state),
        }
        learned = {name: _plain(getattr(self, name)) for name in _LEARNED if hasattr(self, name)}
        header = {"hyperparameters": hyperparameters, "model_names": self.model_names_.tolist(), "learned": learned}
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
        with checkpoints.reading(path, "a factorization written by MatrixFactorization.save") as file:
            parameters, header = checkpoints.read(file)
            loaded = cls(**header["hyperparameters"], device=device)
            return loaded._restore(parameters, header["model_names"], header["learned"])

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
        with checkpoints.reading(path, "a checkpoint of the authors' trainer") as file:
            parameters = checkpoints.read_authors(file)
            loaded = cls(dim=parameters.model_embeddings.shape[1], solver="sgd", device=device)
            learned = {"history_": {}, "alpha_": AUTHORS_ALPHA}
            return loaded._restore(parameters, [str(name) for name in model_names], learned)

    def _restore(self, parameters: Parameters | Coordinates, model_names: list[str], learned: dict[str, Any]) -> Self:
        """Set the fitted attributes from parameters in the order of the names."""
        checkpoints.check_parameters(parameters, self.dim, model_names)
        self.model_names_ = np.array(model_names, dtype=object)
        index = "iteration" if self.solver == "exact" else "epoch"
        frames = {name: pd.DataFrame(learned[name]) for name in ("history_", "path_") if name in learned}
        frames["history_"] = frames["history_"].rename_axis(index)
        arrays = {name: np.array(learned[name]) for name in ("explained_",) if name in learned}
        self._set_learned(learned | frames | arrays)
        self._set_parameters(parameters)
        return self

    def _set_learned(self, learned: dict[str, Any]) -> None:
        """Set what was learned beside the parameters; what an earlier fit by the other solver learned goes."""
        for name in (*_LEARNED, "ability_"):
            self.__dict__.pop(name, None)
        for name in _LEARNED:
            if name in learned:
                setattr(self, name, learned[name])

    def _set_parameters(self, parameters: Parameters | Coordinates) -> None:
        """Set the parameters, in the order of `model_names_`, and what follows from them."""
        self.parameters_ = parameters
        self.model_embeddings_ = parameters.model_embeddings.numpy().copy()
        self.dim_ = int(self.model_embeddings_.any(axis=0).sum())
        # In float64, so that the two forms of the predictor agree to float32 rounding.
        u, t = parameters.multiplied_out()
        self.coef_, self.intercept_ = u.float().numpy(), t.float().numpy()
        if isinstance(parameters, Coordinates):
            self.ability_ = parameters.ability.numpy().copy()

    def _check_hyperparameters(self) -> None:
        check_positive("dim", self.dim)
        self._preset()
        if self.solver not in ("exact", "sgd"):
            raise ValueError(f"solver must be 'exact' or 'sgd', got {self.solver!r}")
        if self.prior not in (None, "pool"):
            raise ValueError(f"prior must be None or 'pool', got {self.prior!r}")
        if self.prior == "pool" and self.solver == "sgd":
            raise ValueError("prior 'pool' is for the exact solver: leave out solver='sgd', or the prior")
        if self.rho != "auto" and not (isinstance(self.rho, numbers.Real) and 0 < self.rho < float("inf")):
            raise ValueError(f"rho must be 'auto' or a number above 0, got {self.rho!r}")
        if not (isinstance(self.tol, numbers.Real) and 0 < self.tol < float("inf")):
            raise ValueError(f"tol must be a number above 0, got {self.tol!r}")
        least = "of at least 0" if self.solver == "sgd" else "above 0"
        number = isinstance(self.alpha, numbers.Real) and 0 <= self.alpha < float("inf")
        if self.alpha != "auto" and not (number and (self.alpha > 0 or self.solver == "sgd")):
            raise ValueError(f"alpha must be 'auto' or a number {least}, got {self.alpha!r}")

    def _preset(self) -> TrainingPreset:
        if isinstance(self.preset, TrainingPreset):
            return self.preset
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)} or a TrainingPreset, got {self.preset!r}")
        return PRESETS[self.preset]


def _plain(value: Any) -> Any:
    """Return a value as JSON takes it."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict(orient="list")
    return value.tolist() if isinstance(value, np.ndarray) else value
