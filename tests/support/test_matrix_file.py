"""A matrix in a file comes back equal; the file is whole or not there."""

import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix
from embedllm.matrix import EncoderName

ODD_NAMES = ["NA", "null", "007", "🦙 llama", "模型@v1.0 (chat)__x"]


@pytest.fixture
def odd():
    """A matrix of all that a file format likes to change: odd names, missing metadata, long and odd texts."""
    ids = ["NA", "nan", "-1", "1000000007", ".", " q "]
    rng = np.random.default_rng(0)
    questions = pd.DataFrame(
        {
            "benchmark": ["NA", "NA", "b,1", "b,1", '"b"', "日本"],
            "prompt": ["N/A", "", 'two\nlines, "quoted"\r\n', "提示 🙂", "x" * 200_000, None],
            "category": ["a"] * 6,
        },
        index=ids,
    )
    models = pd.DataFrame(
        {"params_b": [7.0, np.nan, 0.5, 70.0, np.nan], "tags": ["", "a;b", None, "NA", "x"]}, ODD_NAMES
    )
    report = pd.DataFrame({"what": ["tied labels"], "count": [3], "rule": ["not observed"]})
    labels = pd.DataFrame(rng.integers(-1, 2, (5, 6)), ODD_NAMES, ids)
    vectors = rng.standard_normal((6, 7))
    return CorrectnessMatrix(labels, questions, vectors, models=models, report=report, source="odd 🙂 <data>")


class TestFile:
    @pytest.mark.parametrize("name", ["matrix.npz", "no suffix", "with.dot"])
    def test_round_trip(self, tmp_path, odd, assert_same, name):
        odd.save(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        loaded = CorrectnessMatrix.load(tmp_path / name)
        assert_same(loaded, odd)
        assert list(loaded.model_names) == ODD_NAMES
        assert loaded.labels.dtype == np.int8
        assert loaded.embeddings.dtype == np.float32
        assert loaded.source == odd.source
        pd.testing.assert_frame_equal(loaded.report_, odd.report_, check_dtype=False)

    def test_costs_and_the_encoder_travel(self, tmp_path, odd, assert_same):
        costs = pd.DataFrame(np.random.default_rng(1).random(odd.labels.shape), odd.model_names, odd.question_ids)
        costs.iloc[1, 2] = np.nan
        labels = pd.DataFrame(odd.labels, odd.model_names, odd.question_ids)
        encoder = EncoderName("org/encoder", "0" * 64)
        matrix = CorrectnessMatrix(
            labels, odd.questions, odd.embeddings, odd.models, costs=costs, cost_unit="tokens", encoder=encoder
        )
        matrix.save(tmp_path / "m")
        loaded = CorrectnessMatrix.load(tmp_path / "m")
        assert_same(loaded, matrix)
        np.testing.assert_array_equal(loaded.costs, costs.to_numpy(np.float32))
        assert (loaded.cost_unit, loaded.encoder) == ("tokens", encoder)

    def test_file_without_costs_is_of_an_earlier_version(self, tmp_path, odd, assert_same):
        odd.save(tmp_path / "m")
        with zipfile.ZipFile(tmp_path / "m") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        tables = json.loads(members["tables.json"])
        members["tables.json"] = json.dumps({k: v for k, v in tables.items() if k not in ("cost_unit", "encoder")})
        with zipfile.ZipFile(tmp_path / "old", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        loaded = CorrectnessMatrix.load(tmp_path / "old")
        assert_same(loaded, odd)
        assert (loaded.costs, loaded.encoder) == (None, None)

    def test_parts_travel_too(self, tmp_path, toy_with_holes, assert_same):
        for number, part in enumerate([*toy_with_holes.split(), toy_with_holes.subset(questions=[])]):
            part.save(tmp_path / str(number))
            assert_same(CorrectnessMatrix.load(tmp_path / str(number)), part)

    @pytest.mark.parametrize("kept", [0, 4, 0.5, 0.9, -1], ids=str)
    def test_truncated_file_is_refused(self, tmp_path, toy, kept):
        path = tmp_path / "matrix.npz"
        toy.save(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        with pytest.raises(ValueError, match=r"matrix\.npz was not written by CorrectnessMatrix\.save, or not compl"):
            CorrectnessMatrix.load(path)

    def test_flipped_byte_is_noticed(self, tmp_path, toy):
        path = tmp_path / "matrix.npz"
        toy.save(path)
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("embeddings.npy")
        data = bytearray(path.read_bytes())
        data[member.header_offset + member.compress_size // 2] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"matrix\.npz"):
            CorrectnessMatrix.load(path)

    def test_foreign_files_are_refused(self, tmp_path):
        (tmp_path / "text").write_text("not an archive")
        np.savez(tmp_path / "other.npz", labels=np.ones(3))
        np.save(tmp_path / "array.npy", np.ones(3))
        # An object array is a pickle, which can run code when it is loaded.
        np.savez(tmp_path / "pickle.npz", labels=np.array([{}], dtype=object), embeddings=np.ones((1, 1)))
        for path in list(tmp_path.iterdir()):
            with pytest.raises(ValueError, match=path.name):
                CorrectnessMatrix.load(path)

    def test_missing_file_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            CorrectnessMatrix.load(tmp_path / "nowhere")

    @pytest.mark.parametrize("broken", ["write", "rename"])
    def test_failed_save_leaves_the_old_file_and_nothing_else(
        self, tmp_path, toy, odd, monkeypatch, assert_same, broken
    ):
        path = tmp_path / "matrix.npz"
        toy.save(path)

        def fail(target, *_, **__):
            if broken == "write":
                target.write(b"half of it")
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", fail) if broken == "write" else patch.setattr(Path, "replace", fail)
            with pytest.raises(OSError, match="disk full"):
                odd.save(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["matrix.npz"]
        assert_same(CorrectnessMatrix.load(path), toy)

    def test_file_is_as_readable_as_any_other(self, tmp_path, toy):
        # A temporary file is private, and a rename would keep it so: others of the group could not read the matrix.
        toy.save(tmp_path / "matrix.npz")
        (tmp_path / "plain").touch()
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert len(modes) == 1
