"""Keep the notebook pairs in step and execute the stale ones through Papermill.

``notebooks/x.py`` is the source, ``notebooks/x.ipynb`` its pair for Jupyter and Papermill, ``book/notebooks/x.ipynb``
the executed copy that the book shows. Beside each executed copy lie a stamp of all that went into it, by content, so
that a notebook runs again when, and only when, one of its inputs changed, the numbers that its page quotes, and its
figures.
:mod:`embedllm.book.extension` calls this module from Sphinx; it knows nothing of Sphinx itself.

Two notebooks stand out: what `tuning` chooses becomes a parameter of all that declare it, and `summary` reads the
numbers of all the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import yaml
from jupytext.cli import jupytext

from embedllm.book.parameters import default_parameters
from embedllm.datasets.load import dataset_folder
from embedllm.plots import _style as figures
from embedllm.protocol import reported_values
from embedllm.protocol.reported_values import read_reported

WORKERS = 2
"""Notebooks executed at a time."""

VERSIONED = ("torch", "numpy", "pandas", "matplotlib", "seaborn", "scikit-learn")
"""Distributions whose version can change a number or a figure."""

# These decide when a notebook runs and what the book makes of it, not what it computes.
INFRASTRUCTURE = {
    "contents.py",
    "citation.py",
    "execution.py",
    "extension.py",
    "gallery.py",
    "regression.py",
    "repository.py",
}

TUNING, SUMMARY = "tuning", "summary"

PUBLISHED_SETTINGS = {"cost", "label_rules"}
"""Notebooks that look into the paper's own settings, and so take nothing from `tuning`."""

CHOSEN = {"n_neighbors": int, "dim": int, "alpha": float}
"""Parameters that `tuning` chooses: the keys of its reported values that carry them, and their types."""

# Kernels choose their ports before they bind them, so two that start together can collide.
PORT_RACE = re.compile(r"Address already in use|Kernel died before replying to kernel_info")


@dataclass(frozen=True)
class Notebook:
    """The files of one notebook.

    Parameters
    ----------
    root : Path
        Root of the repository.
    name : str
        Name without folder and suffix, as in ``notebooks/<name>.py``.
    """

    root: Path
    name: str

    @property
    def source(self) -> Path:
        """The percent script, which is what one edits."""
        return self.root / "notebooks" / f"{self.name}.py"

    @property
    def ipynb(self) -> Path:
        """Its pair, without outputs."""
        return self.source.with_suffix(".ipynb")

    @property
    def executed(self) -> Path:
        """The executed copy that the book shows."""
        return self.root / "book" / "notebooks" / f"{self.name}.ipynb"

    @property
    def stamp(self) -> Path:
        """What the executed copy was made from."""
        return self.executed.with_suffix(".stamp.json")

    @property
    def reported_values(self) -> Path:
        """The numbers that the page quotes."""
        return self.executed.with_suffix(".reported.json")

    @property
    def figures(self) -> Path:
        """Folder of its figures and of the data behind them."""
        return self.executed.parent / "figures" / self.name

    def parameters(self) -> dict[str, Any]:
        """Return the names that the parameters cell declares, with their defaults."""
        for cell in nbformat.read(self.ipynb, as_version=4).cells:
            if "parameters" in cell.metadata.get("tags", []):
                return default_parameters(cell.source)
        raise ValueError(f'notebooks/{self.name}.py has no parameters cell: begin it with # %% tags=["parameters"]')

    def sync(self) -> bool:
        """Bring the pair up to date with the source, keeping cell ids; tell whether that changed anything."""
        if not self.source.is_file():
            raise FileNotFoundError(f"notebooks/{self.name}.py does not exist, but _toc.yml lists that page")
        before = self.ipynb.read_bytes() if self.ipynb.exists() else None
        # Jupytext replaces the file in one step, and only if its content differs.
        jupytext(["--quiet", "--to", "ipynb", "--update", str(self.source)])
        return self.ipynb.read_bytes() != before

    def execute(self, parameters: Mapping[str, Any]) -> str | None:
        """Run the notebook and put the result, complete or not, where the book looks for it.

        Parameters
        ----------
        parameters : mapping
            Values for parameters that the notebook declares.

        Returns
        -------
        str or None
            Why it failed, or None.
        """
        building = self.root / "book" / "_build"
        building.mkdir(parents=True, exist_ok=True)
        self.executed.parent.mkdir(parents=True, exist_ok=True)
        # On the same file system as the executed copy, so that one replaces the other in one step.
        with tempfile.TemporaryDirectory(dir=building) as folder:
            # Files of figures are named after their folder.
            output, quoted, drawn = (Path(folder, each) for each in ("executed.ipynb", "reported.json", self.name))
            drawn.mkdir()
            error = self._papermill(output, quoted, drawn, parameters)
            if error and PORT_RACE.search(error):
                error = self._papermill(output, quoted, drawn, parameters)
            for made, place in ((output, self.executed), (quoted, self.reported_values)):
                if made.exists():
                    os.replace(made, place)
                else:
                    place.unlink(missing_ok=True)
            shutil.rmtree(self.figures, ignore_errors=True)
            self.figures.parent.mkdir(exist_ok=True)
            os.replace(drawn, self.figures)
        return error

    def _papermill(self, output: Path, quoted: Path, drawn: Path, parameters: Mapping[str, Any]) -> str | None:
        # Papermill records the paths in its output, which the book publishes: relative ones do not name the machine.
        paths = [path.relative_to(self.root).as_posix() for path in (self.ipynb, output)]
        threads = max(1, (os.cpu_count() or 1) // WORKERS)
        given = ["--parameters_yaml", yaml.safe_dump(dict(parameters))] if parameters else []
        run = subprocess.run(
            [sys.executable, "-m", "papermill", "--no-progress-bar", *given, *paths],
            cwd=self.root,
            # Notebooks that run side by side share the cores instead of fighting for them, unless the user sets the
            # number of threads; and the kernel named python3 is this environment's, not one registered for the user.
            env={
                "OMP_NUM_THREADS": str(threads),
                **os.environ,
                "JUPYTER_PREFER_ENV_PATH": "1",
                reported_values.TARGET: str(quoted),
                figures.TARGET: str(drawn),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if run.returncode == 0:
            return None
        # What precedes this line is the traceback through Papermill itself.
        start = run.stdout.rfind("Exception encountered at")
        reason = run.stdout[start:].strip() if start >= 0 else "\n".join(run.stdout.splitlines()[-30:])
        return f"Papermill exited with status {run.returncode}. {reason}"


def digest(files: Iterable[Path], base: Path) -> str:
    """Hash the names, relative to a folder, and the contents of files."""
    total = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
        total.update(f"{path.relative_to(base).as_posix()}\n{content.hexdigest()}\n".encode())
    return total.hexdigest()


def inputs(root: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what a notebook depends on beside itself: the package, the data and the versions of what computes.

    Parameters
    ----------
    root : Path
        Root of the repository.
    parameters : mapping
        Those that the notebook runs with; if ``dataset`` is a folder, its files are data.

    Returns
    -------
    dict
        JSON-compatible, equal if and only if the inputs are.
    """
    package, data = root / "embedllm", root / "data"
    described: dict[str, Any] = {
        "the package": digest(
            (path for path in _files(package, {".py", ".mplstyle"}) if path.name not in INFRASTRUCTURE), package
        ),
        "the data": digest(_files(data), data),
        "a version": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONED}},
    }
    if (name := parameters.get("dataset")) and (folder := dataset_folder(name)):
        described["the data set"] = digest(_files(root / folder), root / folder)
    return described


def _files(folder: Path, suffixes: set[str] | None = None) -> Iterable[Path]:
    for path in folder.rglob("*"):
        # Caches and tolerances are made by running, and would make their own run look stale.
        derived = {"__pycache__", "cache", "expected"} & set(path.relative_to(folder).parts)
        if path.is_file() and not derived and (suffixes is None or path.suffix in suffixes):
            yield path


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def refresh(
    root: Path, names: Sequence[str], parameters: Mapping[str, Any], say: Callable[[str], None]
) -> dict[str, str]:
    """Sync all pairs, execute the stale notebooks and remove the executed copies of others.

    Parameters
    ----------
    root : Path
        Root of the repository.
    names : sequence of str
        The notebooks of the book.
    parameters : mapping
        Parameters of the book; each notebook gets those that it declares.
    say : callable
        Takes one line of progress.

    Returns
    -------
    dict of str to str
        Name to error, for each notebook that failed. It leaves no stamp, so it runs again next time.
    """
    notebooks = [Notebook(root, name) for name in names]
    for notebook in notebooks:
        if notebook.sync():
            say(f"notebooks/{notebook.name}: ipynb regenerated from its py")
    _remove_orphans(root, names)

    declared = {notebook.name: notebook.parameters() for notebook in notebooks}
    if unknown := set(parameters) - set().union(*declared.values()):
        raise ValueError(f"no notebook declares {', '.join(sorted(unknown))}: remove it from embedllm_parameters")

    def run(notebook: Notebook, earlier: Sequence[str]) -> str | None:
        given = dict(parameters)
        takes_chosen = _takes_chosen(notebook.name, declared[notebook.name])
        needed = [name for name in earlier if notebook.name == SUMMARY or (takes_chosen and name == TUNING)]
        for name in needed:
            if runs[name].result():
                say(f"notebooks/{notebook.name}: not executed, since notebooks/{name} failed")
                return f"It needs the results of notebooks/{name}, which failed."
        if takes_chosen and TUNING in earlier:
            given = chosen_parameters(Notebook(root, TUNING)) | given
        passed = {name: value for name, value in given.items() if name in declared[notebook.name]}
        stamp = {"the notebook": digest([notebook.source], root), "a parameter": passed}
        stamp |= inputs(root, {**declared[notebook.name], **passed})
        if notebook.name == SUMMARY:
            quoted = (Notebook(root, name).reported_values for name in needed)
            stamp["a reported value"] = digest((path for path in quoted if path.exists()), root)
        reason = _stale(notebook, stamp)
        if reason is None:
            say(f"notebooks/{notebook.name}: unchanged")
            return None
        say(f"notebooks/{notebook.name}: executing ({reason})")
        notebook.stamp.unlink(missing_ok=True)
        start = time.perf_counter()
        error = notebook.execute(passed)
        say(f"notebooks/{notebook.name}: {'FAILED' if error else 'done'} after {time.perf_counter() - start:.0f} s")
        if error is None:
            notebook.stamp.write_text(json.dumps(stamp, indent=1))
        return error

    # Workers take them in this order, so that whoever waits for a notebook waits for one that has begun.
    in_order = sorted(notebooks, key=lambda each: _turn(each.name, declared[each.name]))
    runs: dict[str, Future[str | None]] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for position, notebook in enumerate(in_order):
            runs[notebook.name] = pool.submit(run, notebook, [other.name for other in in_order[:position]])
        errors = {name: runs[name].result() for name in names}
    return {name: error for name, error in errors.items() if error}


def _turn(name: str, declared: Mapping[str, Any]) -> int:
    """Place of a notebook among the others: what others wait for goes first, what waits for others last."""
    if name in (TUNING, SUMMARY):
        return 0 if name == TUNING else 3
    return 2 if _takes_chosen(name, declared) else 1


def _takes_chosen(name: str, declared: Mapping[str, Any]) -> bool:
    return bool(CHOSEN.keys() & declared.keys()) and name not in PUBLISHED_SETTINGS


def chosen_parameters(tuning: Notebook) -> dict[str, Any]:
    """Return the parameters that the tuning notebook chose; none if it publishes none."""
    if not tuning.reported_values.exists():
        return {}
    _, numbers = read_reported(tuning.reported_values)
    return {name: kind(numbers[name].value) for name, kind in CHOSEN.items() if name in numbers}


def _stale(notebook: Notebook, stamp: Mapping[str, Any]) -> str | None:
    """Say why a notebook must run, or None if it need not."""
    if not all(path.exists() for path in (notebook.stamp, notebook.executed, notebook.figures)):
        return "no complete run yet"
    try:
        previous = json.loads(notebook.stamp.read_text())
    except ValueError:  # the build was stopped while it wrote the stamp
        return "no complete run yet"
    changed = [key for key in stamp | previous if stamp.get(key) != previous.get(key)]
    return f"{' and '.join(changed)} changed" if changed else None


def _remove_orphans(root: Path, names: Sequence[str]) -> None:
    """Remove executed copies that the table of contents no longer lists, which Sphinx would still pick up."""
    books = [Notebook(root, name) for name in names]
    wanted = {path for book in books for path in (book.executed, book.stamp, book.reported_values)}
    for path in set((root / "book" / "notebooks").glob("*.*")) - wanted:
        if path.is_file():
            path.unlink()
    for path in set((root / "book" / "notebooks" / "figures").glob("*")) - {book.figures for book in books}:
        shutil.rmtree(path)
