"""The notebooks run through Papermill as a reader types it, from any folder and on any data."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from hostile import with_hostile_names

from embedllm.book.execution import COLLECTING
from embedllm.book.parameters import declared_parameters
from embedllm.protocol.reported_values import TARGET, ReportedValue, report
from embedllm.studies.summary import CLAIMS

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
ROUTERS = ["oracle", "MF", "KNN", "best model per benchmark", "best single model", "weighted random", "uniform random"]


@pytest.fixture
def papermill(tmp_path):
    """Run a notebook from another working directory than the checkout; return the process and the executed copy."""

    def run(name, **parameters):
        flags = ["--parameters_yaml", yaml.safe_dump({key: _plain(value) for key, value in parameters.items()})]
        command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / f"{name}.ipynb"), "out.ipynb", *flags]
        # The data is too small for threads, and the kernel named python3 is this environment's.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
        process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        out = tmp_path / "out.ipynb"
        return process, nbformat.read(out, as_version=4) if out.exists() else None

    return run


def _plain(value):
    return str(value) if isinstance(value, Path) else value


def small(name):
    """Parameters that make a notebook quick: few questions, seeds and values to try."""
    source = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    quick = {"scale": 0.02, "n_seeds": 2, "dim": 16, "n_neighbors": 31, "dims": [1, 8], "alphas": [0.05, 0.1]}
    quick["epochs"] = 2
    return {key: value for key, value in quick.items() if re.search(rf"^{key}: ", source, re.MULTILINE)}


def outputs(notebook, kind):
    """What the code cells show, as one kind of data."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                found.append(output["data"][kind])
            elif kind == "text/plain" and "text" in output:
                found.append(output["text"])
    return found


def table_of(notebook, *columns):
    """Rows, without markup, of the first table whose header holds all the columns."""
    for shown in outputs(notebook, "text/html"):
        rows = [
            [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", shown, re.DOTALL)
        ]
        if rows and set(columns) <= set(rows[0]):
            return rows
    raise AssertionError(f"no table with columns {columns}")


def calls(notebook, pattern):
    return sum(len(re.findall(pattern, cell.source)) for cell in notebook.cells if cell.cell_type == "code")


WITHOUT_DATA = ["limits", "published_numbers", "speed"]
"""Notebooks that take no data set of the reader."""


@pytest.mark.parametrize("name", ["routing", *WITHOUT_DATA])
def test_runs_at_small_scale_from_another_folder(papermill, tmp_path, name):
    process, notebook = papermill(name, **small(name))
    assert process.returncode == 0, process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    stderr = [output["text"] for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    assert not [text for text in stderr if "Warning" in text or "Error" in text]
    # One picture for each figure that is drawn.
    assert len(outputs(notebook, "image/png")) == calls(notebook, r"\bplot_\w+\(")
    # Simulated data are named as such.
    source = "published values" if name == "published_numbers" else "simulated"
    assert any(source in shown for shown in outputs(notebook, "text/html"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*COLLECTING, *WITHOUT_DATA}])
def test_runs_on_own_data_with_missing_answers(papermill, tmp_path, write_long_form, toy_with_holes, name):
    """Two benchmarks, six models, one of which was not run on one of the benchmarks; names that are not only letters.

    The name of the folder, which every page shows, would run as markup, and is mathematics and a foreign language.
    """
    matrix = with_hostile_names(toy_with_holes, 0)
    folder = write_long_form(tmp_path / "own <img src=x onerror=alert(1)> $\\frac{$ 模型", matrix)
    process, notebook = papermill(name, **small(name) | {"dataset": folder.name})
    assert process.returncode == 0, process.stderr
    assert calls(notebook, r"\b(plot|explore)_\w+\(") > 0
    # What an export to HTML, or the book, takes as it is.
    for kind in ("text/html", "text/markdown", "image/svg+xml"):
        assert not re.search(r"<img src=x|<script>alert", "".join(outputs(notebook, kind)))
    assert not any(
        " missing from " in output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    if name != "what_embedllm_is":  # it shows records of other pools, named
        assert not any("simulated" in text for text in outputs(notebook, "text/html"))


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A folder of a build that reported one value of a simulated pool."""
    monkeypatch.setenv(TARGET, str(tmp_path / "routing.reported.json"))
    report([ReportedValue("route_gain", "gain", [2.0], "points", (1.0, 3.0))], "simulated pool")
    monkeypatch.delenv(TARGET)
    return tmp_path


def test_summary_shows_the_build_and_the_records(papermill, built):
    process, notebook = papermill("summary", folder=built)
    assert process.returncode == 0, process.stderr
    header, *rows = table_of(notebook, "claim", "published", "simulated pool, this build")
    assert [head.partition(",")[0] for head in header[2:]] == ["MMLU-Pro", "ZeroEval", "simulated pool"]
    (row,) = [row for row in rows if row[0].startswith("The MF router beats the best single model")]
    assert (row[1], row[-1]) == ("stated without a value", "+2.0 points+1.0 to +3.0in the ground truth")
    assert all(len(row) == len(header) for row in rows)
    assert len(rows) == len(CLAIMS)


def test_real_answers_are_shown_from_the_records(papermill, built):
    process, notebook = papermill("real_answers", folder=built)
    assert process.returncode == 0, process.stderr
    # One figure of the gains, and three of each data set.
    assert len(outputs(notebook, "image/png")) == 7
    shown = "".join(outputs(notebook, "text/html"))
    assert "MMLU-Pro, recorded" in shown
    assert "simulated" not in shown
    assert "this build" not in shown


def test_bad_value_is_named(papermill):
    process, _ = papermill("routing", scale=0.02, dim=-3)
    assert process.returncode != 0
    assert "ValueError: dim must be a positive whole number, got -3" in process.stderr


def test_own_data_in_the_working_directory(papermill, tmp_path, write_long_form, toy_with_holes):
    """A folder in the working directory, named by a relative path; dim and k are larger than the data."""
    folder = write_long_form(tmp_path / "own pool", toy_with_holes)
    process, notebook = papermill("routing", dataset=folder.name)
    assert process.returncode == 0, process.stderr
    shown = outputs(notebook, "text/html")
    assert any("6 models x 40 questions" in text for text in shown)
    assert not any("simulated" in text for text in shown)
    assert_complete(notebook, toy_with_holes)


def test_real_answers_are_routed(papermill, zeroeval_folder, zeroeval):
    process, notebook = papermill("routing", dataset=zeroeval_folder, n_neighbors=31)
    assert process.returncode == 0, process.stderr
    accuracy = assert_complete(notebook, zeroeval)
    assert accuracy["oracle"] > max(accuracy[name] for name in ROUTERS[1:])
    assert accuracy["uniform random"] < min(accuracy[name] for name in ROUTERS[:5])
    # Always asking the best model is hard to beat there; a router that reads the question is not far below it.
    assert accuracy["MF"] > accuracy["weighted random"]
    assert 0.5 < accuracy["best single model"] < 1


def assert_complete(notebook, matrix):
    """Check that there is a row for every router and one for every benchmark; return the accuracies overall."""
    tests = [matrix.split(random_state=seed).test for seed in range(3)]
    (tested, *_), names = tests, {name for test in tests for name in test.benchmark_names}
    header, *rows = table_of(notebook, "accuracy", "n_questions")
    rows = {row[0]: dict(zip(header, row, strict=True)) for row in rows if row[0] in ROUTERS}
    assert list(rows) == ROUTERS
    for row in rows.values():
        assert int(row["n_questions"].replace(",", "")) == tested.observed.any(axis=0).sum()
        assert float(row["stderr"]) > 0
    columns, *by_benchmark = table_of(notebook, *ROUTERS)
    assert columns[2:] == ["MF, first run", "SGD, first run", *ROUTERS]
    # The names of the two index columns have a row of their own, and a source is written once for its rows.
    benchmarks = [row[1 - len(columns)] for row in by_benchmark if len(row) > len(ROUTERS) + 1 and row[-1]]
    assert benchmarks[0] == "overall"
    assert len(benchmarks) - 1 == len(names) and set(benchmarks[1:]) == names
    return {name: float(row["accuracy"]) for name, row in rows.items()}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_one_name_are_declared_alike(name):
    # So that a value set for the book means the same in every notebook.
    def cell(stem):
        notebook = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)
        return declared_parameters(
            next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        )

    mine = cell(name)
    assert mine
    for other in NAMES:
        theirs = cell(other)
        for key in mine.keys() & theirs.keys():
            assert mine[key] == theirs[key], f"{key} in {name} and {other}"
