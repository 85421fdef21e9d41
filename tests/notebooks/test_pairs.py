"""Each notebook is a pair: the script that one edits, and the same cells without outputs for Jupyter and Papermill."""

import shutil
from pathlib import Path

import nbformat
import pytest
from jupytext.cli import jupytext

from embedllm.book.notebooks import AGREED, Notebook
from embedllm.book.parameters import declared_parameters

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted({path.stem for path in NOTEBOOKS.iterdir() if path.suffix in (".py", ".ipynb")})


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.fixture
def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_pair_is_in_sync(name, capsys):
    jupytext(["--quiet", "--to", "py:percent", "--output", "-", str(NOTEBOOKS / f"{name}.ipynb")])
    source = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    assert capsys.readouterr().out == source, f"notebooks/{name}.ipynb differs from its py: run make notebooks"


def test_pair_carries_what_it_agreed_on(name, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for suffix in ("py", "ipynb"):
        shutil.copy(NOTEBOOKS / f"{name}.{suffix}", folder)
    before = nbformat.read(folder / f"{name}.ipynb", as_version=4).metadata.get(AGREED)
    Notebook(tmp_path, name).sync()
    after = nbformat.read(folder / f"{name}.ipynb", as_version=4).metadata[AGREED]
    assert after == before, "run make notebooks"


def test_ipynb_has_no_results(code):
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None


def test_ipynb_names_its_kernel(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_parameters_are_declared_and_checked_first(code):
    """Only the box that the page begins with stands above them."""
    box, declared, checked, *_ = code
    assert "in_short = InShort(" in box.source
    assert "parameters" in declared.metadata.get("tags", [])
    assert declared_parameters(declared.source), "the parameters cell must hold annotated assignments only"
    assert "check_parameters()" in checked.source.splitlines()
