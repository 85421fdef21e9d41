"""Parameters that a notebook does not declare are refused, by name."""

import subprocess
import sys

import nbformat
import pytest

from embedllm.book.parameters import check_history, check_parameters, declared_parameters

DECLARED = 'dim: int = 232  # size of an embedding\ndataset: str = "simulated"  # name or folder\nscale: float = 1.0'
CHECK = "from embedllm.book.parameters import check_parameters\n\ncheck_parameters()"


@pytest.fixture
def papermill(tmp_path):
    """Run a tiny notebook through Papermill's command line, as typed."""

    def run(*arguments, tag="parameters"):
        sources = (DECLARED, CHECK, "print('dim is', dim, 'scale is', scale)")
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[0].metadata["tags"] = [tag]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "in.ipynb")
        command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "--log-output", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_declared_parameters_pass(papermill):
    run = papermill("-p", "dim", "8", "-p", "scale", "2")
    assert run.returncode == 0, run.stderr
    assert "dim is 8 scale is 2" in run.stdout + run.stderr


@pytest.mark.slow
def test_unknown_name_is_refused(papermill):
    run = papermill("-p", "dmi", "8", "-p", "zzz", "1")
    assert run.returncode != 0
    assert "ValueError: unknown parameters 'dmi' (did you mean 'dim'?), 'zzz'" in run.stderr
    assert "dim (int), dataset (str), scale (float)" in run.stderr


@pytest.mark.slow
def test_value_of_another_type_is_refused(papermill):
    run = papermill("-p", "dim", "ten")
    assert run.returncode != 0
    assert "TypeError: parameter 'dim' must be int, not 'ten' (str)" in run.stderr


@pytest.mark.slow
def test_renamed_tag_is_refused(papermill):
    run = papermill("-p", "dim", "8", tag="params")
    assert run.returncode != 0
    assert "ValueError: the given parameters (dim) would be ignored" in run.stderr
    assert "Restore the tag" in run.stderr


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", 3),
        ("float", 3),
        ("float", 0.5),
        ("str", "a"),
        ("bool", True),
        ("list[int]", [1, 2]),
        ("int | None", None),
        ("str | float", 1),
    ],
)
def test_accepted_types(annotation, value):
    check_history([f"x: {annotation} = 0", f"# Parameters\nx = {value!r}\n"], {"x": value})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", True),
        ("int", 3.0),
        ("int", "3"),
        ("float", False),
        ("float", "x"),
        ("str", 7),
        ("bool", 1),
        ("list[int]", 3),
        ("list[int]", ["a"]),
        ("int | None", "a"),
    ],
)
def test_refused_types(annotation, value):
    with pytest.raises(TypeError) as error:
        check_history([f"x: {annotation} = 0", f"# Parameters\nx = {value!r}\n"], {"x": value})
    assert all(part in str(error.value) for part in ("'x'", annotation, repr(value)))


def test_a_number_for_a_string_tells_the_remedy():
    with pytest.raises(TypeError, match="-r instead of -p"):
        check_history([DECLARED, "# Parameters\ndataset = 7\n"], {"dataset": 7})


def test_cells_run_again_by_hand_are_accepted():
    injected = "# Parameters\ndim = 8\n"
    check_history(["", DECLARED, injected, CHECK, DECLARED, CHECK, "note: int = 3", CHECK], {"dim": 232})
    check_history(["", DECLARED, "# Parameters\ndmi = 8\n", CHECK, injected, CHECK], {"dim": 8})


def test_injected_parameters_without_a_declaration_are_refused():
    with pytest.raises(ValueError, match=r"\(dim\) would be ignored"):
        check_history(["", "# Parameters\ndim = 8\n", CHECK], {"dim": 8})


def test_nothing_is_checked_outside_ipython_or_without_injection():
    check_parameters()
    check_history(["", DECLARED, CHECK], {"dim": "changed by hand"})


@pytest.mark.parametrize("source", ["", "x = 1", "x: int", "x: int = 1\nprint(x)", "x: int ="])
def test_only_annotated_assignments_declare(source):
    assert declared_parameters(source) == {}


def test_declared_parameters_keep_order_and_annotation():
    assert declared_parameters(DECLARED) == {"dim": "int", "dataset": "str", "scale": "float"}


def test_own_cell_that_begins_alike_is_not_injected():
    check_history(["", DECLARED, "# Parameters of my own\nlr = 3"], {"lr": 3})
