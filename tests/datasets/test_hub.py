"""The paper's release, from download to book, through a look-alike of the Hub that also cuts and forges."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from hub_lookalike import COMMIT, serve

from embedllm import load_dataset
from embedllm.datasets.model_names import describe_models

ROOT = Path(__file__).parents[2]
RELEASE = yaml.safe_load(resources.files("embedllm.data").joinpath("sources.yml").read_text(encoding="utf-8"))[
    "embedllm"
]
LOAD = "from embedllm import load_dataset\nmatrix = load_dataset('embedllm')\n"
RECORD = "record.json"
MIB = 1 << 20


class Machine:
    """A user's machine: its cache, and the Hub that it talks to."""

    def __init__(self, home, hub):
        self.home, self.hub = home, hub
        self.folder = home / "own" / "hub" / "RZ412--EmbedLLM@266ae3e"

    def environment(self, **more):
        # The client reads its settings when it is imported, so each load is a process of its own.
        settings = {
            "HF_ENDPOINT": self.hub.address,
            "HF_HOME": str(self.home / "hf"),
            "EMBEDLLM_CACHE": str(self.home / "own"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        return {key: value for key, value in environment.items() if key != "HF_HUB_OFFLINE"} | settings | more

    def run(self, code, **environment):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=self.environment(**environment), capture_output=True, text=True)

    def load(self, **environment):
        run = self.run(LOAD + "print(matrix)", **environment)
        assert run.returncode == 0, run.stderr
        return run

    def fail(self, **environment):
        """Load in vain; return the last line of what was said."""
        run = self.run(LOAD, **environment)
        assert run.returncode != 0
        return run.stderr.strip().splitlines()[-1]

    def names(self):
        return {path.name for path in self.folder.iterdir()} - {".lock"}


@pytest.fixture
def machine(tmp_path, release):
    # The release also holds what is never needed: gigabytes of embeddings repeated for each model, pickles.
    served = tmp_path / "served"
    shutil.copytree(release, served)
    for name in ("train_x.pth", "train_y.pth", "optimal_mf_model_embeddings.pth"):
        (served / name).write_bytes(b"never needed")
    with serve(served, RELEASE["repository"]) as hub:
        yield Machine(tmp_path / "home", hub)


class TestFetch:
    def test_only_what_is_needed_and_only_once(self, machine, release, tmp_path):
        code = LOAD + f"from embedllm import write_long_form\nwrite_long_form(matrix, {str(tmp_path / 'seen')!r})\n"
        run = machine.run(code + "print(matrix, matrix.source, sep='\\n')")
        assert run.returncode == 0, run.stderr
        assert "112 models x 357 questions, 10 benchmarks" in run.stdout
        assert RELEASE["repository"] in run.stdout and RELEASE["revision"] in run.stdout
        assert "train.csv" in run.stderr and "100%" in run.stderr  # the progress
        for name in RELEASE["files"]:
            assert machine.hub.downloads(name) == [None]
        assert not [
            path for _, path, _ in machine.hub.requests if "_x.pth" in path or "_y.pth" in path or "optimal" in path
        ]
        assert {
            path.partition("/resolve/")[2].partition("/")[0] for _, path, _ in machine.hub.requests if "resolve" in path
        } == {RELEASE["revision"]}
        # The same as from a folder of the same files, with what the names of the models say.
        seen, expected = load_dataset(tmp_path / "seen"), load_dataset(release)
        np.testing.assert_array_equal(seen.labels, expected.labels)
        assert seen.questions["split"].tolist() == expected.questions["split"].tolist()
        assert seen.models["params_b"].tolist() == describe_models(expected.model_names)["params_b"].tolist()

        machine.hub.requests.clear()
        machine.load()
        assert not [path for method, path, _ in machine.hub.requests if method == "GET" and "storage" in path]
        machine.hub.requests.clear()
        machine.load(HF_HUB_OFFLINE="1")
        assert machine.hub.requests == []

    def test_sizes_and_hashes_are_recorded(self, machine, release):
        machine.load()
        record = json.loads((machine.folder / RECORD).read_text())
        assert set(record) == set(RELEASE["files"])
        for name, entry in record.items():
            digest = subprocess.run(["sha256sum", release / name], capture_output=True, text=True, check=True).stdout
            assert entry == {"bytes": (release / name).stat().st_size, "sha256": digest.split()[0]}

    def test_body_cut_short_is_resumed(self, machine, release):
        machine.hub.cut["train.csv"] = [12 * MIB]
        machine.load()
        first, second = machine.hub.downloads("train.csv")
        assert first is None
        assert 0 < int(re.fullmatch(r"bytes=(\d+)-", second)[1]) <= 12 * MIB
        assert (machine.folder / "train.csv").read_bytes() == (release / "train.csv").read_bytes()

    def test_download_given_up_goes_on_the_next_time(self, machine, release):
        machine.hub.cut["train.csv"] = [12 * MIB, *[0] * 20]
        message = machine.fail()
        assert message.startswith(
            "ConnectionError: train.csv of the data set RZ412/EmbedLLM is neither on this machine"
        )
        machine.hub.cut.clear()
        machine.hub.requests.clear()
        machine.load()
        (byte_range,) = machine.hub.downloads("train.csv")
        assert int(re.fullmatch(r"bytes=(\d+)-", byte_range)[1]) > 0
        assert (machine.folder / "train.csv").read_bytes() == (release / "train.csv").read_bytes()

    def test_killed_while_downloading(self, machine, release):
        machine.hub.pause_after["train.csv"] = 24 * MIB
        process = subprocess.Popen([sys.executable, "-c", LOAD], env=machine.environment(), stderr=subprocess.DEVNULL)
        assert machine.hub.paused.wait(timeout=60)
        process.kill()
        process.wait()
        assert "train.csv" not in machine.names()
        machine.hub.pause_after.clear()
        machine.hub.resumed.set()
        machine.hub.requests.clear()
        machine.load()
        (byte_range,) = machine.hub.downloads("train.csv")
        assert int(re.fullmatch(r"bytes=(\d+)-", byte_range)[1]) > 0
        assert (machine.folder / "train.csv").read_bytes() == (release / "train.csv").read_bytes()
        assert machine.names() == {*RELEASE["files"], RECORD}

    @pytest.mark.parametrize("name", ["val.csv", "model_order.csv"])
    def test_other_bytes_than_announced(self, machine, release, name):
        right = (release / name).read_bytes()
        machine.hub.forged[name] = right.replace(b"simulated__", b"Simulated__")
        message = machine.fail()
        assert message.startswith(f"ValueError: {name} of the data set RZ412/EmbedLLM has another hash than the ")
        assert message.endswith("load the data again, or set HF_ENDPOINT to another mirror")
        assert name not in machine.names()
        assert RECORD not in machine.names()
        # The message says what helps.
        machine.hub.forged.clear()
        machine.load()
        assert (machine.folder / name).read_bytes() == right

    def test_two_at_once_share_one_download(self, machine, release):
        machine.hub.cut["train.csv"] = [12 * MIB]
        runs = [
            subprocess.Popen([sys.executable, "-c", LOAD], env=machine.environment(), stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        for run in runs:
            _, error = run.communicate(timeout=120)
            assert run.returncode == 0, error
        assert len(machine.hub.downloads("train.csv")) == 2  # one, in two pieces
        assert [machine.hub.downloads(name) for name in RELEASE["files"][1:]] == [[None]] * 5
        assert machine.names() == {*RELEASE["files"], RECORD}

    def test_piece_that_is_too_long(self, machine, release):
        digest = hashlib.sha256((release / "val.csv").read_bytes()).hexdigest()
        machine.folder.mkdir(parents=True)
        (machine.folder / f".val.csv.{digest}.part").write_bytes((release / "val.csv").read_bytes() + b"more")
        machine.load()
        assert (machine.folder / "val.csv").read_bytes() == (release / "val.csv").read_bytes()
        assert machine.names() == {*RELEASE["files"], RECORD}

    def test_another_commit(self, machine):
        machine.hub.commit = "f" * 40
        assert "train.csv of the data set RZ412/EmbedLLM is of commit ffff" in machine.fail()
        assert machine.names() == set()
        assert machine.hub.downloads("train.csv") == []

    @pytest.mark.parametrize("ref", ["main", RELEASE["revision"]])
    def test_cache_of_the_client_is_used(self, machine, release, ref):
        """Brought by `hf download`, or copied from another machine."""
        cache = machine.home / "hf" / "hub" / "datasets--RZ412--EmbedLLM"
        snapshot = cache / "snapshots" / COMMIT
        shutil.copytree(release, snapshot)
        (cache / "refs").mkdir()
        (cache / "refs" / ref).write_text(COMMIT)
        machine.load(HF_HUB_OFFLINE="1")
        assert machine.hub.requests == []
        assert machine.names() == {RECORD}
        (snapshot / "test.csv").write_bytes(b"?")
        assert f"delete {snapshot / 'test.csv'} and load the data again" in machine.fail()

    @pytest.mark.parametrize("change", ["one byte", "one row less"])
    def test_file_that_changed_in_the_cache(self, machine, change):
        machine.load()
        blob = machine.folder / "test.csv"
        right = blob.read_bytes()
        blob.write_bytes(right[:-1] + b"?" if change == "one byte" else right[: right.rindex(b"\n", 0, -1) + 1])
        message = machine.fail()
        assert "test.csv has" in message
        assert f"delete {blob} and load the data again" in message
        blob.unlink()
        machine.load()
        assert blob.read_bytes() == right

    @pytest.mark.parametrize("content", ["", "[1]", "{", '{"train.csv": {"bytes": 1}}', '{"train.csv": null}'])
    def test_damaged_record(self, machine, content):
        (machine.folder / RECORD).parent.mkdir(parents=True)
        (machine.folder / RECORD).write_text(content)
        assert re.search(r"EmbedLLM@266ae3e/record\.json is no record of downloaded files: delete it", machine.fail())

    def test_file_missing_from_the_hub(self, machine):
        (machine.hub.folder / "question_order.csv").unlink()
        message = machine.fail()
        assert message.startswith("ConnectionError: question_order.csv of the data set RZ412/EmbedLLM is neither on")


def test_offline_without_a_cache_says_what_to_do(machine):
    run = machine.run(LOAD, HF_HUB_OFFLINE="1")
    assert run.returncode != 0
    assert machine.hub.requests == []
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ConnectionError: ")
    assert "connect this machine, set HF_ENDPOINT to a mirror, or copy the cache of huggingface_hub here" in last


def test_no_network_says_what_to_do(machine):
    run = machine.run(LOAD, HF_ENDPOINT="http://127.0.0.1:9")  # nothing listens there
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ConnectionError: ")
    assert "connect this machine, set HF_ENDPOINT to a mirror, or copy the cache of huggingface_hub here" in last


@pytest.mark.parametrize("name", ["dataset", "forecasting", "routing"])
def test_notebooks_run_on_it(machine, tmp_path, name):
    notebook = ROOT / "notebooks" / f"{name}.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", "-p", "dataset", "embedllm"]
    environment = machine.environment(JUPYTER_PREFER_ENV_PATH="1")
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("RZ412/EmbedLLM, revision 266ae3e" in str(output.get("data", {})) for output in shown)
    assert not [output["text"] for output in shown if output.get("name") == "stderr" and "Warning" in output["text"]]


def test_book_is_built_on_it(machine, tmp_path):
    """One setting, `dataset`, puts the whole book on the release."""
    root = tmp_path / "checkout"
    for name in ("book", "data", "embedllm", "notebooks"):
        ignore = shutil.ignore_patterns("_build", "__pycache__") if name != "book" else ignore_built
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=ignore)
    for name in ("_config.yml", "_toc.yml", "pyproject.toml", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, root)
    config = (root / "_config.yml").read_text()
    assert "dataset: simulated\n" in config
    (root / "_config.yml").write_text(config.replace("dataset: simulated\n", "dataset: embedllm\n"))
    environment = machine.environment(PYTHONPATH=str(root), JUPYTER_PREFER_ENV_PATH="1")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "book/"]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    page = (root / "book" / "_build" / "html" / "notebooks" / "dataset.html").read_text(encoding="utf-8")
    assert "RZ412/EmbedLLM, revision 266ae3e" in page
    assert "conflicting labels" in page


def ignore_built(folder, names):
    built = {"_build"} | ({"notebooks"} if Path(folder) == ROOT / "book" else set())
    return built & set(names)
