"""Results that were computed once, where a build would take too long or lack the data, with their date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from embedllm._support.files import replacing
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.protocol.reported_values import ReportedValue, read_reported

EXECUTED = Path(__file__).parents[2] / "book" / "notebooks"
"""Where the book of this checkout keeps what its notebooks wrote."""

PAPER = "RZ412/EmbedLLM"
"""How the source of the paper's release begins."""


class RecordedComparison(NamedTuple):
    """What ``tools/record_solvers.py`` recorded.

    Attributes
    ----------
    pools : DataFrame
        A row for each pool. Columns `data`, `n_models`, `n_questions`, `date`, `labels_sha256`.
    scores, stability : DataFrame
        Of all pools, as that tool computes them.
    """

    pools: pd.DataFrame
    scores: pd.DataFrame
    stability: pd.DataFrame


def load_recorded_comparison(path: Path | None = None) -> RecordedComparison:
    """Read the recorded comparison of the solvers, by default the project's own, `data/solvers.json`.

    Raises
    ------
    ValueError
        If the file is not a complete record.
    """
    file = path or resources.files("embedllm.data").joinpath("solvers.json")
    try:
        pools = json.loads(file.read_text(encoding="utf-8"))
        columns = ["data", "n_models", "n_questions", "date", "labels_sha256"]
        about = pd.DataFrame([[pool[column] for column in columns] for pool in pools.values()], columns=columns)
        frames = [
            pd.concat([pd.DataFrame(**pool[name]) for pool in pools.values()], ignore_index=True)
            for name in ("scores", "stability")
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is not a complete record ({error!r}): run tools/record_solvers.py again") from error
    return RecordedComparison(about, *frames)


def answers_sha256(matrix: CorrectnessMatrix) -> str:
    """Return a hash of the labels, the names of the models, and the ids, benchmarks and split of the questions.

    Embeddings are no part of it: they differ in the last bits between versions of an encoder.
    """
    columns = [matrix.questions[name].tolist() for name in ("benchmark", "split") if name in matrix.questions]
    names = json.dumps([matrix.model_names.tolist(), matrix.question_ids.tolist(), *columns], default=str)
    return hashlib.sha256(names.encode() + matrix.labels.astype("int8").tobytes()).hexdigest()


def find_record(
    name: str, matrix: CorrectnessMatrix, path: Path | None, tool: str
) -> tuple[dict[str, pd.DataFrame] | None, pd.DataFrame]:
    """Find the record of the answers of a matrix in a file of records, by their hash.

    Parameters
    ----------
    name : str
        Of the project's own file in `data`.
    matrix : CorrectnessMatrix
    path : Path, optional
        Another file.
    tool : str
        That writes it, for the messages.

    Returns
    -------
    record : dict of str to DataFrame, or None
        None if there is no file, or no record in it is of these answers.
    about : DataFrame
        One row that says what it is, or why there is none.

    Raises
    ------
    ValueError
        If the file is not a complete record.
    """
    file = path or resources.files("embedllm.data").joinpath(name)
    try:
        pools = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        wanted = answers_sha256(matrix)
        found = next((pool for pool in pools.values() if pool["sha256"] == wanted), None)
        if found is None:
            same = [pool["date"] for pool in pools.values() if pool["data"] == matrix.source]
            why = f"no: that of {same[0]} is of other answers" if same else f"no: {tool} records it"
            return None, pd.DataFrame([{"data": matrix.source, "recorded": why, "answers": wanted[:12]}])
        settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
        about = {"data": found["data"], "recorded": found["date"], "embedllm": found["version"], "settings": settings}
        frames = {key: pd.DataFrame(**value) for key, value in found["frames"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is not a complete record ({error!r}): run {tool} again") from error
    return frames, pd.DataFrame([about | {"answers": wanted[:12]}])


class Results(NamedTuple):
    """The values and tables that a build of the book reports of one data set.

    Attributes
    ----------
    source : str
        What the data are, as `matrix.source`.
    when : str
        The date of a record; empty for the build itself.
    version : str
        Of the package that computed them.
    parameters : dict
        Of the book.
    data : dict
        From `fingerprint`.
    values : dict of str to ReportedValue
        By ``<page>.<key>``.
    frames : dict of str to DataFrame
        Tables behind main figures, by the names of the figures.
    """

    source: str
    when: str
    version: str
    parameters: dict[str, Any]
    data: dict[str, Any]
    values: dict[str, ReportedValue]
    frames: dict[str, pd.DataFrame]

    @property
    def kind(self) -> str:
        """Whose answers they are: "paper", "simulated" or "real", of other models than the paper's."""
        return "paper" if self.source.startswith(PAPER) else "simulated" if "simulated" in self.source else "real"

    @property
    def title(self) -> str:
        """The source, with the date of a record."""
        return f"{self.source}, recorded {self.when}" if self.when else f"{self.source}, this build"


def fingerprint(matrix: CorrectnessMatrix) -> dict[str, Any]:
    """Return counts of a matrix and the hash of its answers.

    Examples
    --------
    >>> from embedllm import load_dataset
    >>> from embedllm.protocol.recorded import fingerprint
    >>> list(fingerprint(load_dataset("simulated", scale=0.01)))
    ['models', 'questions', 'observed answers', 'correct answers', 'sha256']
    """
    return {
        "models": matrix.n_models,
        "questions": matrix.n_questions,
        "observed answers": int(matrix.observed.sum()),
        "correct answers": int((matrix.labels == CORRECT).sum()),
        "sha256": answers_sha256(matrix),
    }


def built_results(folder: Path) -> Results | None:
    """Read the values and tables that the notebooks of a build wrote, or return None if there are none.

    Parameters
    ----------
    folder : Path
        Of the executed notebooks. Pages without a data set of the build go with any.

    Raises
    ------
    ValueError
        If the values are of different data sets, or a file is damaged.
    """
    paths = sorted(folder.glob("*.reported.json"))
    pages = {path.name.removesuffix(".reported.json"): read_reported(path) for path in paths}
    sources = sorted({source for source, _ in pages.values() if source})
    if len(sources) > 1:
        raise ValueError(f"{folder} holds values of different data sets, {sources}: build the book again")
    values = {f"{name}.{key}": value for name, (_, found) in pages.items() for key, value in found.items()}
    frames = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("figures/*/*.csv"))}
    return Results(sources[0], "", "", {}, {}, values, frames) if sources else None


def load_results(path: Path) -> Results:
    """Read the record of a data set, ``data/expected/<data set>.json``.

    Raises
    ------
    ValueError
        If the file is not a complete record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        values = {key: ReportedValue(key.partition(".")[2], **entry) for key, entry in record.pop("values").items()}
        frames = {name: pd.DataFrame(**frame) for name, frame in record.pop("frames").items()}
        if not values:
            raise ValueError("it holds no value")
        return Results(**record, values=values, frames=frames)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a complete record of a data set ({error!r}): restore it, or remove it and run make expected"
        ) from error


def write_results(results: Results, path: Path) -> None:
    """Write a record, one line for each value and table."""

    def entries(table: Mapping[str, object]) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())

    def entry(value: ReportedValue) -> dict[str, Any]:
        runs = [float(f"{run:.9g}") for run in value.runs]
        return {name: each for name, each in asdict(value).items() if name != "key"} | {"runs": runs}

    parts = [f" {json.dumps(name)}: {json.dumps(getattr(results, name))}" for name in Results._fields[:-2]]
    values = {key: entry(value) for key, value in results.values.items()}
    frames = {
        name: json.loads(frame.round(6).to_json(orient="split", index=False)) for name, frame in results.frames.items()
    }
    parts += [f' "values": {{\n{entries(values)}\n }}', f' "frames": {{\n{entries(frames)}\n }}']
    with replacing(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def recorded_results() -> list[Results]:
    """Return the records of the real data sets."""
    paths = sorted(resources.files("embedllm.data").joinpath("expected").iterdir(), key=str)
    return [load_results(Path(str(path))) for path in paths if path.name != "simulated.json"]


def all_results(folder: Path = EXECUTED) -> list[Results]:
    """Return the results of the build in a folder and the records of the other real data sets.

    The build is the first, or the last if its answers are simulated.

    Parameters
    ----------
    folder : Path
        Of the executed notebooks.
    """
    built, records = built_results(folder), recorded_results()
    if built is None:
        return records
    others = [each for each in records if each.source != built.source]
    return [*others, built] if built.kind == "simulated" else [built, *others]
