"""Pools of real answers, from download to matrix, through a look-alike of GitHub."""

import csv
import json
import re
import time
import zipfile
from email.utils import formatdate
from importlib import resources

import numpy as np
import pytest
import yaml
from import_helpers import vectors_of
from raw_lookalike import Fault, serve

from embedllm import load_dataset
from embedllm.datasets import load, real_pools
from embedllm.datasets.load import REAL_POOLS
from embedllm.datasets.real_pools import pool_files, pool_folder

CATALOGUE = yaml.safe_load(resources.files("embedllm.data").joinpath("sources.yml").read_text(encoding="utf-8"))
MMLU_PRO = CATALOGUE["mmlu-pro"]
A, B = (f"eval_results/model_outputs_{model}_5shots.zip" for model in ("a-7B-Instruct", "b(2)"))


def entry(number, pred):
    fields = {"question_id": number, "question": f"Which is {number}?", "options": ["this", "that"]}
    return fields | {"answer": "A", "category": "Law", "pred": pred, "reply": "because " * 2000}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The look-alike, with two small files that take the place of the pool's; nothing waits or encodes."""
    for path, preds in ((A, ["A", "B", None]), (B, [None, "A", "A"])):
        (tmp_path / "served" / path).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(tmp_path / "served" / path, "w") as archive:
            archive.writestr("answers.json", json.dumps([entry(*pair) for pair in enumerate(preds)]))
    with serve(tmp_path / "served", MMLU_PRO["repository"], MMLU_PRO["revision"]) as raw:
        files = raw.files()
        monkeypatch.setattr(real_pools, "pool_files", lambda name, column: files)
        monkeypatch.setattr(real_pools, "encode_questions", vectors_of)
        monkeypatch.setenv("EMBEDLLM_GITHUB", f"{raw.address}/")
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("EMBEDLLM_POOLS", raising=False)
        yield raw


@pytest.fixture
def waits(monkeypatch):
    waited = []
    monkeypatch.setattr(real_pools.time, "sleep", waited.append)
    return waited


class TestLists:
    @pytest.mark.parametrize(("name", "n_files"), [("mmlu-pro", 29), ("mmlu-pro-full", 48), ("zeroeval", 147)])
    def test_pinned(self, name, n_files):
        entry = CATALOGUE[name]
        files = pool_files(entry["files"], entry.get("column"))
        assert re.fullmatch("[0-9a-f]{40}", entry["revision"])
        assert len({file.path for file in files}) == len(files) == n_files
        assert all(re.fullmatch("[0-9a-f]{40}", file.sha1) for file in files)
        assert all(file.size < 2**22 for file in files if file.size)
        assert (name == "mmlu-pro-full") == any(file.size is None for file in files)

    @pytest.mark.parametrize("name", ["mmlu_pro", "zeroeval"])
    def test_same_hashes_as_the_pool(self, pool_folder, name):
        with (pool_folder(name) / "upstream.csv").open(encoding="utf-8") as stream:
            known = {row["path"]: row["git_blob_sha1"] for row in csv.DictReader(stream) if row.get("used") != "0"}
        assert {file.path: file.sha1 for file in pool_files(f"{name}_files.csv")} == known

    @pytest.mark.parametrize(("name", "pattern"), [("mmlu_pro", "*.zip"), ("zeroeval", "*.json")])
    def test_hash_of_published_files(self, pool_folder, name, pattern):
        listed = {file.sha1: file for file in pool_files(f"{name}_files.csv")}
        paths = sorted((pool_folder(name) / "raw").glob(pattern))
        assert len(paths) == 2
        for path in paths:
            assert listed[real_pools._hash_of(path)].size == path.stat().st_size


class TestDownload:
    def test_first_and_later_loads(self, raw, assert_same):
        first = load_dataset("mmlu-pro")
        assert [path for path, _ in raw.requests] == [A, B]
        assert repr(first).startswith("CorrectnessMatrix (MMLU-Pro): 2 models x 3 questions")
        assert first.labels.tolist() == [[1, 0, 0], [0, 1, 1]]
        assert first.models.loc["a-7B-Instruct"].tolist() == [7.0, "", "chat"]
        assert first.report_["count"].tolist() == [2, 6]
        np.testing.assert_array_equal(first.embeddings, vectors_of(first.questions["prompt"]))
        raw.requests.clear()
        assert_same(load_dataset("mmlu-pro"), first)
        other = load_dataset("mmlu-pro", no_answer="not observed")
        assert other.labels.tolist() == [[1, 0, -1], [-1, 1, 1]]
        assert raw.requests == []  # the files are kept too

    def test_files_that_are_there_are_not_asked_for(self, raw, tmp_path):
        load_dataset("mmlu-pro")
        raw.requests.clear()
        folder = tmp_path / "cache" / "github" / f"TIGER-AI-Lab--MMLU-Pro@{MMLU_PRO['revision']}"
        (folder / A).write_bytes(b"damaged")
        for matrix in (tmp_path / "cache" / "matrices").glob("*.npz"):
            matrix.unlink()
        load_dataset("mmlu-pro")
        assert [path for path, _ in raw.requests] == [A]

    @pytest.mark.parametrize("ranges", [True, False])
    def test_resumed(self, raw, waits, ranges):
        raw.ranges = ranges
        raw.faults[A] = Fault(times=2, cut=10_000)
        assert load_dataset("mmlu-pro").n_models == 2
        starts = [wanted for path, wanted in raw.requests if path == A]
        assert starts == [None, "bytes=10000-", "bytes=20000-" if ranges else "bytes=10000-"]

    def test_resumed_after_an_interruption(self, raw, waits):
        raw.faults[B] = Fault(times=99, cut=3_000)
        with pytest.raises(ConnectionError, match=r"the connection broke after 3,000 of"):
            load_dataset("mmlu-pro")
        assert len(raw.requests) == 6
        raw.requests.clear()
        raw.faults.clear()
        assert load_dataset("mmlu-pro").n_models == 2
        assert raw.requests == [(B, "bytes=15000-")]

    def test_partial_file_that_is_too_long(self, raw, tmp_path, waits):
        partial = tmp_path / "cache" / "github" / f"TIGER-AI-Lab--MMLU-Pro@{MMLU_PRO['revision']}" / f"{A}.partial"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"x" * 10**6)
        assert load_dataset("mmlu-pro").n_models == 2
        assert [wanted for path, wanted in raw.requests if path == A] == ["bytes=1000000-", None]

    @pytest.mark.parametrize(
        ("retry_after", "wait"), [("7", 7), (None, 1), ("soon", 1), ("date", 20), ("-1", 1)], ids=str
    )
    def test_busy_server(self, raw, waits, retry_after, wait):
        if retry_after == "date":
            retry_after = formatdate(time.time() + 20, usegmt=True)
        raw.faults[A] = Fault(status=429, headers={"Retry-After": retry_after} if retry_after else {})
        assert load_dataset("mmlu-pro").n_models == 2
        assert waits == [pytest.approx(wait, abs=2 if wait == 20 else 0)]

    def test_busy_server_is_asked_five_times(self, raw, waits):
        raw.faults[A] = Fault(times=99, status=503)
        with pytest.raises(ConnectionError, match="HTTP Error 503"):
            load_dataset("mmlu-pro")
        assert (len(raw.requests), waits) == (5, [1, 2, 4, 8])

    def test_server_that_asks_for_an_hour(self, raw, waits):
        raw.faults[A] = Fault(times=99, status=429, headers={"Retry-After": "3600"})
        with pytest.raises(ConnectionError, match="the server asks to wait for 3600 s"):
            load_dataset("mmlu-pro")
        assert (len(raw.requests), waits) == (1, [])


class TestFaults:
    @pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"", b"x" * 10**6], ids=["short", "empty", "long"])
    def test_other_bytes_than_listed(self, raw, tmp_path, body):
        raw.faults[A] = Fault(times=1, body=body)
        with pytest.raises(ValueError, match=rf"{re.escape(A)} has the git blob hash \w+, and the one listed is \w+"):
            load_dataset("mmlu-pro")
        assert not list((tmp_path / "cache").rglob("*.partial")) and not list((tmp_path / "cache").rglob("*.zip"))
        assert load_dataset("mmlu-pro").n_models == 2  # what the message says helps

    def test_not_found(self, raw, waits):
        (raw.folder / A).unlink()
        with pytest.raises(ConnectionError, match=r"HTTP Error 404.*connect this machine or set EMBEDLLM_GITHUB"):
            load_dataset("mmlu-pro")
        assert len(raw.requests) == 1

    @pytest.mark.parametrize("name", REAL_POOLS)
    def test_no_network(self, raw, waits, monkeypatch, name):
        monkeypatch.setenv("EMBEDLLM_GITHUB", "http://127.0.0.1:9")  # nothing listens there
        with pytest.raises(ConnectionError) as caught:
            load_dataset(name)
        message = str(caught.value)
        assert message.startswith(f"the data set '{name}' is not on this machine")
        assert "\n" not in message and ". " not in message
        assert "connect this machine" in message and f"a folder that has {name} as a subfolder" in message
        assert waits == []

    def test_damaged_although_as_listed(self, raw, monkeypatch):
        (raw.folder / A).write_bytes((raw.folder / A).read_bytes()[:-5])
        files = raw.files()
        monkeypatch.setattr(real_pools, "pool_files", lambda name, column: files)
        with pytest.raises(ValueError, match="is not a complete zip file"):
            load_dataset("mmlu-pro")


class TestStandIn:
    @pytest.mark.parametrize("name", ["mmlu-pro", "mmlu_pro"])
    def test_folder(self, raw, tmp_path, monkeypatch, toy, write_long_form, name):
        write_long_form(tmp_path / "pools" / name, toy)
        monkeypatch.setenv("EMBEDLLM_POOLS", str(tmp_path / "pools"))
        matrix = load_dataset("mmlu-pro")
        np.testing.assert_array_equal(matrix.labels, toy.labels)
        assert (matrix.source, raw.requests) == ("MMLU-Pro", [])
        # Of another rule, the folder knows nothing.
        assert load_dataset("mmlu-pro", no_answer="not observed").n_models == 2

    def test_folder_without_the_pool(self, raw, tmp_path, monkeypatch):
        (tmp_path / "pools" / "mmlu_pro_full").mkdir(parents=True)
        (tmp_path / "pools" / "mmlu-pro").touch()
        monkeypatch.setenv("EMBEDLLM_POOLS", str(tmp_path / "pools"))
        assert pool_folder("mmlu-pro") is None
        assert load_dataset("mmlu-pro").n_models == 2

    def test_no_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("EMBEDLLM_POOLS", str(tmp_path / "missing"))
        with pytest.raises(FileNotFoundError, match=r"EMBEDLLM_POOLS names .*missing', which is not a folder"):
            load_dataset("zeroeval")

    @pytest.mark.parametrize(
        ("name", "size", "source"), [("mmlu-pro", (29, 12_032), "MMLU-Pro"), ("zeroeval", (56, 3_352), "ZeroEval")]
    )
    def test_real_pool(self, pool_folder, assert_same, name, size, source):
        folder = load_dataset(pool_folder(name))
        matrix = load_dataset(name)
        assert (matrix.labels.shape, matrix.source) == (size, source)
        np.testing.assert_array_equal(matrix.labels, folder.labels)
        assert matrix.models.columns.tolist() == ["params_b", "family", "tags"]


def test_catalogue_has_every_named_set():
    assert set(load.NAMED) == set(load._catalogue())
