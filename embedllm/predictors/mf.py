"""Matrix factorization: a vector for each model, learned from which questions it answers rightly.

The logit difference of model m on question q is::

    z[m, q] = ((c1 - c0) * p_m) . (W (q + alpha e) + b) + (a1 - a0),    e ~ N(0, I),

with p_m the model embedding, W and b the projection of the question embedding, and c, a the weights and biases of the
two-output classifier. The authors' trainer projects the question of every *pair*. The projection depends on the
question alone, so a step here takes a block of questions with all models: one projection a question and one small
product with the model embeddings. The noise e is then shared by the models of a question, which changes no pair's
distribution and so neither the expected loss nor its gradient.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch.nn import functional
from tqdm import tqdm

from embedllm._checks import check_device, check_positive, check_seed, name_positions
from embedllm._files import replacing
from embedllm.matrix import NOT_OBSERVED, CorrectnessMatrix
from embedllm.predictors._threads import single_threaded
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix
from embedllm.predictors.distributed import Shares

_EVALUATED = 8192  # validation questions at a time
_SMALL = 60_000_000  # multiply-adds of a step, forward: below, threads wait for each other longer than they compute


@dataclass(frozen=True)
class TrainingPreset:
    """How the factorization is trained.

    Parameters
    ----------
    pairs_per_step : int
        Observed (model, question) pairs in an optimiser step, rounded to whole questions.
    epochs : int
        Passes over the training questions.
    min_steps : int
        A small data set gets more passes, until it has had this many steps.
    learning_rate, weight_decay : float
        Of Adam; with `one_cycle`, the rate is the peak of a one-cycle schedule.
    one_cycle : bool
    """

    pairs_per_step: int
    epochs: int
    learning_rate: float
    weight_decay: float
    one_cycle: bool = False
    min_steps: int = 0

    def __post_init__(self) -> None:
        check_positive("pairs_per_step", self.pairs_per_step)

    def schedule(self, n_questions: int, n_pairs: int) -> Schedule:
        """Return what the preset comes to on so many questions with so many observed pairs."""
        block = max(1, round(self.pairs_per_step / (n_pairs / n_questions)))
        steps_per_epoch = -(-n_questions // block)
        return Schedule(block, steps_per_epoch, max(self.epochs, -(-self.min_steps // steps_per_epoch)))


class Schedule(NamedTuple):
    """A training preset on a data set.

    Attributes
    ----------
    block : int
        Questions in an optimiser step.
    steps_per_epoch : int
    epochs : int
    """

    block: int
    steps_per_epoch: int
    epochs: int


PRESETS = {
    "paper": TrainingPreset(pairs_per_step=2048, epochs=50, learning_rate=1e-4, weight_decay=1e-5),
    "fast": TrainingPreset(
        pairs_per_step=14_336, epochs=10, learning_rate=3e-3, weight_decay=1e-5, one_cycle=True, min_steps=600
    ),
}


class Parameters(NamedTuple):
    """Trainable tensors, named after the authors' modules."""

    model_embeddings: torch.Tensor  # P           (n_models, dim)
    projection: torch.Tensor  # text_proj.weight  (dim, width)
    projection_bias: torch.Tensor  # text_proj.bias    (dim,)
    classifier: torch.Tensor  # classifier.weight (2, dim), row 1 scores a right answer
    classifier_bias: torch.Tensor  # classifier.bias   (2,)


def init_parameters(n_models: int, width: int, dim: int, generator: torch.Generator) -> Parameters:
    """Draw initial parameters as PyTorch does for `Embedding` and `Linear`, from a generator of their own, float32."""

    def uniform(*shape: int, fan_in: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) / fan_in**0.5

    return Parameters(
        model_embeddings=torch.randn(n_models, dim, generator=generator),
        projection=uniform(dim, width, fan_in=width),
        projection_bias=uniform(dim, fan_in=width),
        classifier=uniform(2, dim, fan_in=dim),
        classifier_bias=uniform(2, fan_in=dim),
    )


def block_logits(parameters: Parameters, questions: torch.Tensor) -> torch.Tensor:
    """Logit difference of every model on a block of questions.

    Parameters
    ----------
    parameters : Parameters
    questions : tensor of shape (n_questions, width)
        Question embeddings, with the noise added where there is one.

    Returns
    -------
    tensor of shape (n_questions, n_models)
    """
    p, w, b, c, a = parameters
    projected = torch.addmm(b, questions, w.T)  # (n_questions, dim)
    directions = (c[1] - c[0]) * p  # (n_models, dim)
    return torch.addmm((a[1] - a[0]).expand(len(p)), projected, directions.T)


def block_loss(
    parameters: Parameters, questions: torch.Tensor, labels: torch.Tensor, n_observed: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean cross-entropy over the observed pairs of a block.

    Softmax over two outputs is the logistic function of their difference, so this equals the authors' cross-entropy
    on the pairs of the block.

    Parameters
    ----------
    parameters : Parameters
    questions : tensor of shape (n_questions, width)
    labels : tensor of shape (n_questions, n_models), floating
        1, 0, or -1 where not observed.
    n_observed : tensor, a scalar, optional
        Observed pairs of the whole block, where these questions are a part of it: the losses of its parts add up.

    Returns
    -------
    tensor, a scalar
        0 if no pair of the block is observed.
    """
    logits = block_logits(parameters, questions)
    observed = (labels != NOT_OBSERVED).to(logits.dtype)
    total = functional.binary_cross_entropy_with_logits(logits, labels, weight=observed, reduction="sum")
    return total / (observed.sum() if n_observed is None else n_observed).clamp(min=1)


class MatrixFactorization(CorrectnessPredictor):
    """The paper's embedder of language models.

    Parameters
    ----------
    dim : int
        Size of a model embedding (paper: 232).
    alpha : float
        Standard deviation of the noise on the question embeddings, in training only (authors' default: 0.05).
    preset : "fast", "paper", or a TrainingPreset
        "paper": 2,048 pairs a step, Adam at 1e-4 with weight decay 1e-5, 50 epochs. "fast": larger blocks, a
        one-cycle schedule and fewer epochs; a test holds its validation loss against the other's.
    device : "auto", "cpu" or "cuda"
        "auto" takes a GPU if there is one.
    random_state : int
        Seeds initial values, order of the questions and noise. Same seed, same machine and as many threads: same bits.

    Attributes
    ----------
    model_names_ : ndarray of shape (n_models,)
    model_embeddings_ : ndarray of shape (n_models, dim), float32
    coef_ : ndarray of shape (n_models, width), float32
        The same predictor with everything multiplied out: logits are `embeddings @ coef_.T + intercept_`.
    intercept_ : ndarray of shape (n_models,), float32
    parameters_ : Parameters, on the CPU
    history_ : DataFrame
        For each epoch `train_loss` and, with validation data, `val_loss` and `val_accuracy` (per observed pair).
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
            Watched, not learned from: its loss is shown with the progress and kept in `history_`.

        Raises
        ------
        ValueError
            If a hyperparameter is out of range, or the matrix holds no observed answer.
        """
        matrix = check_matrix(matrix)
        dim, preset = check_positive("dim", self.dim), self._preset()
        device = torch.device(check_device(self.device))
        if not (isinstance(self.alpha, numbers.Real) and 0 <= self.alpha < float("inf")):
            raise ValueError(f"alpha must be a number of at least 0, got {self.alpha!r}")
        seed = check_seed(self.random_state)
        generator, noise_generator = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)

        # Models are trained in the order of their names, so that the order of the matrix changes nothing.
        by_name = np.argsort(matrix.model_names.astype(str), kind="stable")
        shares = Shares(matrix.n_questions, device)
        names = matrix.model_names[by_name].tolist()
        shares.agree("models, hyperparameters or kinds of data", (names, self._hyperparameters(), validation is None))
        answers = _Answers(matrix, names, device)
        if validation is not None:
            _check_validation(matrix, validation)
            held_out = _Answers(validation, names, device)
        initial = init_parameters(matrix.n_models, matrix.embeddings.shape[1], dim, generator)
        parameters = Parameters(*(value.to(device).requires_grad_() for value in initial))

        n_observed = shares.of_all(matrix.observed.sum(axis=0))  # (n_questions of all processes,)
        block, steps_per_epoch, epochs = preset.schedule(shares.n_questions, int(n_observed.sum()))
        optimizer = torch.optim.Adam(parameters, lr=preset.learning_rate, weight_decay=preset.weight_decay, fused=True)
        scheduler = (
            torch.optim.lr_scheduler.OneCycleLR(optimizer, preset.learning_rate, total_steps=epochs * steps_per_epoch)
            if preset.one_cycle
            else None
        )
        history = []
        progress = tqdm(range(epochs), desc=f"MF dim {dim}", unit="epoch", disable=None if shares.first == 0 else True)
        small = block * dim * (matrix.embeddings.shape[1] + matrix.n_models) < _SMALL
        with single_threaded() if small and device.type == "cpu" else nullcontext():
            for _ in progress:
                order = torch.randperm(shares.n_questions, generator=generator)
                pairs = torch.stack([part.sum() for part in n_observed[order].split(block)]).to(device)
                losses = torch.zeros(steps_per_epoch, device=device)
                for step, (rows, places, size) in enumerate(_steps(order, block, shares, matrix.n_questions, device)):
                    batch, labels = answers.block(rows)
                    if self.alpha:
                        # Of the whole block in every process, so that their number changes nothing.
                        noise = torch.empty((size, batch.shape[1]), device=device).normal_(generator=noise_generator)
                        batch.add_(noise if shares.alone else noise[places], alpha=float(self.alpha))
                    loss = block_loss(parameters, batch, labels, pairs[step])
                    optimizer.zero_grad()
                    loss.backward()
                    shares.add_up(value.grad for value in parameters if value.grad is not None)
                    optimizer.step()
                    if scheduler is not None:
                        scheduler.step()
                    losses[step] = loss.detach()
                shares.add_up([losses])
                record = {"train_loss": float(losses.mean())}
                if validation is not None:
                    record |= _evaluate(parameters, held_out, shares)
                history.append(record)
                progress.set_postfix(record)
        # Only now: an interrupted fit leaves the estimator as it was.
        self.model_names_ = matrix.model_names
        self._finish(parameters, by_name)
        self.history_ = pd.DataFrame(history).rename_axis("epoch")
        return self

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        self._check_fitted()
        vectors = check_embeddings(embeddings, self.coef_.shape[1])
        logits = torch.addmm(torch.from_numpy(self.intercept_), vectors, torch.from_numpy(self.coef_).T)
        return logits.sigmoid_().numpy()

    def to_bytes(self) -> bytes:
        """Content of the file that `save` writes: safetensors, with names and hyperparameters as JSON in its header."""
        self._check_fitted()
        header: dict[str, Any] = {
            "hyperparameters": self._hyperparameters(),
            "model_names": self.model_names_.tolist(),
            "history": self.history_.to_dict(orient="list"),
        }
        header["sha256"] = _checksum(header, self.parameters_)
        return serialize(self.parameters_._asdict(), metadata={"embedllm": json.dumps(header)})

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
        _check_file(path)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                header = dict(json.loads(file.metadata()["embedllm"]))
                parameters = Parameters(*(file.get_tensor(name) for name in Parameters._fields))
            if "sha256" not in header:
                raise ValueError("it has no checksum, like files of earlier versions: fit and save it again")
            if header.pop("sha256") != _checksum(header, parameters):
                raise ValueError("its content differs from its checksum")
            hyperparameters = header["hyperparameters"]
            if isinstance(hyperparameters["preset"], dict):
                hyperparameters["preset"] = TrainingPreset(**hyperparameters["preset"])
            return cls(**hyperparameters, device=device)._restore(parameters, header["model_names"], header["history"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a factorization written by MatrixFactorization.save: {error}") from error

    @classmethod
    def from_authors(
        cls, path: str | os.PathLike[str], model_names: Iterable[str], device: str = "auto"
    ) -> MatrixFactorization:
        """Read a checkpoint of the authors' trainer: the state dict of their model, written by `torch.save`.

        Their embedding of the training questions (`Q`) is of no use here, and nothing tells how the training went:
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
        _check_file(path)
        try:
            if zipfile.is_zipfile(path):  # all but files of before PyTorch 1.6; torch.load leaves checksums unread
                with zipfile.ZipFile(path) as archive:
                    if (damaged := archive.testzip()) is not None:
                        raise ValueError(f"{damaged} differs from its checksum")
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # neither reader keeps to a few classes of errors
            raise ValueError(
                f"{path} is not a checkpoint of the authors' trainer: it is damaged, or holds objects other than "
                f"tensors, which are never loaded"
            ) from error
        try:
            parameters = Parameters(
                _tensor(state, 2, "P.weight"),
                _tensor(state, 2, "text_proj.weight", "text_proj.0.weight"),
                _tensor(state, 1, "text_proj.bias", "text_proj.0.bias"),
                _tensor(state, 2, "classifier.weight", "classifier.0.weight"),
                _tensor(state, 1, "classifier.bias", "classifier.0.bias"),
            )
            loaded = cls(dim=parameters.model_embeddings.shape[1], preset="paper", device=device)
            return loaded._restore(parameters, [str(name) for name in model_names], {})
        except ValueError as error:
            raise ValueError(f"{path} is not a checkpoint of the authors' trainer: {error}") from error

    def _restore(self, parameters: Parameters, model_names: list[str], history: dict[str, list[float]]) -> Self:
        """Take over what a fit had learned.

        Raises
        ------
        ValueError
            If the tensors fit neither each other nor the names, or a value is not finite.
        """
        n_models, width, dim = len(parameters.model_embeddings), parameters.projection.shape[1], self.dim
        if [tuple(value.shape) for value in parameters] != [(n_models, dim), (dim, width), (dim,), (2, dim), (2,)]:
            found = ", ".join(f"{name} {tuple(value.shape)}" for name, value in parameters._asdict().items())
            raise ValueError(f"the shapes of its tensors do not fit each other: {found}")
        if not len(set(model_names)) == len(model_names) == n_models:
            raise ValueError(
                f"{len(set(model_names))} different names, which does not fit the model embeddings: {n_models} rows"
            )
        if not all(bool(value.isfinite().all()) for value in parameters):
            raise ValueError("a parameter is not finite")
        self.model_names_ = np.array(model_names, dtype=object)
        self.history_ = pd.DataFrame(history).rename_axis("epoch")
        self._finish(parameters, np.arange(n_models))
        return self

    def _finish(self, parameters: Parameters, by_name: np.ndarray) -> None:
        """Bring the parameters to the CPU, in the order of `model_names_`, and multiply them out."""
        p, w, b, c, a = (value.detach().cpu() for value in parameters)
        back = torch.from_numpy(np.argsort(by_name))
        p = p[back].contiguous()
        self.parameters_ = Parameters(p, w, b, c, a)
        self.model_embeddings_ = p.numpy().copy()
        # In float64, so that the two forms of the predictor agree to float32 rounding.
        directions = (c[1] - c[0]).double() * p.double()  # (n_models, dim)
        self.coef_ = (directions @ w.double()).float().numpy()
        self.intercept_ = (directions @ b.double() + (a[1] - a[0]).double()).float().numpy()

    def _hyperparameters(self) -> dict[str, Any]:
        """What decides a fit, but for the device, as JSON can say it."""
        return {
            "dim": int(self.dim),
            "alpha": float(self.alpha),
            "preset": self.preset if isinstance(self.preset, str) else asdict(self.preset),
            "random_state": int(self.random_state),
        }

    def _preset(self) -> TrainingPreset:
        if isinstance(self.preset, TrainingPreset):
            return self.preset
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)} or a TrainingPreset, got {self.preset!r}")
        return PRESETS[self.preset]


def _check_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")


def _checksum(header: dict[str, Any], parameters: Parameters) -> str:
    """SHA-256 of everything that a file says."""
    total = hashlib.sha256(json.dumps(header).encode())
    for name, value in parameters._asdict().items():
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.numpy())
    return total.hexdigest()


def _tensor(state: object, ndim: int, *names: str) -> torch.Tensor:
    """Tensor of the first of these names that a state dict holds, in float32."""
    if isinstance(state, Mapping):
        for name in names:
            value = state.get(name)
            if isinstance(value, torch.Tensor) and _is_dense(value) and value.ndim == ndim:
                return value.float().contiguous()
    raise ValueError(f"it holds no {names[0]}, a dense tensor of floating-point numbers with {ndim} dimension(s)")


def _is_dense(value: torch.Tensor) -> bool:
    """Whether a tensor is one of numbers in memory: a sparse or a nested one is not, nor one of the device "meta"."""
    plain = value.layout is torch.strided and not value.is_nested and value.device.type == "cpu"
    return plain and value.is_floating_point()


def _check_validation(matrix: CorrectnessMatrix, validation: object) -> None:
    if not isinstance(validation, CorrectnessMatrix):
        raise TypeError(f"validation must be a CorrectnessMatrix, got {type(validation).__name__}")
    if missing := sorted(set(matrix.model_names) - set(validation.model_names)):
        raise ValueError(f"the validation data lack {len(missing)} of the models, the first {missing[0]!r}")
    widths = matrix.embeddings.shape[1], validation.embeddings.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"question embeddings are {widths[0]} wide in training and {widths[1]} in validation")


class _Answers:
    """Question embeddings and labels for the models named: on a GPU for good, on the CPU a block at a time.

    Embeddings are not copied as a whole on the CPU, where they may be a file mapped to memory that is larger than it.
    """

    def __init__(self, matrix: CorrectnessMatrix, model_names: list[str], device: torch.device) -> None:
        on_cpu = device.type == "cpu"
        self._embeddings = matrix.embeddings if on_cpu else torch.tensor(matrix.embeddings, device=device)
        positions = name_positions("model", model_names, matrix.model_names)
        self._labels = torch.tensor(matrix.labels[positions].T, device=device).contiguous()  # (n_questions, n_models)

    def __len__(self) -> int:
        return len(self._labels)

    def block(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (n_rows, width) and labels (n_rows, n_models) of some questions, copied, float32."""
        if isinstance(self._embeddings, torch.Tensor):
            return self._embeddings[rows], self._labels[rows].float()
        return torch.from_numpy(self._embeddings[rows.numpy()]), self._labels[rows].float()


def _steps(
    order: torch.Tensor, block: int, shares: Shares, n_own: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """For each step of an epoch, the own questions of its block, their places in it, and the size of the block.

    All of an epoch goes to the device at once: a GPU is never waited for between steps.
    """
    own = (order >= shares.first) & (order < shares.first + n_own)
    n_rows = [int(part.sum()) for part in own.split(block)]
    rows = (order[own] - shares.first).to(device).split(n_rows)
    places = (torch.arange(len(order)) % block)[own].to(device).split(n_rows)
    yield from zip(rows, places, [len(part) for part in order.split(block)], strict=True)


@torch.no_grad()
def _evaluate(parameters: Parameters, answers: _Answers, shares: Shares) -> dict[str, float]:
    """Loss and accuracy over the observed pairs of all processes; NaN if there are none."""
    device = parameters.classifier.device
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, rightly predicted and observed pairs
    for rows in torch.arange(len(answers), device=device).split(_EVALUATED):
        questions, labels = answers.block(rows)
        observed = labels != NOT_OBSERVED
        agrees = (block_logits(parameters, questions) > 0) == (labels == 1)
        loss = block_loss(parameters, questions, labels) * observed.sum()
        sums += torch.stack([loss, (agrees & observed).sum(), observed.sum()])
    shares.add_up([sums])
    loss, right, n_observed = sums.tolist()
    if not n_observed:
        return {"val_loss": float("nan"), "val_accuracy": float("nan")}
    return {"val_loss": loss / n_observed, "val_accuracy": right / n_observed}
