"""The correctness matrix: which model answered which question correctly."""

from __future__ import annotations

import copy
import html
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from embedllm._support.checks import (
    axis_positions,
    check_costs,
    check_embeddings,
    check_names,
    check_option,
    text_index,
)
from embedllm._support.division import divide, own_parts, question_groups
from embedllm._support.matrix_file import read_archive, write_archive

INCORRECT, CORRECT, NOT_OBSERVED = 0, 1, -1
REPORT_COLUMNS = ("what", "count", "rule")
OVERALL = "overall"  # in tables, the row of all benchmarks or models together: no benchmark or model may have this name

CostUnit = Literal["US dollars", "tokens"]
_Axis = Literal["model", "benchmark"]


class EncoderName(NamedTuple):
    """Which encoder made embeddings: its name, and the fingerprint of what determines its vectors."""

    name: str
    fingerprint: str


class Split(NamedTuple):
    """The three parts of a correctness matrix: all models, disjoint questions.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> train, val, test = load_dataset("simulated", scale=0.01).split()
    >>> [part.n_questions for part in (train, val, test)]
    [297, 30, 30]
    """

    train: CorrectnessMatrix
    val: CorrectnessMatrix
    test: CorrectnessMatrix


class CorrectnessMatrix:
    """Answers of models to questions, with what is known of both.

    Labels are three-valued: correct (1), incorrect (0) and not observed (-1). An answer that was not observed never
    counts as incorrect: not in a fit, not in an accuracy, not in a baseline.

    Axes are matched by name: `labels` is a frame, so a transposed matrix is refused even when it is square.

    Parameters
    ----------
    labels : DataFrame of shape (n_models, n_questions)
        Index: model names. Columns: question ids. Values: 1 or True (correct), 0 or False (incorrect), -1 or missing
        (not observed).
    questions : DataFrame indexed by question id
        Column `benchmark` (text) is required. Optional: `split` (train, val or test: the source's own split),
        `category`, `prompt`. Its order is the order of the matrix.
    embeddings : array of shape (n_questions, width)
        Question embeddings, row i belonging to row i of `questions`. Copied as float32, unless they are
        float32 and read-only, such as a `np.memmap` of mode "r", which may be larger than the memory.
    models : DataFrame indexed by model name, optional
        Metadata of the models, such as `params_b` (billions of parameters), `family`, `tags` (joined by `;`). Its order
        is the order of the matrix; without it, the order of `labels`.
    source : str
        What the data are, in a few words: shown beside all results, so that simulated data is known as such.
    report : DataFrame with columns `what`, `count`, `rule`, optional
        What was resolved while the data were read; kept as `report_`.
    costs : DataFrame of shape (n_models, n_questions), optional
        What each answer cost, with the same names as `labels`; missing where unknown.
    cost_unit : "US dollars" or "tokens"
    encoder : EncoderName, optional
        The encoder that made the embeddings, where it is known.

    Attributes
    ----------
    source : str
    labels : ndarray of shape (n_models, n_questions), int8
    embeddings : ndarray of shape (n_questions, width), float32
    models : DataFrame
        Indexed by model name.
    questions : DataFrame
        Indexed by question id.
    report_ : DataFrame
        Columns `what`, `count`, `rule`.
    costs : ndarray of shape (n_models, n_questions), float32, or None
        NaN where unknown.
    cost_unit : str
    encoder : EncoderName or None

    Raises
    ------
    ValueError
        If a name occurs twice or is missing from one of the frames, a label is none of the above, a question has no
        benchmark, an embedding is missing, not finite or all zeros, or a cost is negative or infinite.

    References
    ----------
    Section 4 of the paper (arXiv:2410.02223) has the labels; there, all are observed.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from embedllm import CorrectnessMatrix
    >>> labels = pd.DataFrame({"q1": [1, 0], "q2": [1, None]}, index=["model A", "model B"])
    >>> questions = pd.DataFrame({"benchmark": ["sums", "sums"]}, index=["q1", "q2"])
    >>> matrix = CorrectnessMatrix(labels, questions, embeddings=np.eye(2))
    >>> matrix
    CorrectnessMatrix (own data): 2 models x 2 questions, 1 benchmarks, 75.0% observed
    >>> matrix.accuracy(by="model").to_dict("index")
    {'model A': {'accuracy': 1.0, 'n_observed': 2}, 'model B': {'accuracy': 0.0, 'n_observed': 1}}
    """

    def __init__(
        self,
        labels: pd.DataFrame,
        questions: pd.DataFrame,
        embeddings: np.ndarray,
        models: pd.DataFrame | None = None,
        source: str = "own data",
        report: pd.DataFrame | None = None,
        costs: pd.DataFrame | None = None,
        cost_unit: CostUnit = "US dollars",
        encoder: EncoderName | None = None,
    ) -> None:
        if not isinstance(labels, pd.DataFrame):
            raise TypeError(
                f"labels must be a DataFrame with model names as index and question ids as columns, "
                f"not {type(labels).__name__}: an array does not say which axis holds the models"
            )
        labels = labels.set_axis(text_index("model", labels.index))
        labels = labels.set_axis(text_index("question", labels.columns), axis="columns")
        questions = questions.set_axis(text_index("question", questions.index)).rename_axis("question")
        models = pd.DataFrame(index=labels.index) if models is None else models
        models = models.set_axis(text_index("model", models.index)).rename_axis("model")
        is_question = labels.index.isin(questions.index)
        if len(labels) and is_question.all() and not labels.columns.isin(questions.index).any():
            raise ValueError(
                "labels is transposed: its rows are questions and its columns models. Pass labels.T "
                "(index: model names, columns: question ids)"
            )
        check_names("model", labels.index, models.index)
        check_names("question", labels.columns, questions.index)
        if "benchmark" not in questions:
            raise ValueError(f"questions needs a column 'benchmark'; it has {list(questions.columns)}")
        self.labels = _to_int8(labels.reindex(index=models.index, columns=questions.index))
        self.models, self.questions, self.source = models, questions, source
        self.embeddings = check_embeddings(embeddings, questions.index)
        self.report_ = report_table([]) if report is None else report
        check_option("cost_unit", cost_unit, CostUnit)
        self.costs, self.cost_unit, self.encoder = check_costs(costs, models.index, questions.index), cost_unit, encoder
        self._protect()
        if "params_b" in models:
            sizes = pd.to_numeric(models["params_b"])
            if (bad := sizes.notna() & ~sizes.between(0, np.inf, inclusive="neither")).any():
                raise ValueError(
                    f"params_b of model {models.index[bad][0]!r} is {sizes[bad].iloc[0]}: use a finite number "
                    f"above 0, in billions of parameters, or leave it empty if unknown"
                )
        benchmark = self.questions["benchmark"]
        if (unnamed := benchmark.isna() | benchmark.astype(str).str.strip().eq("")).any():
            raise ValueError(f"question {self.question_ids[unnamed.to_numpy()][0]!r} has no benchmark")
        for what, names in (("benchmark", self.benchmark_names), ("model", self.model_names)):
            if OVERALL in names:
                raise ValueError(f"a {what} is named {OVERALL!r}, as the summary row of every table: rename it")

    def _protect(self) -> None:
        for array in (self.labels, self.embeddings, self.costs):
            if array is not None:
                array.flags.writeable = False

    def _with(self, **changed: Any) -> CorrectnessMatrix:
        """A matrix that differs in some attributes, which must fit together."""
        other = copy.copy(self)
        vars(other).update(changed)
        other._protect()
        return other

    @property
    def model_names(self) -> np.ndarray:
        """Names of the models, (n_models,), text."""
        return self.models.index.to_numpy(dtype=object)

    @property
    def question_ids(self) -> np.ndarray:
        """Ids of the questions, (n_questions,), text."""
        return self.questions.index.to_numpy(dtype=object)

    @property
    def benchmarks(self) -> np.ndarray:
        """Benchmark of each question, (n_questions,), text."""
        return self.questions["benchmark"].to_numpy(dtype=object)

    @property
    def benchmark_names(self) -> list[str]:
        """The benchmarks, in the order in which they first occur."""
        return list(pd.unique(self.questions["benchmark"]))

    @property
    def observed(self) -> np.ndarray:
        """Mask of the observed cells, (n_models, n_questions), bool."""
        return self.labels != NOT_OBSERVED

    @property
    def n_models(self) -> int:
        """Number of models."""
        return self.labels.shape[0]

    @property
    def n_questions(self) -> int:
        """Number of questions."""
        return self.labels.shape[1]

    def subset(
        self, models: Iterable[str] | None = None, questions: Iterable[str] | np.ndarray | None = None
    ) -> CorrectnessMatrix:
        """Return some models and some questions, in the order asked for.

        Parameters
        ----------
        models : names, or mask of shape (n_models,), optional
            All models if omitted.
        questions : ids, or mask of shape (n_questions,), optional
            All questions if omitted.

        Raises
        ------
        KeyError
            If a name or an id is unknown; the message lists the known ones.
        ValueError
            If a name or an id is asked for twice.
        """
        kept = axis_positions("model", models, self.models.index)
        return self._take(kept, axis_positions("question", questions, self.questions.index))

    def _take(self, models: np.ndarray, questions: np.ndarray) -> CorrectnessMatrix:
        return self._with(
            labels=self.labels[np.ix_(models, questions)],
            models=self.models.iloc[models],
            questions=self.questions.iloc[questions],
            embeddings=take_rows(self.embeddings, questions),
            costs=None if self.costs is None else self.costs[np.ix_(models, questions)],
        )

    def with_labels(self, labels: pd.DataFrame | np.ndarray) -> CorrectnessMatrix:
        """Return a matrix with other labels for the same models and questions; its report is empty.

        Parameters
        ----------
        labels : ndarray or DataFrame of shape (n_models, n_questions)
            An array in the order of this matrix, or a frame that is matched by name; values as in the constructor.

        Raises
        ------
        ValueError
            If the shape or a name does not match, or a label is none of those that the constructor takes.
        """
        if isinstance(labels, pd.DataFrame):
            check_names("model", labels.index, self.models.index)
            check_names("question", labels.columns, self.questions.index)
        frame = pd.DataFrame(labels, self.models.index, self.questions.index)
        return self._with(labels=_to_int8(frame), report_=report_table([]))

    def split(
        self,
        fractions: tuple[float, float, float] | None = None,
        *,
        random_state: int = 0,
        own: bool = True,
        group_by: str | None = None,
    ) -> Split:
        """Divide the questions into train, validation and test parts (paper: 80/10/10).

        Questions whose prompts differ at most in white space, case or Unicode form, or of which a column `item` says
        that they are wordings of one, stay in one part: a predictor could otherwise remember the answers.

        Parameters
        ----------
        fractions : three positive numbers that sum to 1, optional
            By default 0.8, 0.1, 0.1.
        random_state : int
            Seed of the random division; without effect on the source's own split.
        own : bool
            Use the source's own split (column `split` of `questions`) where there is one.
        group_by : str, optional
            A further column of `questions`: equal values stay in one part too.

        Returns
        -------
        Split
            `train`, `val`, `test`; within each, questions keep the order of this matrix.

        Raises
        ------
        ValueError
            If the fractions are not three positive numbers that sum to 1, or are given beside the source's own split,
            or that split has other parts, or there is no column `group_by`.

        Warns
        -----
        UserWarning
            If the source's own split has the text of a training question in another part.
        """
        groups = question_groups(self.questions, group_by)
        if own and "split" in self.questions:
            if fractions is not None:
                raise ValueError("these data have their own split, which does not use fractions: pass own=False")
            parts = own_parts(self.questions["split"].to_numpy(dtype=object), groups)
        else:
            parts = divide(groups, (0.8, 0.1, 0.1) if fractions is None else fractions, random_state)
        everyone = np.arange(self.n_models)
        return Split(*(self._take(everyone, part) for part in parts))

    def accuracy(self, by: _Axis | Sequence[_Axis] | None = None) -> pd.DataFrame:
        """Compute the share of correct answers among the observed ones.

        Parameters
        ----------
        by : "model", "benchmark", or both in a list; optional
            Without it, one row over everything.

        Returns
        -------
        DataFrame
            Columns `accuracy` (NaN where nothing was observed) and `n_observed` (number of observed answers).
        """
        keys: list[_Axis] = [] if by is None else [by] if isinstance(by, str) else list(by)
        if unknown := set(keys) - {"model", "benchmark"}:
            raise ValueError(f"by must be 'model', 'benchmark' or both, got {sorted(unknown)}")
        # (n_questions, n_benchmarks) membership turns both sums into matrix products.
        member = pd.get_dummies(self.questions["benchmark"])[self.benchmark_names].to_numpy(np.float32)
        cells = pd.MultiIndex.from_product([self.models.index, self.benchmark_names], names=["model", "benchmark"])
        counts = pd.DataFrame(
            {
                "correct": ((self.labels == CORRECT).astype(np.float32) @ member).ravel(),
                "n_observed": (self.observed.astype(np.float32) @ member).ravel(),
            },
            index=cells,
        ).round()
        sums = counts.groupby(level=keys, sort=False).sum() if keys else counts.sum().to_frame("all").T
        n_observed = sums["n_observed"].astype(int)
        return pd.DataFrame({"accuracy": sums["correct"] / n_observed.where(n_observed > 0), "n_observed": n_observed})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the matrix to one `.npz` archive that holds the arrays and, as JSON, the tables.

        It is written under a temporary name and then renamed: a reader sees the old matrix or the new one.
        """
        arrays = {"labels": self.labels, "embeddings": self.embeddings}
        if self.costs is not None:
            arrays["costs"] = self.costs
        tables = {"models": self.models, "questions": self.questions, "report": self.report_}
        facts = {"source": self.source, "cost_unit": self.cost_unit, "encoder": self.encoder}
        write_archive(path, arrays, tables, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CorrectnessMatrix:
        """Read a matrix that `save` wrote.

        Raises
        ------
        ValueError
            If the file is not a complete archive of a correctness matrix; no pickled object is ever loaded.
        """
        try:
            arrays, tables, facts = read_archive(path)
            arrays["embeddings"].flags.writeable = False
            axes = tables["models"].index, tables["questions"].index
            # A file of an earlier version has no costs and names no encoder.
            return cls(
                pd.DataFrame(arrays["labels"], *axes),
                tables["questions"],
                arrays["embeddings"],
                models=tables["models"],
                source=facts["source"],
                report=tables["report"].reset_index(drop=True),
                costs=pd.DataFrame(arrays["costs"], *axes) if "costs" in arrays else None,
                cost_unit=facts.get("cost_unit", "US dollars"),
                encoder=EncoderName(*encoder) if (encoder := facts.get("encoder")) else None,
            )
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} was not written by CorrectnessMatrix.save, or not completely: {error}") from error

    def __repr__(self) -> str:
        share = self.observed.mean() if self.labels.size else float("nan")
        return (
            f"CorrectnessMatrix ({self.source}): {self.n_models} models x {self.n_questions:,} questions, "
            f"{len(self.benchmark_names)} benchmarks, {share:.1%} observed"
        )

    def _repr_html_(self) -> str:
        table = self.accuracy(by="benchmark")
        questions = self.questions["benchmark"].value_counts()[table.index]
        table.insert(0, "questions", questions)
        table.insert(1, "observed", table.pop("n_observed") / (questions * max(self.n_models, 1)))
        formats = {"questions": "{:,}".format, "observed": "{:.1%}".format, "accuracy": "{:.1%}".format}
        shown = f"{html.escape(repr(self))}; embeddings of width {self.embeddings.shape[1]}"
        return f"<p>{shown}</p>{table.to_html(formatters=formats)}"


def _to_int8(labels: pd.DataFrame) -> np.ndarray:
    values = labels.to_numpy()
    if values.dtype == object:
        numeric = (bool, int, float, np.bool_, np.number)
        is_value = np.frompyfunc(lambda value: pd.isna(value) or isinstance(value, numeric), 1, 1)(values).astype(bool)
        _refuse(labels, ~is_value)
        values = np.where(pd.isna(values), NOT_OBSERVED, values).astype(float)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), NOT_OBSERVED, values)
    _refuse(labels, ~np.isin(values, (INCORRECT, CORRECT, NOT_OBSERVED)))
    return values.astype(np.int8)


def _refuse(labels: pd.DataFrame, bad: np.ndarray) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        value, model, question = labels.astype(object).iat[row, column], labels.index[row], labels.columns[column]
        raise ValueError(
            f"label {value!r} of model {model!r} on question {question!r}: "
            f"use 1 (correct), 0 (incorrect) or -1 (not observed)"
        )


def report_table(lines: Iterable[tuple[str, int, str]]) -> pd.DataFrame:
    """Return the table of what was resolved, of lines with a count above zero."""
    return pd.DataFrame([line for line in lines if line[1]], columns=list(REPORT_COLUMNS))


def take_rows(array: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return `array[positions]`, without a copy where these are a run of consecutive rows."""
    if len(positions) and (np.diff(positions) == 1).all():
        return array[positions[0] : positions[-1] + 1]
    return array[positions]
