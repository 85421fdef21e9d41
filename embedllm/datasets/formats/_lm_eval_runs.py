"""Which files of the lm-evaluation-harness belong to which run of which model.

Samples say nothing of their model. The results file of the same date does, in the same folder: its name, arguments,
prompt template and limit. Without one, the name of the folder counts where the harness has made it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from embedllm._support.files import opened, read_json
from embedllm._support.reading import files_below
from embedllm.datasets.formats._runs import NO_PART, Run, other_files, told_apart
from embedllm.datasets.report import Line

_DATE = r"(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?)"
_SAMPLES = re.compile(rf"samples_(?P<task>.+)_{_DATE}\.jsonl?(\.gz)?")
_RESULTS = re.compile(rf".+_{_DATE}\.json")
_NO_DATE = ""  # versions up to 0.4.2 write none

# In the order in which the harness looks for the name of a model among its arguments.
_NAMES = ("peft", "delta", "pretrained", "model", "path", "engine")

_DEFAULTS = {"revision": "main", "dtype": "auto"}


class File(NamedTuple):
    """A file of samples, of which there may be several of a run.

    Attributes
    ----------
    path : Path
    task : str
    run : Run
        Its model has the parts in which runs of models of one name differ: `org/name@revision (dtype=float16)`; it is
        named after its first file.
    """

    path: Path
    task: str
    run: Run


class _About(NamedTuple):
    """What a results file says of its run: the name of the model, what else tells models apart, and settings."""

    name: str
    parts: dict[str, str]
    is_limited: bool = False
    n_shot: Mapping[str, Any] = {}
    gen_kwargs: str | None = None


class _File(NamedTuple):
    path: Path
    task: str
    about: _About
    date: str


def find_runs(folder: Path, one_model_a_folder: bool = False) -> tuple[list[File], list[Line]]:
    """Find the runs in a folder and in all folders below it; hidden ones are skipped.

    Returns
    -------
    files : list of File
        Sorted by task and run.
    report : list of Line
        Which other files there are.

    Raises
    ------
    FileNotFoundError
        If there are no samples.
    ValueError
        If a file is not named as the harness names it, or it is not clear of which model a run is.
    """
    results: dict[tuple[Path, str], Path] = {}
    samples, lists = [], []
    for path in files_below(folder):
        if name := _SAMPLES.fullmatch(path.name):
            samples.append((path, name["task"], name["date"]))
        elif path.name.startswith("samples_") and ".jsonl" in path.name:
            raise ValueError(
                f"{path} is not named samples_TASK_TIME.jsonl, as the harness names it: rename it, or move it elsewhere"
            )
        elif path.suffix == ".jsonl":
            lists.append(path)
        elif name := _RESULTS.fullmatch(path.name):
            if (other := results.setdefault((path.parent, name["date"]), path)) != path:
                raise ValueError(f"{path} and {other} are results of the same date: move one of them elsewhere")
        elif path.name == "results.json":
            results[path.parent, _NO_DATE] = path
    contents = {key: read_json(path) for key, path in results.items()}
    contents = {key: content for key, content in contents.items() if isinstance(content, dict)}
    files = _of_old_versions(lists, contents)
    if not samples and not files:
        raise FileNotFoundError(
            f"{folder} holds no samples_TASK_TIME.jsonl: let the harness write them, with --log_samples --output_path"
        )
    abouts = {key: about for key, content in contents.items() if (about := _about(content))}
    unnamed = _of_folders([(path.parent, date) for path, _, date in samples], abouts, folder, one_model_a_folder)
    files += [_File(path, task, (abouts | unnamed)[path.parent, date], date) for path, task, date in samples]
    used = {file.path for file in files} | set(results.values())
    return _named(files, folder), [other_files(folder, used, "samples")]


def _about(content: Mapping[str, Any]) -> _About | None:
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    parts = _arguments(config.get("model_args"))
    name = content.get("model_name") or next((parts[key] for key in _NAMES if key in parts), None)
    if not isinstance(name, str):
        return None
    parts.setdefault("revision", str(config.get("model_revision") or "main"))
    system = content.get("system_instruction")
    texts = {
        "chat_template": content.get("chat_template_sha"),
        "system_prompt": content.get("system_instruction_sha") or (system and sha256(system.encode()).hexdigest()),
    }
    parts |= {key: str(sha)[:8] for key, sha in texts.items() if sha}
    parts = {
        key: value for key, value in parts.items() if key not in NO_PART and value not in (name, _DEFAULTS.get(key), "")
    }
    shots, gen_kwargs = content.get("n-shot"), config.get("gen_kwargs")
    is_limited = config.get("limit") is not None
    return _About(name, parts, is_limited, shots if isinstance(shots, dict) else {}, str(gen_kwargs or ""))


def _arguments(given: Any) -> dict[str, str]:
    if isinstance(given, dict):
        return {str(key): str(value) for key, value in given.items() if value is not None}
    pairs = (part.strip().partition("=") for part in str(given or "").split(","))
    return {key: value for key, _, value in pairs if key}


def _of_folders(
    samples: Iterable[tuple[Path, str]],
    abouts: Mapping[tuple[Path, str], _About],
    root: Path,
    one_model_a_folder: bool,
) -> dict[tuple[Path, str], _About]:
    """What the names of folders say of runs whose results file does not name a model."""
    unnamed: dict[tuple[Path, str], _About] = {}
    dates = defaultdict(set)
    for folder, date in samples:
        dates[folder].add(date)
    variants: dict[str, list[_About]] = defaultdict(list)  # by folder of the harness: what is known of such models
    for about in abouts.values():
        if about not in variants[sanitized(about.name)]:
            variants[sanitized(about.name)].append(about)
    for folder in dates:
        without = sorted(date for date in dates[folder] if (folder, date) not in abouts)
        # Resolved, so that "." has a name; the root only, so that a link below it keeps its own.
        name = (root.resolve() / folder.relative_to(root)).name
        own = {sanitized(about.name) for (place, _), about in abouts.items() if place == folder}
        is_model = one_model_a_folder or name in own or (not own and ("__" in name or len(without) < 2))
        several = {tuple(sorted(about.parts.items())) for about in variants[name]}
        if without and (not is_model or len(several) > 1):
            what = f"several models {variants[name][0].name}" if len(several) > 1 else "several dates"
            raise ValueError(
                f"{folder} holds {what}, and no results file of date {without[0]} that names its model: add "
                f"results_{without[0]}.json, give each model a folder of its own, or, if all runs in each folder are "
                f"of one model, say so (one_model_a_folder=True, --one-model-a-folder)"
            )
        about = _About(variants[name][0].name, variants[name][0].parts) if variants[name] else _About(name, {})
        unnamed |= {(folder, date): about for date in without}
    return unnamed


def sanitized(name: str) -> str:
    """Return the folder that the harness makes for a model."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def is_list(path: Path) -> bool:
    """Tell whether a file of samples holds one list, as versions up to 0.4.2 write it."""
    with opened(path) as stream:
        return stream.read(1) == b"["


def _of_old_versions(paths: Iterable[Path], contents: Mapping[tuple[Path, str], Mapping[str, Any]]) -> list[_File]:
    """Find the samples that versions up to 0.4.2 wrote: `MODEL_ARGS_TASK.jsonl`, a list, beside `results.json`."""
    files = []
    for path in filter(is_list, paths):
        # results.json is that of the last run; the names of tasks are those of all.
        there = [content for (place, _), content in contents.items() if place == path.parent]
        tasks = {task for content in there for task in content.get("results", {})}
        ending = max((task for task in tasks if path.stem.endswith(f"_{task}")), key=len, default=None)
        if ending is None:
            raise ValueError(
                f"{path} holds samples as versions up to 0.4.2 write them, and no results.json beside it that names "
                f"its task: put it there, or move the file elsewhere"
            )
        # "/" and "=" have become "__".
        arguments = path.stem.removesuffix(f"_{ending}").split(",")
        pairs = [argument.partition("__") for argument in arguments]
        text = ",".join(f"{key}={value.replace('__', '/')}" for key, _, value in pairs)
        if about := _about({"config": {"model_args": text}}):
            files.append(_File(path, ending, about, _NO_DATE))
    return files


def _named(files: Sequence[_File], root: Path) -> list[File]:
    """Give each model a name that tells it from all others, and each run that of its first file."""
    files, first = sorted(files, key=lambda file: file.path), dict[tuple[Path, str, str, str], str]()
    named = []
    for file, model in zip(files, told_apart([_variant(file) for file in files]), strict=True):
        name = first.setdefault((file.path.parent, model, file.task, file.date), str(file.path.relative_to(root)))
        named.append(File(file.path, file.task, Run(model, file.date, name, file.about.is_limited)))
    return sorted(named, key=lambda file: (file.task, file.run, file.path))


def _variant(file: _File) -> tuple[str, str, dict[str, str], dict[str, Any]]:
    own = {"shots": file.about.n_shot.get(file.task), "gen_kwargs": file.about.gen_kwargs}
    settings = {key: value for key, value in own.items() if value is not None}
    return file.about.name, file.task, file.about.parts, settings
