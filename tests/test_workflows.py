"""The workflows on GitHub run what is run here: targets of the Makefile and scripts of this repository.

`make lint` checks their syntax, expressions and permissions.
"""

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from embedllm.book.notebooks import Notebook

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SCRIPT = ROOT / ".ci" / "run"


def steps(path):
    """The steps of all jobs of a workflow."""
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


STEPS = [step for path in WORKFLOWS for step in steps(path)]


def test_there_is_a_workflow():
    assert WORKFLOWS


@pytest.mark.parametrize("command", [line for step in STEPS for line in step.get("run", "").splitlines()])
def test_workflow_repeats_nothing_that_is_defined_elsewhere(command):
    match shlex.split(command):
        case ["make", *targets]:
            assert set(targets) <= TARGETS
        case [script]:
            assert os.access(ROOT / script, os.X_OK), f"{script} is no executable script of this repository"
        case _:
            raise AssertionError(f"make this a target of the Makefile: {command}")


def test_script_of_ci_calls_targets_that_exist():
    targets = re.findall(r"\bmake ([\w-]+)", re.sub(r"echo.*", "", SCRIPT.read_text()))
    assert {"lint", "book", "test"} <= set(targets) <= TARGETS


def test_cache_holds_the_executed_copies_with_their_stamps():
    """Without the stamp a copy is executed again; the stamp is only as good as the rules in the key of the cache."""
    notebook = Notebook(Path(), "routing")
    caches = [step["with"] for step in STEPS if step.get("uses", "").startswith("actions/cache")]
    assert caches
    for cache in caches:
        assert {Path(cache["path"])} == {
            notebook.executed.parent,
            notebook.stamp.parent,
            notebook.reported_values.parent,
        }
    (restored,) = [cache for cache in caches if "restore-keys" in cache]
    for key in (restored["key"], restored["restore-keys"]):
        for path in ("requirements.lock", "embedllm/book/execution.py", "embedllm/book/dependencies.py"):
            assert (ROOT / path).is_file()
            assert path in key
    # The build of the same name that is found is the newest one, whose key starts like this.
    assert restored["key"].startswith(restored["restore-keys"].strip())
