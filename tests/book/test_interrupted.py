"""A build that is stopped leaves nothing that runs on, and nothing that the next build takes for complete."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from embedllm.book.execution import refresh
from embedllm.book.notebooks import Notebook

ROOT = Path(__file__).parents[2]
NAMES = ["one", "two", "three"]

# It says who it is, and then computes; two run at a time.
SOURCE = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
seed: int = 0

# %%
import os, time
from pathlib import Path

Path(f"running-{os.getpid()}").touch()
time.sleep(300)
"""
BUILD = """
import signal
import sys
from pathlib import Path
from embedllm.book.execution import refresh

signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where these tests run in the background
refresh(Path.cwd(), sys.argv[1:], {}, print)
"""


def wait(until, seconds=120):
    """Wait for something that is not empty."""
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return found


def runs(number):
    try:
        os.kill(number, 0)
        state = Path(f"/proc/{number}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it ended between the two lines, or this system has no /proc
        return not Path("/proc/self").exists()
    return state.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def root(tmp_path):
    for folder in ("book/notebooks", "embedllm", "notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "notebooks" / f"{name}.py").write_text(SOURCE)
    return tmp_path


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)],
    ids=["Ctrl-C", "interrupted", "killed"],
)
def test_nothing_runs_on_and_all_is_stale(root, number, whole_group, monkeypatch):
    for name in NAMES:  # of an earlier build
        Notebook(root, name).figures.mkdir(parents=True)
        for path in (Notebook(root, name).executed, Notebook(root, name).stamp):
            path.write_text("{}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    build = subprocess.Popen([sys.executable, "-c", BUILD, *NAMES], cwd=root, env=environment, start_new_session=True)
    kernels = wait(lambda: [path for path in root.glob("running-*")] if len([*root.glob("running-*")]) == 2 else [])
    (os.killpg if whole_group else os.kill)(build.pid, number)
    numbers = [int(path.name.partition("-")[2]) for path in kernels]
    try:
        assert build.wait(120) != 0
        wait(lambda: not any(map(runs, numbers)))
        assert len([*root.glob("running-*")]) == 2, "a third notebook began"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGKILL)
    if number == signal.SIGINT:
        assert not list((root / "book" / "_build").iterdir())
    monkeypatch.setattr(Notebook, "execute", lambda *_: None)
    lines = []
    refresh(root, NAMES, {}, lines.append)
    assert sum("executing (" in line for line in lines) == 3, lines


@pytest.mark.slow
def test_pages_that_quote_others_are_written_again(book):
    """Also where the build was killed when Sphinx had read the new values, and not written them."""
    book.edit("embedllm/book/extension.py", "import annotations\n", "import annotations\nimport os\n")
    book.edit(
        "embedllm/book/extension.py",
        "    return {",
        '    app.connect("env-check-consistency", lambda *_: os.environ.get("KILLED") and os.kill(os.getpid(), 9))\n'
        "    return {",
    )
    (book.root / "data" / "offset.txt").write_text("5")
    status, output, executed = book.build(KILLED="yes")
    assert (status, executed) == (-signal.SIGKILL, {"one", "two"}), output
    assert output.count("done after") == 2, output
    status, output, executed = book.build()
    assert (status, executed) == (0, set()), output
    assert "One notebook says 35.0, the other\n35.0." in book.text("index")
