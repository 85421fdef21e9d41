"""environment.yml, requirements.lock and pyproject.toml describe one environment."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
# The reader of inspect_ai's logs is for those who have such logs: what it brings is not in the environment.
EXTRAS = {name: group for name, group in PROJECT["optional-dependencies"].items() if name != "inspect"}
GROUPS = [PROJECT["dependencies"], *EXTRAS.values()]
REQUIREMENTS = [Requirement(specifier) for group in GROUPS for specifier in group]
LOCK = {
    canonicalize_name(pin.name): pin.specifier
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}


def test_every_line_of_the_lock_is_an_exact_public_version():
    for name, specifier in LOCK.items():
        assert str(specifier).startswith("=="), f"{name} is not pinned: {specifier}"
        # A local version such as +cpu exists on one machine's index only.
        assert "+" not in str(specifier), f"{name} is pinned to a local version: {specifier}"


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_the_lock_satisfies_pyproject(requirement):
    pin = LOCK.get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} has no line in requirements.lock: run make lock"
    assert requirement.specifier.contains(str(pin).removeprefix("==")), f"the lock has {pin}: run make lock"


@pytest.mark.parametrize(
    "name",
    ["jupyter-book", "jupytext", "papermill", "torch", "sentence-transformers", "matplotlib", "seaborn", "pandas"],
)
def test_the_lock_has_what_the_companion_promises(name):
    assert name in LOCK


def test_jupyter_book_stays_below_2():
    (requirement,) = [entry for entry in REQUIREMENTS if entry.name == "jupyter-book"]
    assert not requirement.specifier.contains("2.0.0")
    assert not LOCK["jupyter-book"].contains("2.0.0")


def test_conda_installs_the_lock_and_the_package():
    *conda, pip = CONDA["dependencies"]
    (python,) = [spec.removeprefix("python=") for spec in conda if spec.startswith("python=")]
    assert CONDA["channels"] == ["conda-forge"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert "pip" in conda
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert (ROOT / "requirements.lock").is_file()
