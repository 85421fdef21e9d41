"""Which notebooks run again, and what happens when they cannot."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from embedllm.book import execution, notebooks
from embedllm.book.dependencies import Dependencies
from embedllm.book.execution import inputs, refresh
from embedllm.book.notebooks import Notebook
from embedllm.plots import _style as figures
from embedllm.protocol.reported_values import TARGET, ReportedValue, report

SOURCE = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# A notebook.

# %% tags=["parameters"]
seed: int = 0

# %%
from embedllm.mf import DIM

DIM
"""


@pytest.fixture
def root(tmp_path):
    for folder in ("book/notebooks", "data/cache", "embedllm", "notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "notebooks" / f"{name}.py").write_text(SOURCE)
    (tmp_path / "embedllm" / "mf.py").write_text('STYLE, SOURCES, DIM = "own.mplstyle", "data/sources.yml", 232\n')
    (tmp_path / "embedllm" / "own.mplstyle").write_text("font.size: 9\n")
    (tmp_path / "data" / "sources.yml").write_text("a: 1\n")
    return tmp_path


@pytest.fixture
def papermill(monkeypatch):
    """Replace Papermill by a record of its calls, which writes its output unless it is told to fail."""
    calls, errors = [], []

    def run(command, *, cwd, **_):
        calls.append(command)
        if errors:
            return subprocess.CompletedProcess(command, 1, stdout=errors.pop(0))
        (cwd / command[-1]).write_text("executed")
        return subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(notebooks.subprocess, "run", run)
    return calls, errors


def refreshed(root, names=("one", "two"), parameters=None):
    """Refresh, and return the failures and the lines of progress without their times."""
    lines = []
    failed = refresh(root, names, parameters or {}, lines.append)
    return failed, sorted(line.split(" after ")[0] for line in lines)


def test_nothing_changed_executes_nothing(root, papermill):
    assert "notebooks/one: the ipynb was regenerated from its py" in refreshed(root)[1]
    assert refreshed(root) == ({}, ["notebooks/one: unchanged", "notebooks/two: unchanged"])


@pytest.mark.parametrize("path", ["embedllm/mf.py", "embedllm/own.mplstyle", "data/sources.yml", "notebooks/one.py"])
def test_stale_notebook_says_why(root, papermill, path):
    refreshed(root, ["one"])
    with (root / path).open("a") as stream:
        stream.write("more: int = 1\n")
    assert f"notebooks/one: executing ({path} changed)" in refreshed(root, ["one"])[1]


@pytest.mark.parametrize(
    "path",
    ["embedllm/knn.py", "embedllm/other.mplstyle", "data/other.yml", "data/expected/simulated.json", "README.md"],
)
def test_what_a_notebook_does_not_use_makes_nothing_stale(root, papermill, path):
    refreshed(root, ["one"])
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text("x = 1\n")
    assert refreshed(root, ["one"])[1] == ["notebooks/one: unchanged"]


def test_notebooks_find_the_folder_of_pools(root, monkeypatch):
    seen = []

    def run(command, *, env, **_):
        seen.append(env["EMBEDLLM_POOLS"])
        return subprocess.CompletedProcess(command, 1, stdout="")

    monkeypatch.setattr(notebooks.subprocess, "run", run)
    monkeypatch.chdir(root / "book")
    (root / "pools").mkdir()
    monkeypatch.setenv("EMBEDLLM_POOLS", "../pools")
    refreshed(root, ["one"])
    assert seen == [str(root / "pools")]


def test_touching_a_file_makes_nothing_stale(root, papermill):
    refreshed(root, ["one"])
    for path in (root / "notebooks/one.py", root / "embedllm/mf.py"):
        path.touch()
    assert refreshed(root, ["one"])[1] == ["notebooks/one: unchanged"]


def test_changed_parameter_and_version_are_reasons(root, papermill, monkeypatch):
    refreshed(root, ["one"], {"seed": 1})
    monkeypatch.setattr("platform.python_version", lambda: "2.7")
    line = "notebooks/one: executing (version of Python, parameter seed changed)"
    assert line in refreshed(root, ["one"], {"seed": 2})[1]


def test_many_reasons_are_counted(root, papermill):
    refreshed(root, ["one"], {"seed": 1})
    for path in ("notebooks/one.py", "embedllm/mf.py", "embedllm/own.mplstyle", "data/sources.yml"):
        with (root / path).open("a") as stream:
            stream.write("more: int = 1\n")
    line = "notebooks/one: executing (notebooks/one.py, data/sources.yml, embedllm/mf.py and 2 more changed)"
    assert line in refreshed(root, ["one"], {"seed": 2})[1]


class TestData:
    """Folders and files that a parameter names."""

    @pytest.fixture
    def read(self, root):
        """Return the inputs that are data, by their names, for a notebook with given parameters."""
        (root / "notebooks" / "one.py").write_text(SOURCE)

        def read(**parameters):
            found = inputs(Notebook(root, "one"), Dependencies(root), parameters)
            return {name: value for name, value in found.items() if name.startswith("data in")}

        return read

    @pytest.mark.parametrize("absolute", [False, True])
    def test_change_of_a_byte_is_seen(self, root, read, absolute):
        folder = root / "own"
        folder.mkdir()
        (folder / "correctness.csv").write_text("1")
        given = str(folder) if absolute else "own"
        before = read(dataset=given)
        (folder / "correctness.csv").write_text("2")
        assert before.keys() == {f"data in {given}"}
        assert read(dataset=given) != before

    def test_of_several_notebooks_is_read_once(self, root, read, monkeypatch):
        (root / "run.json").write_text("1")
        hashed = []
        monkeypatch.setattr("embedllm.book.dependencies.sha256_of", lambda path: hashed.append(path.name) or "0")
        dependencies = Dependencies(root)
        for _ in range(3):
            inputs(Notebook(root, "one"), dependencies, {"record": "run.json"})
        assert hashed.count("run.json") == 1

    def test_a_folder_that_stands_in_is_data(self, root, read, monkeypatch):
        (root / "pools" / "mmlu_pro").mkdir(parents=True)
        (root / "pools" / "mmlu_pro" / "correctness.csv").write_text("1")
        monkeypatch.delenv("EMBEDLLM_POOLS", raising=False)
        assert read(dataset="mmlu-pro") == {}
        monkeypatch.chdir(root)
        monkeypatch.setenv("EMBEDLLM_POOLS", "pools")
        before = read(dataset="mmlu-pro")
        (root / "pools" / "mmlu_pro" / "correctness.csv").write_text("2")
        assert before.keys() == {"data in mmlu-pro"}
        assert read(dataset="mmlu-pro") != before

    def test_a_file_is_data_too(self, root, read):
        (root / "run.json").write_text("1")
        before = read(record="run.json")
        (root / "run.json").write_text("2")
        assert list(before) == ["data in run.json"]
        assert read(record="run.json") != before

    def test_names_are_no_folders(self, root, read):
        assert (root / "embedllm").is_dir()
        assert read(dataset="embedllm") == read(dataset="simulated") == read(model="", solver="sgd", seed=3) == {}

    def test_named_in_the_notebook_only(self, root, papermill):
        (root / "own").mkdir()
        (root / "own" / "correctness.csv").write_text("1")
        source = SOURCE.replace("seed: int = 0", 'dataset: str = "own"')
        (root / "notebooks" / "one.py").write_text(source)
        refreshed(root)
        (root / "own" / "correctness.csv").write_text("2")
        lines = refreshed(root)[1]
        assert "notebooks/one: executing (data in own changed)" in lines
        assert "notebooks/two: unchanged" in lines


def test_folders_beside_executed_copies_are_left_alone(root, papermill):
    checkpoints = root / "book" / "notebooks" / ".ipynb_checkpoints"
    checkpoints.mkdir()
    (checkpoints / "one.ipynb").write_text("x")
    assert refreshed(root)[0] == {}
    assert checkpoints.is_dir()


def test_each_notebook_gets_the_parameters_it_declares(root, papermill):
    (root / "notebooks" / "two.py").write_text(SOURCE.replace("seed: int = 0", "seed: int = 0\ndim: int = 2"))
    refreshed(root, parameters={"seed": 3, "dim": 4})
    passed = {command[-2]: command[command.index("--parameters_yaml") + 1] for command in papermill[0]}
    assert passed == {"notebooks/one.ipynb": "seed: 3\n", "notebooks/two.ipynb": "dim: 4\nseed: 3\n"}


def test_parameter_that_no_notebook_declares_is_refused(root, papermill):
    with pytest.raises(ValueError, match="no notebook declares sede: remove it from embedllm_parameters"):
        refreshed(root, parameters={"sede": 3})
    assert papermill[0] == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("parameters", "params", r"notebooks/one\.py has no parameters cell: begin it"),
        ("= 0", "= zero()", r"notebooks/one\.py: a parameter has a default that is not a literal"),
    ],
)
def test_unsuitable_parameters_cell_is_named(root, old, new, message):
    (root / "notebooks" / "one.py").write_text(SOURCE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        refreshed(root)


def test_executed_copy_of_a_removed_notebook_is_removed(root, papermill):
    refreshed(root)
    refreshed(root, ["one"])
    shown = root / "book" / "notebooks"
    assert sorted(path.name for path in shown.iterdir()) == ["figures", "one.ipynb", "one.stamp.json"]
    assert [path.name for path in (shown / "figures").iterdir()] == ["one"]


class TestFigures:
    """The figures of a notebook and their data, which lie beside its executed copy."""

    @pytest.fixture
    def project(self, root, monkeypatch):
        """A notebook that draws what the text names, one after another, and fails if the text says so."""
        text = root / "data" / "sources.yml"
        text.write_text("map")

        def run(command, *, cwd, env, **_):
            drawn = Path(env[figures.TARGET])
            for name in text.read_text().split():
                (drawn / f"{drawn.name}-{name}.svg").touch()
            (cwd / command[-1]).write_text("executed")
            return subprocess.CompletedProcess(command, int("fail" in text.read_text()), stdout="it failed")

        monkeypatch.setattr(notebooks.subprocess, "run", run)
        return root, text

    def drawn(self, root):
        return sorted(path.name for path in Notebook(root, "one").figures.iterdir())

    def test_stay_as_long_as_nothing_changes(self, project):
        root, _ = project
        for line in ("notebooks/one: done", "notebooks/one: unchanged"):
            assert line in refreshed(root, ["one"])[1]
            assert self.drawn(root) == ["one-map.svg"]

    @pytest.mark.parametrize("text", ["routers", "routers fail"])
    def test_are_those_of_the_last_run(self, project, text):
        root, drawn = project
        refreshed(root, ["one"])
        drawn.write_text(text)
        assert bool(refreshed(root, ["one"])[0]) == ("fail" in text)
        assert self.drawn(root)[-1] == "one-routers.svg"
        assert "one-map.svg" not in self.drawn(root)

    def test_are_drawn_again_if_they_are_gone(self, project):
        root, _ = project
        refreshed(root, ["one"])
        shutil.rmtree(Notebook(root, "one").figures)
        assert "notebooks/one: executing (no complete run yet)" in refreshed(root, ["one"])[1]
        assert self.drawn(root) == ["one-map.svg"]


@pytest.mark.parametrize(
    "trouble",
    [
        "zmq.error.ZMQError: Address already in use",
        "Kernel died before replying to kernel_info",
        "RuntimeError: Kernel didn't respond in 60 seconds",
    ],
)
def test_what_is_not_the_fault_of_a_notebook_is_tried_thrice(root, papermill, trouble):
    calls, errors = papermill
    errors[:] = [trouble, trouble]
    assert refreshed(root, ["one"])[0] == {}
    (root / "notebooks" / "one.py").write_text(SOURCE + "\n# %%\n1\n")
    errors[:] = [trouble] * 3
    assert trouble in refreshed(root, ["one"])[0]["one"]
    assert len(calls) == 6


def test_failure_is_reported_once_per_refresh_and_leaves_no_stamp(root, papermill):
    calls, errors = papermill
    for _ in range(2):
        errors[:] = ['Traceback of Papermill\nException encountered at "In [2]":\nZeroDivisionError: x']
        failed, lines = refreshed(root, ["one"])
        expected = 'Papermill exited with status 1. Exception encountered at "In [2]":\nZeroDivisionError: x'
        assert failed == {"one": expected}
        assert "notebooks/one: FAILED" in lines
    assert len(calls) == 2
    assert not Notebook(root, "one").stamp.exists()


def test_run_without_output_leaves_no_old_figures(root, papermill):
    refreshed(root, ["one"])
    (root / "data" / "sources.yml").write_text("a: 2\n")
    papermill[1][:] = ["killed"]
    assert refreshed(root, ["one"])[0] == {"one": "Papermill exited with status 1. killed"}
    assert not Notebook(root, "one").executed.exists()


def test_unreadable_stamp_means_stale(root, papermill):
    refreshed(root, ["one"])
    Notebook(root, "one").stamp.write_text('{"the notebook": "ab')
    assert "notebooks/one: executing (no complete run yet)" in refreshed(root, ["one"])[1]


class TestDependentNotebooks:
    """`tuning` feeds those that declare what it chooses, `summary` reads the numbers of all."""

    NAMES = ("summary", "one", "routing", "tuning")

    @pytest.fixture
    def project(self, root, monkeypatch):
        """Return what was executed with which parameters, in order, and what each notebook publishes."""
        declared = {
            "summary": "seed: int = 0",
            "tuning": "seed: int = 0",
            "routing": "n_neighbors: int = 131\ndim: int = 232",
        }
        for name, cell in declared.items():
            (root / "notebooks" / f"{name}.py").write_text(SOURCE.replace("seed: int = 0", cell))
        executed, published = (
            [],
            {"tuning": [ReportedValue("n_neighbors", "k", [64]), ReportedValue("tuned_mf", "MF", [70.0])]},
        )

        def run(command, *, cwd, env, **_):
            name = Path(command[-2]).stem
            given = yaml.safe_load(command[command.index("--parameters_yaml") + 1]) if len(command) > 6 else {}
            executed.append((name, given))
            if published.get(name):
                with monkeypatch.context() as patch:
                    patch.setenv(TARGET, env[TARGET])
                    report(published[name], "toy")
            (cwd / command[-1]).write_text("executed")
            return subprocess.CompletedProcess(command, 1 if published.get(name) == [] else 0, stdout="it failed")

        monkeypatch.setattr(notebooks.subprocess, "run", run)
        monkeypatch.setattr(execution, "WORKERS", 1)
        return root, executed, published

    def test_order_and_what_is_passed_on(self, project):
        root, executed, _ = project
        assert refreshed(root, self.NAMES)[0] == {}
        assert executed == [("tuning", {}), ("routing", {"n_neighbors": 64}), ("one", {}), ("summary", {})]
        assert type(executed[1][1]["n_neighbors"]) is int

    def test_two_workers_keep_the_order(self, project, monkeypatch):
        root, executed, _ = project
        monkeypatch.setattr(execution, "WORKERS", 2)
        assert refreshed(root, self.NAMES)[0] == {}
        order = [name for name, _ in executed]
        assert order.index("tuning") < order.index("routing")
        assert order[-1] == "summary"

    def test_pages_on_the_papers_settings_take_nothing(self, project):
        root, executed, _ = project
        source = (root / "notebooks" / "routing.py").read_text()
        (root / "notebooks" / "cost.py").write_text(source)
        assert refreshed(root, [*self.NAMES, "cost"])[0] == {}
        assert [name for name, _ in executed] == ["tuning", "routing", "one", "cost", "summary"]
        assert ("cost", {}) in executed

    def test_what_the_user_sets_wins(self, project):
        root, executed, _ = project
        refreshed(root, self.NAMES, {"n_neighbors": 8})
        assert ("routing", {"n_neighbors": 8}) in executed

    def test_another_choice_makes_stale_what_depends_on_it(self, project):
        root, executed, published = project
        refreshed(root, self.NAMES)
        assert executed[4:] == refreshed(root, self.NAMES)[1][4:] == []
        published["tuning"] = [ReportedValue("n_neighbors", "k", [32])]
        (root / "notebooks" / "tuning.py").write_text((root / "notebooks" / "tuning.py").read_text() + "\n# %%\n1\n")
        assert "notebooks/routing: executing (parameter n_neighbors changed)" in refreshed(root, self.NAMES)[1]
        assert [name for name, _ in executed[4:]] == ["tuning", "routing", "summary"]

    def test_summary_is_stale_when_a_number_changed(self, project):
        root, executed, published = project
        published["one"] = [ReportedValue("a", "a", [1.0])]
        refreshed(root, self.NAMES)
        (root / "notebooks" / "one.py").write_text(SOURCE + "\n# %%\n1\n")
        assert [name for name, _ in executed[4:]] == []
        published["one"] = [ReportedValue("a", "a", [2.0])]
        assert "notebooks/summary: executing (a reported value changed)" in refreshed(root, self.NAMES)[1]

    @pytest.mark.parametrize("dataset", ["simulated", "zeroeval"])
    def test_real_answers_wait_for_a_build_on_real_answers_alone(self, project, dataset):
        root, _, published = project
        published["one"] = []
        source = SOURCE.replace("seed: int = 0", 'dataset: str = "simulated"')
        (root / "notebooks" / "real_answers.py").write_text(source)
        failed, _ = refreshed(root, [*self.NAMES, "real_answers"], {"dataset": dataset})
        assert ("real_answers" in failed) == (dataset == "zeroeval")

    def test_failure_stops_what_depends_on_it(self, project):
        root, executed, published = project
        published["tuning"] = []
        failed, lines = refreshed(root, self.NAMES)
        assert set(failed) == {"tuning", "routing", "summary"}
        assert failed["routing"] == "It needs the results of notebooks/tuning, which failed."
        assert "notebooks/routing: not executed, since notebooks/tuning failed" in lines
        assert [name for name, _ in executed] == ["tuning", "one"]

    def test_numbers_that_a_notebook_no_longer_publishes_are_removed(self, project):
        root, _, published = project
        refreshed(root, self.NAMES)
        assert Notebook(root, "tuning").reported_values.exists()
        del published["tuning"]
        (root / "embedllm" / "mf.py").write_text("DIM = 4\n")
        refreshed(root, self.NAMES)
        assert not Notebook(root, "tuning").reported_values.exists()

    def test_without_tuning_in_the_book_the_defaults_hold(self, project):
        root, executed, _ = project
        refreshed(root, ["routing", "summary"])
        assert executed == [("routing", {}), ("summary", {})]
