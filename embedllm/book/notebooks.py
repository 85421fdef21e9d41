"""The notebooks of the book: pairs of a script and a notebook, kept in step and executed through Papermill.

``notebooks/x.py`` is the source, ``notebooks/x.ipynb`` holds the same cells for Jupyter and Papermill, and
``book/notebooks/x.ipynb`` is the executed copy that the book shows. The notebook of a pair carries the hash of the
cells on which the two last agreed. Where the two differ, the hash tells which of them was edited.

``python -m embedllm.book.notebooks`` brings all pairs in step.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from jupytext.cli import jupytext as jupytext_command
from papermill import inspect_notebook

from embedllm._support.files import replacing
from embedllm.datasets.real_pools import POOLS

WORKERS = 2
"""Notebooks executed at a time."""

AGREED = "embedllm_cells_sha256"
"""Key of a notebook's metadata: the hash of the cells on which it and its script last agreed."""

# Papermill, until the book no longer waits for it: whatever ended the book, its end of stdin is closed. In the
# background of a shell, where Ctrl-C is ignored, the signal would be ignored too.
_PAPERMILL = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=watch, daemon=True).start()
from papermill.cli import papermill
papermill()
"""

# Kernels choose their ports before they bind them, so two that start together can collide; on a busy machine a kernel
# may start too late; and a process may crash while it ends, when all is done. None of this is the notebook's fault.
NOT_THE_NOTEBOOK = re.compile(
    r"Address already in use|Kernel died before replying|Kernel didn't respond in|exited with status -(6|11)\b"
)
ATTEMPTS = 3


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
        """Return the names that the parameters cell declares, with their defaults.

        Raises
        ------
        ValueError
            If there is no such cell, or a default is not a literal.
        """
        declared = inspect_notebook(self.ipynb)
        if not declared:
            raise ValueError(f'notebooks/{self.name}.py has no parameters cell: begin it with # %% tags=["parameters"]')
        try:
            return {name: ast.literal_eval(each["default"]) for name, each in declared.items()}
        except (SyntaxError, ValueError) as error:
            message = f"notebooks/{self.name}.py: a parameter has a default that is not a literal: write its value"
            raise ValueError(message) from error

    def sync(self) -> str | None:
        """Bring the pair in step with the one of its files that was edited.

        Returns
        -------
        str or None
            What was done, or None if the two agree.

        Raises
        ------
        FileNotFoundError
            If the script does not exist.
        ValueError
            If both were edited.
        """
        if not self.source.is_file():
            raise FileNotFoundError(f"notebooks/{self.name}.py does not exist, but _toc.yml lists that page")
        script, notebook, agreed, done = _hash_of_cells(self.source), None, None, None
        if self.ipynb.exists():
            notebook = _hash_of_cells(self.ipynb)
            agreed = nbformat.read(self.ipynb, as_version=4).metadata.get(AGREED)
        if notebook == script == agreed:
            return None
        if notebook in (agreed, None):
            done = "the ipynb was regenerated from its py"
        elif agreed == script:
            jupytext_command(["--quiet", "--to", "py:percent", str(self.ipynb)])
            done = "the py was changed as its ipynb was"
        elif notebook != script:
            raise ValueError(
                f"notebooks/{self.name}.py and {self.name}.ipynb differ, and both may have been edited: keep the py by "
                f"`jupytext --to ipynb --update notebooks/{self.name}.py`, or the ipynb by "
                f"`jupytext --to py:percent notebooks/{self.name}.ipynb`"
            )
        # Jupytext keeps the ids of the cells, and changes no file whose content stays the same.
        jupytext_command(["--quiet", "--to", "ipynb", "--update", str(self.source)])
        written = nbformat.read(self.ipynb, as_version=4)
        written.metadata[AGREED] = _hash_of_cells(self.source)
        with replacing(self.ipynb) as temporary:
            nbformat.write(written, temporary)
        return done

    def execute(self, parameters: Mapping[str, Any], stdin: int) -> str | None:
        """Run the notebook and put the result, complete or not, where the book looks for it.

        Parameters
        ----------
        parameters : mapping
            Values for parameters that the notebook declares.
        stdin : int
            End of a pipe to read from; the run is stopped when the other end is closed.

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
            for _ in range(ATTEMPTS):
                error = self._papermill(output, quoted, drawn, parameters, stdin)
                if error is None or not NOT_THE_NOTEBOOK.search(error):
                    break
            for made, place in ((output, self.executed), (quoted, self.reported_values)):
                if made.exists():
                    os.replace(made, place)
                else:
                    place.unlink(missing_ok=True)
            shutil.rmtree(self.figures, ignore_errors=True)
            self.figures.parent.mkdir(exist_ok=True)
            os.replace(drawn, self.figures)
        return error

    def _papermill(
        self, output: Path, quoted: Path, drawn: Path, parameters: Mapping[str, Any], stdin: int
    ) -> str | None:
        from embedllm.plots import _style as figures  # takes seconds, which a build without a stale notebook is spared
        from embedllm.protocol import reported_values

        # Papermill records the paths in its output, which the book publishes: relative ones do not name the machine.
        paths = [path.relative_to(self.root).as_posix() for path in (self.ipynb, output)]
        threads = max(1, (os.cpu_count() or 1) // WORKERS)
        given = ["--parameters_yaml", yaml.safe_dump(dict(parameters))] if parameters else []
        pools = {POOLS: os.path.abspath(os.environ[POOLS])} if os.environ.get(POOLS) else {}
        run = subprocess.run(
            [sys.executable, "-c", _PAPERMILL, "--no-progress-bar", *given, *paths],
            cwd=self.root,
            # Notebooks that run side by side share the cores instead of fighting for them, unless the user sets the
            # number of threads; and the kernel named python3 is this environment's, not one registered for the user.
            env={
                "OMP_NUM_THREADS": str(threads),
                **os.environ,
                **pools,
                "JUPYTER_PREFER_ENV_PATH": "1",
                reported_values.TARGET: str(quoted),
                figures.TARGET: str(drawn),
            },
            stdin=stdin,
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


def _hash_of_cells(path: Path) -> str:
    """Hash what one edits in a notebook or its script: the cells with their tags, and the kernel; not the results."""
    notebook = jupytext.read(path)
    cells = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
    return hashlib.sha256(json.dumps([cells, notebook.metadata.get("kernelspec")]).encode()).hexdigest()


if __name__ == "__main__":
    try:
        for path in sorted(Path("notebooks").glob("*.py")):
            if done := Notebook(Path.cwd(), path.stem).sync():
                print(f"notebooks/{path.stem}: {done}")
    except ValueError as error:
        sys.exit(str(error))
