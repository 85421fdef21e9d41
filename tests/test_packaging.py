"""What a wheel of the package holds, and that it works without the repository."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import embedllm

ROOT = Path(__file__).parents[1]

SCRIPT = """
import embedllm

for name in embedllm.__all__:
    assert getattr(embedllm, name) is not None
assert len(embedllm.load_published())
assert embedllm.load_dataset("simulated", scale=0.01).n_models == 112
print(embedllm.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel that is built from what git tracks or would track, by the tools that are installed."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "embedllm",
        "data",
        "*.toml",
        "*.md",
        "LICENSE",
    ]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.iterdir()
    return path


def test_wheel_holds_the_package_and_its_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "embedllm").rglob("*.py")}
    data = {f"embedllm/data/{path.name}" for path in (ROOT / "data").iterdir() if path.suffix in (".yml", ".json")}
    assert data
    assert modules | data <= names
    assert {"embedllm/py.typed", "embedllm/__init__.pyi", "embedllm/plots/companion.mplstyle"} <= names
    assert not [name for name in names if name.startswith(("tests", "notebooks", "book/", "benchmarks"))]


@pytest.mark.slow
def test_wheel_works_without_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_relative_to(tmp_path)


def test_stub_is_the_list_of_public_names():
    lines = (ROOT / "embedllm" / "__init__.pyi").read_text().splitlines()
    names = [re.fullmatch(r"from \.[\w.]+ import (\w+) as \1", line)[1] for line in lines]
    assert sorted(names) == sorted(embedllm.__all__)
