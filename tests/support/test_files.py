"""Where paths lead: the home folder, caches that cannot be written, and folders that cannot be made."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from embedllm import CorrectnessMatrix, MatrixFactorization, encode_questions, load_dataset, write_long_form
from embedllm._support.files import cache_folder, replacing
from embedllm.datasets.importers import existing


def test_tilde_is_the_home(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_long_form(toy, "~/pool")
    toy.save("~/matrix.npz")
    MatrixFactorization(dim=2, alpha=0.1).fit(load_dataset("~/pool")).save("~/fit")
    assert CorrectnessMatrix.load("~/matrix.npz").n_models == MatrixFactorization.load("~/fit").dim + 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit", "matrix.npz", "pool"]


class TestCacheThatCannotBeMade:
    @pytest.fixture
    def nowhere(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "file" / "cache"))
        return tmp_path

    def test_one_warning_and_a_temporary_folder(self, nowhere):
        with pytest.warns(UserWarning, match="the cache .* cannot be made .*: set EMBEDLLM_CACHE") as caught:
            folder = cache_folder()
            assert cache_folder() == folder
        assert len(caught) == 1 and folder.is_dir()

    def test_questions_are_encoded(self, nowhere, small_encoder):
        with warnings.catch_warnings(action="ignore"):
            found = encode_questions(["a question"], small_encoder, device="cpu")
        assert np.isfinite(found).all()

    @pytest.mark.parametrize("home", [{}, {"HOME": "/proc/none"}, {"HOME": "~"}], ids=["unset", "unwritable", "odd"])
    def test_no_home(self, home, tmp_path):
        environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
        environment.pop("EMBEDLLM_CACHE", None)
        # As in a container whose random user stands in no file of users.
        code = "import pwd; pwd.getpwuid = lambda _: {}[0]\nfrom embedllm._support.files import cache_folder as f\n"
        code += "print(f() == f())"
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, env=environment | home, cwd=tmp_path)
        assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr
        assert run.stderr.count("UserWarning: the cache ") == 1
        assert not list(tmp_path.iterdir())


def test_two_forms_of_the_embeddings_are_refused(toy, tmp_path):
    write_long_form(toy, tmp_path / "pool")
    (tmp_path / "pool" / "question_embeddings.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds both question_embeddings\.npy and question_embeddings\.pth"):
        load_dataset(tmp_path / "pool")


def test_tilde_of_an_encoder_and_a_source(small_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(small_encoder.parent))
    assert encode_questions(["a"], f"~/{small_encoder.name}", device="cpu").shape == (1, 384)
    assert existing(f"~/{small_encoder.name}") == small_encoder


def test_replacing_makes_the_folder(tmp_path):
    with replacing(tmp_path / "a" / "b" / "table.csv") as temporary:
        temporary.write_text("1")
    assert (tmp_path / "a" / "b" / "table.csv").read_text() == "1"
