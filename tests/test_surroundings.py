"""Containers: an unknown user, no home, a locale of ASCII, and a checkout that cannot be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedllm.book.notebooks import Notebook

ROOT = Path(__file__).parents[1]
NOBODY = 12345
NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
dataset: str = "simulated"

# %%
from embedllm import load_dataset
from embedllm.plots.dataset import plot_composition

plot_composition(load_dataset(dataset, scale=0.01))
"""
TABLE = "prompt,benchmark,a,b\n" + "".join(f"What is {n} plus 2? 模型,sums,{n % 2},{n % 3 // 2}\n" for n in range(8))
HOMES = {
    "no home": {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "root of the system": {"HOME": "/", "LC_ALL": "C", "PYTHONUTF8": "0"},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository in which nobody may write; what is on it is read-only for its owner too."""
    place = tmp_path_factory.mktemp("read-only") / "checkout"
    for name in ("embedllm", "data"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "notebooks").mkdir()
    (place / "notebooks" / "small.py").write_text(NOTEBOOK)
    Notebook(place, "small").sync()
    for path in place.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o222)
    place.chmod(0o555)
    return place


@pytest.fixture(params=HOMES)
def run(request, checkout, tmp_path):
    """Return the function that runs Python as the unknown user, in a folder where it may write."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user, with setpriv of util-linux")
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "OMP_NUM_THREADS")}
    environment = kept | HOMES[request.param] | {"PYTHONPATH": str(checkout), "JUPYTER_PREFER_ENV_PATH": "1"}
    # It may read what only root can, since Python itself may be in such a folder.
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]

    def run(*arguments):
        command = [*become, sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    run.environment = environment
    return run


def test_commands(run, small_encoder, tmp_path):
    (tmp_path / "place" / "table.csv").write_text(TABLE)
    shared = ("--encoder", small_encoder, "--device", "cpu")
    for arguments in (
        ["import", "wide", "table.csv", "--out", "pool"],
        ["fit", "pool", "--router", "router", "--dim", "2"],
        ["route", "What is 7 plus 2?", "--router", "router"],
    ):
        _, err = run("-m", "embedllm", *arguments, *shared)
        assert err.count("\n") <= 1 and (not err or "the cache" in err), err
    assert {path.name for path in (tmp_path / "place").iterdir()} == {"table.csv", "pool", "router"}


def test_simulated_pool(run):
    code = "import embedllm; print(embedllm.load_dataset('simulated', scale=0.01).n_models)"
    out, err = run("-c", code)
    assert out == "112\n"
    assert err.count("Warning: ") <= 1, err


def test_notebook(run, checkout, tmp_path):
    if "HOME" in run.environment:
        _, err = run("-m", "papermill", "--no-progress-bar", checkout / "notebooks" / "small.ipynb", "out.ipynb")
        assert "Traceback" not in err
        shown = (tmp_path / "place" / "out.ipynb").read_text(encoding="utf-8")
    else:  # Papermill alone refuses to work; the book gives it a home
        place = Path(shutil.copytree(checkout, tmp_path / "place" / "copy"))
        subprocess.run(["chmod", "-R", "a+w", place], check=True)
        code = "from pathlib import Path; from embedllm.book.execution import refresh; "
        assert "'small'" not in run("-c", code + "print(refresh(Path('copy').resolve(), ['small'], {}, print))")[0]
        shown = (place / "book" / "notebooks" / "small.ipynb").read_text(encoding="utf-8")
    assert '"image/png"' in shown and "Warning" not in shown, shown
