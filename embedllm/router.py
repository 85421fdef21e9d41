"""A router for new questions: an encoder and a fitted predictor in one object, and in one folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.utils.validation import check_is_fitted

from embedllm._support.checks import check_positive
from embedllm._support.files import user_path
from embedllm.datasets.encoder import DEFAULT_ENCODER, encode_questions, find_encoder
from embedllm.datasets.encoder_check import check_encoder
from embedllm.datasets.prices import affordable, complete_prices, price_penalties
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors import router_files, router_hub
from embedllm.predictors.base import CorrectnessPredictor, check_embeddings, check_matrix
from embedllm.predictors.familiarity import Familiarity
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.placement import place_beside
from embedllm.predictors.ranking import NewModel, pool_logits, positions_among, priced_scores, ranked
from embedllm.predictors.stacked import StackedCorrectness


class Router:
    """Send each question to the model with the highest predicted probability of a correct answer.

    Ties go to the model whose name comes first in sorted order, as in `embedllm.studies.routing`.

    Parameters
    ----------
    predictor : CorrectnessPredictor
        A fitted predictor, such as `MatrixFactorization.from_authors` returns.
    encoder : str or path
        The encoder on whose vectors the predictor was fitted: a Hub id, or a local folder. This cannot be checked
        here; `Router.fit` checks it.
    device : "auto", "cpu", "cuda", or a list such as ["cuda:0", "cuda:1"]
        Where the encoder runs (see `encode_questions`).

    Attributes
    ----------
    predictor : CorrectnessPredictor
    encoder : Encoder
    device : str or list of str
    new_models : dict of str to NewModel
        What `add_model` added.
    familiarity : Familiarity or None
        Tells which questions are unlike those of the data; None unless `fit` learned it.

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

    >>> from embedllm import Router, load_dataset
    >>> router = Router.fit(load_dataset("zeroeval"))  # doctest: +SKIP
    >>> router.route(["What is 7 times 8?"])[["model", "probability"]]  # doctest: +SKIP
    >>> router.save("my-router")  # doctest: +SKIP
    """

    def __init__(
        self,
        predictor: CorrectnessPredictor,
        encoder: str | os.PathLike[str] = DEFAULT_ENCODER,
        device: str | list[str] = "auto",
    ) -> None:
        if not isinstance(predictor, CorrectnessPredictor):
            raise TypeError(f"predictor must be a CorrectnessPredictor, got {type(predictor).__name__}")
        check_is_fitted(predictor, "model_names_")
        self.predictor, self.encoder, self.device = predictor, find_encoder(encoder), device
        self.new_models: dict[str, NewModel] = {}
        self.familiarity: Familiarity | None = None

    def __repr__(self) -> str:
        return f"Router of {len(self.model_names)} models: {self.predictor!r} on vectors of {self.encoder.name}"

    @classmethod
    def fit(
        cls,
        matrix: CorrectnessMatrix,
        predictor: CorrectnessPredictor | None = None,
        *,
        encoder: str | os.PathLike[str] | None = None,
        device: str | list[str] = "auto",
    ) -> Router:
        """Fit a predictor to all observed answers of a matrix whose embeddings come from the encoder.

        Parameters
        ----------
        matrix : CorrectnessMatrix
            Its questions need the column `prompt`.
        predictor : CorrectnessPredictor, optional
            The predictor to fit. By default a `StackedCorrectness`, which weighs matrix factorization, KNN and the
            baseline by cross-validation: which of them is the best differs from pool to pool.
        encoder : str or path, optional
            By default the one that the matrix names (`matrix.encoder`), or the paper's if it names none.
        device : str or list of str
            Where the encoder runs.

        Raises
        ------
        TypeError
            If `matrix` is not a CorrectnessMatrix.
        ValueError
            If the questions have no prompt, or their embeddings do not come from this encoder: on the vectors of
            another encoder, the choices of a router are arbitrary. The questions are not encoded again.
        """
        known = check_matrix(matrix).encoder
        encoder = encoder or (DEFAULT_ENCODER if known is None else known.name)
        check_encoder(matrix, encoder, device)
        # In the order of the names, so that the order of the matrix changes nothing.
        matrix = matrix.subset(models=sorted(matrix.model_names))
        router = cls((predictor or StackedCorrectness(told_benchmark=False)).fit(matrix), encoder, device)
        router.familiarity = Familiarity.learn(matrix.embeddings)
        return router

    @property
    def model_names(self) -> np.ndarray:
        """The models of the predictor, then the new ones, (n_models,), text."""
        return np.array([*self.predictor.model_names_, *self.new_models], dtype=object)

    @property
    def factorization(self) -> MatrixFactorization:
        """The predictor, if it is a matrix factorization, or the matrix factorization in a stack.

        Raises
        ------
        AttributeError
            If there is no matrix factorization.
        """
        parts = self.predictor.parts_.values() if isinstance(self.predictor, StackedCorrectness) else [self.predictor]
        found = [part for part in parts if isinstance(part, MatrixFactorization)]
        if not found:
            kind = type(self.predictor).__name__
            raise AttributeError(f"there is no matrix factorization in the {kind} of this router: fit one that has it")
        return found[0]

    def add_model(self, name: str, answers: Mapping[str, object], pool: CorrectnessMatrix | None = None) -> Self:
        """Add a new model to choose from, with a few of its answers; the others are not trained again.

        The probabilities of the new model come from the matrix factorization alone, also in a stack, whatever its
        weight there. The fewer answers there are, the closer they are to the mean of the pool.

        Parameters
        ----------
        name : str
        answers : mapping of str to bool, or Series
            Maps the text of a question to whether the model answers it correctly (True or 1, False or 0).
        pool : CorrectnessMatrix, optional
            Answers of models of the factorization, on which the strengths tau and rho of the prior are chosen; by
            default tau = 1 and rho = 0.1.

        Returns
        -------
        Router
            The same object.

        Raises
        ------
        AttributeError
            If the router has no matrix factorization.
        TypeError
            If a question is not text.
        ValueError
            If the name is taken, there is no answer, an answer is neither correct nor incorrect, or a text is empty.

        Examples
        --------
        >>> from embedllm import Router
        >>> router = Router.load("my-router")  # doctest: +SKIP
        >>> router.add_model("new", {"What is 7 times 8?": True, "What is 2 to the 9th?": False})  # doctest: +SKIP
        """
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"the new model needs a name, got {name!r}: pass a text")
        if name in self.model_names:
            raise ValueError(f"there is a model {name!r} already: give the new one another name")
        texts, values = zip(*answers.items(), strict=True) if len(answers) else ((), ())
        if not texts:
            raise ValueError(f"there is no answer of {name!r}: pass some, as {{question: True or False}}")
        for text, value in zip(texts, values, strict=True):
            if value not in (0, 1):
                raise ValueError(f"the answer of {name!r} to {text!r} is {value!r}: pass True or False, or omit it")
        factorization = self.factorization
        vectors = check_embeddings(self._encode(list(texts)), factorization.coef_.shape[1])
        placed = place_beside(factorization, vectors, np.array(values, dtype=float), pool)
        self.new_models[name] = NewModel(placed.weights[:, 0].float().numpy(), placed.spreads[0].float().numpy())
        return self

    def route(
        self,
        texts: Sequence[str],
        *,
        models: Sequence[str] | None = None,
        min_probability: float = 0.0,
        fallback: str | None = None,
        prices: Mapping[str, float] | pd.Series | None = None,
        max_cost: float | None = None,
        tradeoff: float | None = None,
    ) -> pd.DataFrame:
        """Choose a model for each question.

        Parameters
        ----------
        texts : sequence of str
        models : sequence of str, optional
            The models to choose among; by default all.
        min_probability : float
            A question for which no model reaches this probability goes to the fallback.
        fallback : str, optional
            A model, or any other name, such as that of a person. Its price does not count.
        prices : mapping of str to float, or Series, optional
            What a question costs with each of the models, in any unit.
        max_cost : float, optional
            Models whose price is higher are not chosen.
        tradeoff : float, optional
            Choose the model with the highest probability minus `tradeoff` times its price; with a minimum probability,
            among the models that reach it.

        Returns
        -------
        DataFrame
            A row for each text. Columns: `question`, `model`, `probability` (float32), and the second choice in
            `runner_up` and `runner_up_probability`, which are None and NaN in a pool of one model. If a question goes
            to the fallback, `model` is its name, `probability` is NaN unless it is a model of the pool, and the
            runner-up is the best of the other models. `unfamiliar` (bool): the question is less similar to its nearest
            question of the data than 99 % of these are to theirs, so that the probabilities mean little; False too if
            the router has no `familiarity`.

        Raises
        ------
        TypeError
            If `texts` is a single text, or an entry is not text.
        KeyError
            If a model is unknown.
        ValueError
            If a text is empty, the encoder gives vectors of another width than the predictor was fitted on,
            `min_probability` is not between 0 and 1, an option is given without the one that it needs, a price is
            missing, no model costs at most `max_cost`, or the tradeoff is negative.
        """
        if not 0 <= min_probability <= 1:
            raise ValueError(f"min_probability must be between 0 and 1, got {min_probability!r}")
        if (min_probability > 0) != bool(fallback):
            raise ValueError("min_probability and fallback go together: pass both, or none of them")
        names, penalties = self.model_names, np.zeros(1)
        kept = positions_among(names, models)
        if (prices is None) != (max_cost is None and tradeoff is None):
            raise ValueError("prices go with max_cost or tradeoff: pass prices=... (--prices) and one of them")
        if prices is not None:
            table = affordable(complete_prices(prices, names[kept]), max_cost)
            kept, penalties = positions_among(names, table.index), price_penalties(table.to_numpy(), tradeoff or 0.0)
        texts, logits, unfamiliar = self._logits(texts)
        scores = priced_scores(expit(logits[:, kept]), penalties, min_probability) if tradeoff else logits[:, kept]
        names, probability = ranked(names, logits, kept, scores, 2)
        for row in np.flatnonzero(probability[:, 0] < min_probability):
            if names[row, 0] != fallback:
                names[row], probability[row, 1] = (fallback, names[row, 0]), probability[row, 0]
                known = np.flatnonzero(self.model_names == fallback)
                probability[row, 0] = expit(logits[row, known[0]]) if len(known) else np.nan
        return pd.DataFrame(
            {
                "question": pd.Series(texts, dtype=object),
                "model": pd.Series(names[:, 0], dtype=object),
                "probability": probability[:, 0],
                "runner_up": pd.Series(names[:, 1], dtype=object),
                "runner_up_probability": probability[:, 1],
                "unfamiliar": unfamiliar,
            }
        )

    def rank(self, texts: Sequence[str], top: int = 3, *, models: Sequence[str] | None = None) -> pd.DataFrame:
        """List the models most likely to be correct on each question, the best first.

        Parameters
        ----------
        texts : sequence of str
        top : int
            How many models, at most.
        models : sequence of str, optional
            The models to choose among; by default all.

        Returns
        -------
        DataFrame
            A row for each question and model. Columns: `question`, `rank` (from 1), `model`, `probability` (float32),
            `unfamiliar` (bool), as in `route`.

        Raises
        ------
        TypeError, KeyError, ValueError
            As in `route`, or if `top` is not a positive whole number.
        """
        check_positive("top", top)
        kept = positions_among(self.model_names, models)
        texts, logits, unfamiliar = self._logits(texts)
        names, probability = ranked(self.model_names, logits, kept, logits[:, kept], top)
        known = ~np.isnan(probability)  # the pool may have fewer models
        rows, ranks = known.nonzero()
        return pd.DataFrame(
            {
                "question": pd.Series(np.array(texts, dtype=object)[rows], dtype=object),
                "rank": ranks + 1,
                "model": names[known],
                "probability": probability[known],
                "unfamiliar": unfamiliar[rows],
            }
        )

    def _logits(self, texts: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return the texts, the logits of `model_names`, (n_questions, n_models), and which texts are unfamiliar."""
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of questions, got the text {texts[:40]!r}: pass [text]")
        texts = list(texts)
        vectors = self._encode(texts)
        unfamiliar = np.zeros(len(texts), bool) if self.familiarity is None else self.familiarity.is_unfamiliar(vectors)
        return texts, pool_logits(self.predictor, vectors, self.new_models), unfamiliar

    def _encode(self, texts: list[str]) -> np.ndarray:
        """Return the vectors of questions, (n_questions, width)."""
        for position, text in enumerate(texts):
            if isinstance(text, str) and not text.strip():
                raise ValueError(f"question {position} is empty: there is nothing to route")
        return encode_questions(texts, self.encoder.folder, device=self.device)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the router to a folder: `router.json` and the files of the parts that it names.

        The encoder is not copied. One from a local folder is recorded by its path, so a router that you want to publish
        needs the Hub id of its encoder. A fitted router contains the vectors of at most 2,048 training questions; a
        stack with KNN contains the vectors and the answers of all of them. No texts are saved.

        The new files are written beside the old ones, and then `router.json` is replaced in one step: even after an
        interruption, the folder contains either the old router or the new one. Other files in it stay as they are.

        Raises
        ------
        TypeError
            If the predictor is neither a `MatrixFactorization` nor a `StackedCorrectness` of the standard parts.
        """
        contents = {}
        if isinstance(self.predictor, StackedCorrectness):
            contents["stack"] = router_files.stack_to_bytes(self.predictor)
        elif not isinstance(self.predictor, MatrixFactorization):
            kind = type(self.predictor).__name__
            raise TypeError(f"a router of {kind} cannot be saved: fit a MatrixFactorization or a StackedCorrectness")
        contents["weights"] = self.factorization.to_bytes()
        if self.new_models:
            contents["new_models"] = router_files.models_to_bytes(self.new_models)
        if self.familiarity is not None:
            contents["training"] = router_files.familiarity_to_bytes(self.familiarity)
        router_files.write(user_path(folder), contents, self.encoder)

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
            Where to find the encoder on this machine, if not under the name that it had when the router was saved.
        device : str or list of str
            Where the encoder runs.

        Raises
        ------
        FileNotFoundError
            If there is no router in the folder, a part of it is missing, or there is no such encoder.
        ConnectionError
            If the encoder has to be downloaded and cannot be.
        ValueError
            If the files are damaged, or the encoder is not that of the router.
        """
        saved = router_files.read(user_path(folder))
        known = saved.encoder
        try:
            router = cls(saved.predictor, known["name"] if encoder is None else encoder, device)
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
        router.new_models, router.familiarity = saved.new_models, saved.familiarity
        return router

    def push_to_hub(
        self, repository: str, *, licence: str, data: str, scores: Mapping[str, float] | None = None
    ) -> str:
        """Publish the router, with a model card, on the Hugging Face Hub; return its address there.

        Parameters
        ----------
        repository : str
            As `owner/name`. A new repository is public; to keep it private, create it on the Hub first. The files of an
            older router in it are replaced, in one commit. What `save` writes of the training questions is published
            too.
        licence : str
            Of the router, by its identifier on the Hub, such as `mit`.
        data : str
            For the card: whose answers to which questions, and how they were graded.
        scores : mapping of str to float, optional
            For the card: what was measured on held-out questions.

        Raises
        ------
        ConnectionError
            If the Hub cannot be reached, or refuses.
        TypeError, ValueError
            If the router cannot be saved, its encoder is a local folder, or the licence or the data are not stated.
        """
        names, about = self.model_names.tolist(), (licence, data, scores or {})
        card = router_hub.model_card(repository, names, self.encoder, self.predictor, *about)
        return router_hub.publish(repository, self.save, card)

    @classmethod
    def from_pretrained(cls, repository: str, revision: str | None = None, device: str | list[str] = "auto") -> Router:
        """Download a router that `push_to_hub` published, and its encoder; `revision` is a commit, tag or branch.

        Raises
        ------
        ConnectionError
            If a file is not on this machine and cannot be downloaded.
        FileNotFoundError, ValueError
            As in `load`. No pickled object is loaded.
        """
        return cls.load(router_hub.download(repository, revision), device=device)
