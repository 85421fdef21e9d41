"""A file or a folder that the system does not let us read is named, with a remedy: nothing is lost silently."""

import builtins
import os
from functools import partial
from pathlib import Path

import pytest
from import_helpers import put, sample, write_samples

from embedllm import load_dataset, write_long_form
from embedllm._support.reading import Unreadable
from embedllm.datasets.importers import (
    import_every_eval_ever,
    import_inspect,
    import_lm_eval,
    import_resolved,
    import_wide,
)
from embedllm.datasets.recognize import import_auto

REMEDY = r"cannot be read \(Permission denied\): change its permissions and those of the folders above it \(chmod u\+rX"


@pytest.fixture
def deny(monkeypatch):
    """Return a function that takes the right to read a path away, also where the tests run as root."""

    def forbid(path):
        def guarded(own, place=".", *more, **options):
            asked = path / place if isinstance(place, (str, os.PathLike)) else Path()
            if path in asked.parents or (path == asked and own not in (os_lstat, os_stat)):
                raise PermissionError(13, "Permission denied", os.fspath(place))
            return own(place, *more, **options)

        os_lstat, os_stat = os.lstat, os.stat
        for name in ("scandir", "listdir", "lstat", "stat"):
            monkeypatch.setattr(os, name, partial(guarded, getattr(os, name)))
        monkeypatch.setattr(builtins, "open", partial(guarded, open))

    return forbid


@pytest.mark.parametrize("importer", [import_lm_eval, import_every_eval_ever, import_inspect, import_auto])
def test_folder_of_logs(tmp_path, encoded, deny, importer):
    if importer is import_inspect:
        pytest.importorskip("inspect_ai")
    for model in ("a", "b"):
        write_samples(tmp_path / "logs", model, "t", [sample(0, acc=1.0)])
    deny(tmp_path / "logs" / "b")
    with pytest.raises(Unreadable, match=rf"logs/b {REMEDY}"):
        importer(tmp_path / "logs", tmp_path / "out")
    assert encoded == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["board", "board/b", "board/b/results"])
def test_folder_of_lists(tmp_path, encoded, deny, folder):
    put(tmp_path / "q.csv", "prompt_id,prompt\n1,p\n")
    for name in ("a.json", "b/results/results.json", "b/report.json"):
        put(tmp_path / "board" / name, ["1"])
    deny(tmp_path / folder)
    with pytest.raises(Unreadable, match=REMEDY):
        import_resolved(tmp_path / "board", tmp_path / "out", questions=tmp_path / "q.csv")


def test_hidden_folder_is_not_needed(tmp_path, encoded, deny):
    for model in ("a", ".cache"):
        write_samples(tmp_path / "logs", model, "t", [sample(0, acc=1.0)])
    deny(tmp_path / "logs" / ".cache")
    assert import_lm_eval(tmp_path / "logs", tmp_path / "out").model_names.tolist() == ["a"]


@pytest.mark.parametrize("importer", [import_lm_eval, import_every_eval_ever, import_auto])
def test_file_in_place_of_its_folder(tmp_path, encoded, importer):
    path = write_samples(tmp_path / "logs", "a", "t", [sample(0, acc=1.0)])
    message = "is a file: name the folder that holds it"
    if importer is import_auto:
        message = "has no format that is recognized: if it is a log, name the folder that holds it; otherwise name"
    with pytest.raises((NotADirectoryError, ValueError), match=message):
        importer(path, tmp_path / "out")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "folder/t.csv"])
@pytest.mark.parametrize("importer", [import_wide, import_auto])
def test_table(tmp_path, encoded, deny, importer, name):
    put(tmp_path / name, "prompt,benchmark,A\np,b,1\n")
    deny(tmp_path / name.partition("/")[0])
    with pytest.raises(Unreadable, match=rf"{name} {REMEDY}"):
        importer(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("name", ["", "question_embeddings.npy", "correctness.csv", "encoder.json"])
def test_data_set(tmp_path, toy, deny, name):
    write_long_form(toy, tmp_path / "pool")
    put(tmp_path / "pool" / "encoder.json", {"name": "e", "fingerprint": "0"})
    deny(tmp_path / "pool" / name)
    with pytest.raises(Unreadable, match=rf"{name} {REMEDY}"):
        load_dataset(tmp_path / "pool")
