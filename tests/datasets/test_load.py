"""Named data sets, and folders."""

import os
import shutil
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
import yaml

from embedllm import load_dataset, write_long_form
from embedllm.datasets.simulate import simulate_pool

CATALOGUE = yaml.safe_load(resources.files("embedllm.data").joinpath("sources.yml").read_text(encoding="utf-8"))
RELEASE = CATALOGUE["embedllm"]


class TestNames:
    def test_simulated_is_the_default(self, assert_same):
        expected = simulate_pool(scale=0.01, random_state=5)[0]
        assert_same(load_dataset("simulated", scale=0.01, random_state=5), expected)
        assert_same(load_dataset(scale=0.01, random_state=5), expected)

    @pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "Path"])
    def test_folder(self, tmp_path, toy, write_long_form, assert_same, kind):
        folder = write_long_form(tmp_path / "own", toy)
        assert_same(load_dataset(kind(folder)).subset(), load_dataset(folder))
        np.testing.assert_array_equal(load_dataset(kind(folder)).labels, toy.labels)

    def test_relative_folder(self, tmp_path, toy, write_long_form, monkeypatch):
        write_long_form(tmp_path / "own", toy)
        monkeypatch.chdir(tmp_path)
        np.testing.assert_array_equal(load_dataset("own").labels, toy.labels)

    def test_changed_byte_of_a_folder_is_seen(self, tmp_path, toy):
        write_long_form(toy, tmp_path / "own")
        before = load_dataset(tmp_path / "own")
        path = tmp_path / "own" / "correctness.csv"
        content, state = path.read_bytes(), path.stat()
        path.write_bytes(content[:-2] + (b"1" if content[-2:-1] == b"0" else b"0") + b"\n")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # neither size nor time tells
        assert (load_dataset(tmp_path / "own").labels != before.labels).sum() == 1

    @pytest.mark.parametrize(
        ("name", "meant"),
        [("simulted", "simulated"), ("MMLU-Pro", "mmlu-pro"), ("EmbedLLM", "embedllm"), ("no/such/folder", None)],
    )
    def test_unknown_name_says_what_there_is(self, name, meant):
        near = rf"did you mean '{meant}'\? " if meant else ""
        message = f"no data set '{name}': {near}use an existing folder, or one of simulated, mmlu-pro, "
        with pytest.raises(FileNotFoundError, match=message):
            load_dataset(name)

    @pytest.mark.parametrize("name", ["simulated", "embedllm", "zeroeval", "anywhere"])
    def test_unknown_rule_is_found_first(self, name):
        with pytest.raises(ValueError, match=r"duplicates must be one of \['majority', .*\], got 'mean'"):
            load_dataset(name, duplicates="mean")
        with pytest.raises(ValueError, match=r"no_answer must be one of \['incorrect', .*\], got 'skip'"):
            load_dataset(name, no_answer="skip")

    def test_file_is_no_folder(self, tmp_path):
        (tmp_path / "answers.csv").touch()
        with pytest.raises(FileNotFoundError, match=r"it is a file, .*import auto .*answers\.csv --out my-pool"):
            load_dataset(tmp_path / "answers.csv")


class TestRelease:
    """Downloading it has a file of tests of its own, test_hub.py."""

    def test_all_files_that_are_downloaded_are_needed(self, release, tmp_path):
        # The gigabytes of the release that are not needed stay where they are.
        assert set(RELEASE["files"]) == {path.name for path in release.iterdir()}
        for name in RELEASE["files"]:
            folder = tmp_path / name
            shutil.copytree(release, folder)
            (folder / name).unlink()
            with pytest.raises(FileNotFoundError):
                load_dataset(folder)

    def test_local_data_needs_no_client(self, tmp_path, toy, write_long_form):
        folder = write_long_form(tmp_path / "own", toy)
        code = f"import sys\nfrom embedllm import load_dataset\nload_dataset({str(folder)!r})\nprint(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "embedllm.datasets.formats.long" in run.stdout.split()
        assert "huggingface_hub" not in run.stdout.split()
