"""The paper's release, from download to book, through a look-alike of the Hub."""

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
from hub_lookalike import serve

from embedllm import CorrectnessMatrix, load_dataset
from embedllm.datasets.model_names import describe_models

ROOT = Path(__file__).parents[2]
RELEASE = yaml.safe_load(resources.files("embedllm.data").joinpath("sources.yml").read_text(encoding="utf-8"))[
    "embedllm"
]
LOAD = "from embedllm import load_dataset\nmatrix = load_dataset('embedllm')\n"
REMEDIES = "connect this machine, set HF_ENDPOINT to a mirror that has it, or copy the cache of huggingface_hub here"


class Machine:
    """A user's machine: its caches, and the Hub that it talks to."""

    def __init__(self, home, hub):
        self.home, self.hub = home, hub
        (self.served,) = hub.folders.values()
        repository = home / "hf" / "hub" / f"datasets--{RELEASE['repository'].replace('/', '--')}"
        self.snapshot = repository / "snapshots" / RELEASE["revision"]
        self.matrices = home / "own" / "matrices"

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
        """Expect an error; return its one line."""
        run = self.run(LOAD, **environment)
        assert run.returncode != 0
        return run.stderr.strip().splitlines()[-1]

    def forget_matrices(self):
        shutil.rmtree(self.matrices)


@pytest.fixture
def machine(tmp_path, release):
    # The release also holds what is never needed: gigabytes of embeddings repeated for each model, pickles.
    served = tmp_path / "served"
    shutil.copytree(release, served)
    for name in ("train_x.pth", "train_y.pth", "optimal_mf_model_embeddings.pth"):
        (served / name).write_bytes(b"never needed")
    with serve({f"datasets/{RELEASE['repository']}": served}, RELEASE["revision"]) as hub:
        yield Machine(tmp_path / "home", hub)


def test_revision_is_a_whole_hash():
    # huggingface_hub takes an abbreviated one for the name of a branch.
    assert re.fullmatch("[0-9a-f]{40}", RELEASE["revision"])


class TestFetch:
    def test_only_what_is_needed_and_only_once(self, machine, release, tmp_path):
        code = LOAD + f"from embedllm import write_long_form\nwrite_long_form(matrix, {str(tmp_path / 'seen')!r})\n"
        run = machine.run(code + "print(matrix, matrix.source, sep='\\n')")
        assert run.returncode == 0, run.stderr
        assert "112 models x 357 questions, 10 benchmarks" in run.stdout
        assert f"{RELEASE['repository']}, revision {RELEASE['revision'][:7]}" in run.stdout
        downloads = {name: machine.hub.downloads(name) for name in os.listdir(machine.served)}
        assert {name: n for name, n in downloads.items() if n} == dict.fromkeys(RELEASE["files"], 1)
        # The same as from a folder of the same files, with what the names of the models state.
        seen, expected = load_dataset(tmp_path / "seen"), load_dataset(release)
        np.testing.assert_array_equal(seen.labels, expected.labels)
        assert seen.questions["split"].tolist() == expected.questions["split"].tolist()
        sizes = describe_models(expected.model_names)["params_b"].tolist()
        assert seen.models["params_b"].tolist() == pytest.approx(sizes, nan_ok=True)

        machine.hub.requests.clear()
        machine.load()
        machine.forget_matrices()
        machine.load()
        assert machine.hub.requests == []

    @pytest.mark.parametrize("linked", [True, False], ids=["links", "no links"])
    def test_cache_of_the_client_is_used(self, machine, release, linked):
        """A cache that `hf download` filled, or that was copied from another machine."""
        shutil.copytree(release, machine.snapshot)
        if linked:
            for path in machine.snapshot.iterdir():
                path.unlink()
                path.symlink_to(release / path.name)
        machine.load(HF_HUB_OFFLINE="1")
        assert machine.hub.requests == []

    @pytest.mark.parametrize("name", ["val.csv", "question_order.csv"])
    def test_other_bytes_than_announced(self, machine, release, name):
        content = (release / name).read_bytes()
        machine.hub.replaced[name] = content[:-2] + b"?\n"
        message = machine.fail()
        found = re.fullmatch(
            rf"ValueError: (.*{name}) has another sha256 than the Hub announced: delete (.*), and load the data again "
            r"or set HF_ENDPOINT to another mirror",
            message,
        )
        assert found and not list(machine.matrices.glob("*.npz"))
        assert machine.fail() == message
        # The message says what helps.
        machine.hub.replaced.clear()
        Path(found[2]).unlink()
        machine.load()
        assert Path(found[1]).read_bytes() == content

    def test_file_that_changed_in_the_cache(self, machine):
        machine.load()
        machine.forget_matrices()
        blob = (machine.snapshot / "test.csv").resolve()
        blob.write_bytes(blob.read_bytes()[:-2] + b"?\n")
        assert f"test.csv has another sha256 than the Hub announced: delete {blob}" in machine.fail()

    def test_sha256_is_compared_once(self, machine):
        machine.load()
        machine.forget_matrices()
        machine.run(
            "import embedllm.datasets.hub as hub\ndef fail(path): raise AssertionError\nhub.sha256_of = fail\n" + LOAD
        ).check_returncode()

    @pytest.mark.parametrize("online", [True, False])
    def test_file_missing_from_the_hub(self, machine, online):
        if not online:
            machine.load()
            machine.forget_matrices()
            (machine.snapshot / "question_order.csv").unlink()
            (machine.snapshot.parents[1] / "trees" / f"{RELEASE['revision']}.json").unlink(missing_ok=True)
        else:
            (machine.served / "question_order.csv").unlink()
        message = machine.fail(**({} if online else {"HF_HUB_OFFLINE": "1"}))
        assert message.startswith(
            "ConnectionError: question_order.csv of the data set RZ412/EmbedLLM, revision 266ae3e"
        )
        assert REMEDIES in message

    @pytest.mark.parametrize(
        ("fault", "why"),
        [("offline", "outgoing traffic has been disabled"), ("no network", "refused"), ("no such commit", "404")],
    )
    def test_what_to_do_is_said(self, machine, fault, why):
        environment = {}
        if fault == "offline":
            environment = {"HF_HUB_OFFLINE": "1"}
        elif fault == "no network":
            environment = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nothing listens there
        else:
            machine.hub.commit = "f" * 40
        message = machine.fail(**environment)
        assert message.startswith("ConnectionError: the data set RZ412/EmbedLLM, revision 266ae3e")
        assert REMEDIES in message and why in message


class TestMatrixCache:
    def test_gives_the_same_matrix(self, machine, tmp_path):
        code = "matrix.save({!r})\nprint(matrix.questions.dtypes, matrix.report_.dtypes, matrix.models.dtypes)"
        first, second = (machine.run(LOAD + code.format(str(tmp_path / name))) for name in "ab")
        assert first.returncode == 0, first.stderr
        assert first.stdout == second.stdout
        left, right = (CorrectnessMatrix.load(tmp_path / name) for name in "ab")
        assert left.report_.equals(right.report_) and len(left.report_)
        assert left.questions.equals(right.questions) and left.models.equals(right.models)
        np.testing.assert_array_equal(left.labels, right.labels)
        np.testing.assert_array_equal(left.embeddings, right.embeddings)

    def test_each_rule_for_duplicates_has_its_own(self, machine):
        machine.load()
        code = LOAD.replace("'embedllm'", "'embedllm', duplicates='rows'") + "print(matrix.n_questions)"
        first, second = (int(machine.run(code).stdout) for _ in range(2))
        assert first == second > 357
        assert len(list(machine.matrices.glob("*.npz"))) == 2

    @pytest.mark.parametrize("damage", ["one byte", "cut", "empty"])
    def test_damaged_file_is_written_again(self, machine, damage):
        expected = machine.load().stdout
        (path,) = machine.matrices.glob("*.npz")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes({"one byte": content, "cut": content[:1000], "empty": b""}[damage])
        run = machine.load()
        assert run.stdout == expected
        assert f"UserWarning: a cached data set is made and written again: {path} was not written by" in run.stderr
        assert machine.load().stderr == ""

    def test_folder_that_cannot_be_written(self, machine, tmp_path):
        (tmp_path / "file").touch()
        run = machine.load(EMBEDLLM_CACHE=str(tmp_path / "file"))
        assert "112 models x 357 questions" in run.stdout
        assert run.stderr.count(f"UserWarning: the cache {tmp_path / 'file'} cannot be made") == 1
        assert "set EMBEDLLM_CACHE to a folder that can be written" in run.stderr


@pytest.mark.slow
def test_notebooks_run_on_it(machine, tmp_path):
    """The setting `dataset` puts them on the release. Others run on folders of its form in tests/notebooks."""
    root = tmp_path / "checkout"
    names = ("dataset", "forecasting", "routing", "label_rules", "summary")
    for name in ("data", "embedllm", "notebooks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys, yaml; from pathlib import Path; from embedllm.book.execution import refresh; "
    code += "sys.exit('; '.join(refresh(Path.cwd(), *yaml.safe_load(sys.argv[1]), print).values()) or None)"
    settings = yaml.safe_dump([list(names), {"dataset": "embedllm", "n_seeds": 1}])
    environment = machine.environment(PYTHONPATH=str(root), JUPYTER_PREFER_ENV_PATH="1")
    command = [sys.executable, "-c", code, settings]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    shown = {name: outputs(root / "book" / "notebooks" / f"{name}.ipynb") for name in names}
    for name, found in shown.items():
        assert any("RZ412/EmbedLLM, revision 266ae3e" in str(output.get("data", {})) for output in found), name
        assert not [each["text"] for each in found if each.get("name") == "stderr" and "Warning" in each["text"]]
    assert "conflicting labels" in str(shown["dataset"])


def outputs(path):
    return [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
