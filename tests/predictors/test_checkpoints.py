"""Files that were cut short, changed, or hold pickled objects: each is refused in one sentence that names the path."""

import inspect
import json
import pickle
import re
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fits import QUICK, bits, quick
from safetensors import safe_open
from safetensors.torch import save_file

from embedllm import CorrectnessMatrix, MatrixFactorization, Router

NAMES = ["zeta", "alpha", "NA", "model@1.0 (b)"]
QUESTIONS = np.random.default_rng(5).standard_normal((7, 384)).astype(np.float32)


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def state_dict(sequential=True, **changes):
    """What the authors' trainer saves: 4 models, 9 training questions, dim 5."""
    generator = torch.Generator().manual_seed(0)
    projection = "text_proj.0" if sequential else "text_proj"
    shapes = {
        "P.weight": (4, 5),
        "Q.weight": (9, 384),
        f"{projection}.weight": (5, 384),
        f"{projection}.bias": (5,),
        "classifier.weight": (2, 5),
        "classifier.bias": (2,),
    }
    state = OrderedDict((name, torch.randn(*shape, generator=generator)) for name, shape in shapes.items())
    state.update(changes)
    return OrderedDict((name, value) for name, value in state.items() if value is not None)


def from_authors(path):
    return MatrixFactorization.from_authors(path, NAMES, device="cpu")


def predictions(factorization):
    return factorization.predict_proba(QUESTIONS).tobytes(), list(factorization.model_names_), factorization.alpha


class Kind:
    """A kind of file: how it is written and read, and all that it says, in a form that can be compared."""

    def sgd(self, folder, matrix, encoder):
        return self._saved(quick(dim=3), folder, matrix)

    def exact(self, folder, matrix, encoder):
        return self._saved(MatrixFactorization(dim=3, alpha=0.1, device="cpu"), folder, matrix)

    def _saved(self, model, folder, matrix):
        model.fit(matrix).save(folder / "mf.safetensors")
        return folder / "mf.safetensors", lambda path: predictions(MatrixFactorization.load(path, device="cpu"))

    def authors(self, folder, matrix, encoder):
        torch.save(state_dict(), folder / "mf.pt")
        return folder / "mf.pt", lambda path: predictions(from_authors(path))

    def authors_legacy(self, folder, matrix, encoder):
        torch.save(state_dict(), folder / "mf.pt", _use_new_zipfile_serialization=False)
        return folder / "mf.pt", lambda path: predictions(from_authors(path))

    def matrix(self, folder, matrix, encoder):
        matrix.save(folder / "matrix.npz")

        def read(path):
            loaded = CorrectnessMatrix.load(path)
            tables = loaded.questions.to_json(), loaded.models.to_json(), loaded.source
            return loaded.labels.tobytes(), loaded.embeddings.tobytes(), tables

        return folder / "matrix.npz", read

    def router_description(self, folder, matrix, encoder):
        Router(quick(dim=3).fit(matrix), encoder).save(folder)

        def read(path):
            router = Router.load(path.parent)
            return predictions(router.factorization), router.encoder

        return folder / "router.json", read

    def router_weights(self, folder, matrix, encoder):
        _, read = self.router_description(folder, matrix, encoder)
        return next(folder.glob("factorization-*")), read


@pytest.fixture(params=[name for name in vars(Kind) if not name.startswith("_")])
def kind(request, tmp_path, make_matrix, small_encoder):
    """Return the path of a file, and the function that reads it."""
    matrix = make_matrix(n_models=4, n_questions=12, width=384)
    return request.param, *getattr(Kind(), request.param)(tmp_path, matrix, small_encoder)


def is_one_sentence(error, path):
    message = str(error)
    return path.name in message and str(path.parent) in message and "\n" not in message and len(message) < 500


def outcome(read, path):
    """What a file says, or None if it is refused as it should be."""
    try:
        return read(path)
    except ValueError as error:
        assert is_one_sentence(error, path), repr(str(error))
        return None


class TestDamage:
    def test_truncated_file_is_refused(self, kind):
        _, path, read = kind
        content = path.read_bytes()
        lengths = {0, 1, 7, 8, 9, 100, *np.linspace(0, len(content) - 2, 40).astype(int), len(content) - 2}
        for length in lengths:
            path.write_bytes(content[:length])
            assert outcome(read, path) is None, length

    def test_changed_byte_is_found_or_without_effect(self, kind):
        # Without effect: a space that becomes a tab, the time of an entry of an archive.
        name, path, read = kind
        content, whole = path.read_bytes(), read(path)
        rng = np.random.default_rng(0)
        positions = {*range(0, min(len(content), 60), 7), *rng.integers(0, len(content), 150).tolist()}
        found = 0
        for position in positions:
            for mask in (0xFF, 1 << int(rng.integers(8))):
                path.write_bytes(content[:position] + bytes([content[position] ^ mask]) + content[position + 1 :])
                said = outcome(read, path)
                found += said is None
                # What PyTorch wrote before version 1.6 has no checksum: a changed number is another number.
                assert said in (None, whole) or name == "authors_legacy", position
        assert found > (10 if name == "authors_legacy" else len(positions))

    def test_pickled_object_is_not_loaded(self, kind, tmp_path):
        _, path, read = kind
        trace = tmp_path / "trace"
        objects = np.array([Bomb(trace)], dtype=object)
        for write in (
            lambda stream: pickle.dump(Bomb(trace), stream),
            lambda stream: torch.save(Bomb(trace), stream),
            lambda stream: torch.save(state_dict(Q=Bomb(trace)), stream),
            lambda stream: np.save(stream, objects),
            lambda stream: np.savez(stream, labels=objects, embeddings=objects),
        ):
            with path.open("wb") as stream:
                write(stream)
            assert outcome(read, path) is None
            assert not trace.exists()

    def test_file_of_another_kind_is_refused(self, kind, tmp_path, make_matrix, small_encoder):
        name, path, read = kind
        for number, other in enumerate(["sgd", "exact", "authors", "matrix"]):
            if other == name or {other, name} in ({"authors", "authors_legacy"}, {"sgd", "exact"}):
                continue
            folder = tmp_path / str(number)
            folder.mkdir()
            foreign, _ = getattr(Kind(), other)(folder, make_matrix(width=384), small_encoder)
            path.write_bytes(foreign.read_bytes())
            assert outcome(read, path) is None

    def test_missing_file_is_missing(self, kind):
        _, path, read = kind
        path.unlink()
        with pytest.raises(FileNotFoundError, match=re.escape(str(path.parent))):
            read(path)


class TestAuthors:
    @pytest.mark.parametrize("sequential", [True, False])
    def test_equals_their_classifier_pair_by_pair(self, tmp_path, sequential):
        state = state_dict(sequential)
        torch.save(state, tmp_path / "mf.pt")
        factorization = from_authors(tmp_path / "mf.pt")
        name = "text_proj.0" if sequential else "text_proj"
        projected = torch.from_numpy(QUESTIONS) @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        scores = (projected[:, None] * state["P.weight"]) @ state["classifier.weight"].T + state["classifier.bias"]
        expected = scores.softmax(dim=2)[..., 1].numpy()  # (n_questions, n_models)
        np.testing.assert_allclose(factorization.predict_proba(QUESTIONS), expected, atol=1e-5)
        assert list(factorization.model_names_) == NAMES
        np.testing.assert_array_equal(factorization.model_embeddings_, state["P.weight"].numpy())

    def test_is_a_factorization_like_any_other(self, tmp_path, make_matrix):
        torch.save(state_dict(), tmp_path / "mf.pt")
        factorization = from_authors(tmp_path / "mf.pt")
        assert (factorization.dim, factorization.solver, factorization.preset) == (5, "sgd", "paper")
        assert factorization.device == "cpu"
        assert factorization.history_.empty and factorization.history_.index.name == "epoch"
        factorization.save(tmp_path / "mf.safetensors")
        loaded = MatrixFactorization.load(tmp_path / "mf.safetensors", device="cpu")
        assert predictions(loaded) == predictions(factorization)
        pd.testing.assert_frame_equal(loaded.history_, factorization.history_)
        loaded.preset = QUICK
        loaded.fit(make_matrix())

    def test_routes(self, tmp_path, small_encoder):
        torch.save(state_dict(), tmp_path / "mf.pt")
        router = Router(from_authors(tmp_path / "mf.pt"), small_encoder, "cpu")
        assert set(router.route(["a", "b"])["model"]) <= set(NAMES)

    def test_checkpoint_of_a_gpu_is_read_on_the_cpu(self, tmp_path):
        torch.save(state_dict(), tmp_path / "cpu.pt")
        with zipfile.ZipFile(tmp_path / "cpu.pt") as old, zipfile.ZipFile(tmp_path / "cuda.pt", "w") as new:
            for entry in old.infolist():
                content = old.read(entry)
                if entry.filename.endswith("data.pkl"):
                    assert b"X\x03\x00\x00\x00cpu" in content
                    content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
                new.writestr(entry.filename, content)
        if not torch.cuda.is_available():
            with pytest.raises(RuntimeError, match="CUDA"):
                torch.load(tmp_path / "cuda.pt", weights_only=True)
        assert predictions(from_authors(tmp_path / "cuda.pt")) == predictions(from_authors(tmp_path / "cpu.pt"))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions_become_float32(self, tmp_path, dtype):
        torch.save({name: value.to(dtype) for name, value in state_dict().items()}, tmp_path / "mf.pt")
        factorization = from_authors(tmp_path / "mf.pt")
        assert {value.dtype for value in factorization.parameters_} == {torch.float32}

    def test_questions_are_not_needed(self, tmp_path):
        torch.save(state_dict(**{"Q.weight": None}), tmp_path / "mf.pt")
        from_authors(tmp_path / "mf.pt")

    @pytest.mark.parametrize(
        "name", ["P.weight", "text_proj.0.weight", "text_proj.0.bias", "classifier.weight", "classifier.bias"]
    )
    def test_unsuitable_tensor_is_named(self, tmp_path, name):
        path = tmp_path / "mf.pt"
        for value in (None, torch.zeros(2, 2, 2), torch.zeros(5, dtype=torch.int64), torch.tensor(1.0), "text"):
            torch.save(state_dict(**{name: value}), path)
            with pytest.raises(ValueError, match=rf"mf\.pt is not a checkpoint .*it holds no {name.replace('.0', '')}"):
                from_authors(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: value.to_sparse(),
            lambda value: value.to_sparse_csr(),
            lambda value: value.to("meta"),
            lambda value: torch.nested.nested_tensor(list(value)),
        ],
        ids=["sparse", "compressed", "meta", "nested"],
    )
    @pytest.mark.filterwarnings("ignore")  # PyTorch warns that some of these are new
    def test_tensor_that_is_not_dense_is_named(self, tmp_path, change):
        torch.save(state_dict(**{"P.weight": change(torch.ones(4, 5))}), tmp_path / "mf.pt")
        with pytest.raises(
            ValueError, match=r"mf\.pt is not a checkpoint of the authors' trainer: it holds no P\.weight, a dense"
        ):
            from_authors(tmp_path / "mf.pt")

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("P.weight", (4, 6)),
            ("text_proj.0.weight", (6, 384)),
            ("text_proj.0.bias", (6,)),
            ("classifier.weight", (3, 5)),
            ("classifier.weight", (2, 4)),
            ("classifier.bias", (3,)),
        ],
    )
    def test_shapes_that_do_not_fit_are_listed(self, tmp_path, name, shape):
        torch.save(state_dict(**{name: torch.zeros(shape)}), tmp_path / "mf.pt")
        with pytest.raises(ValueError, match=r"mf\.pt is not .*shapes .* do not fit each other: model_embeddings \(4"):
            from_authors(tmp_path / "mf.pt")

    def test_number_that_is_not_finite(self, tmp_path):
        torch.save(state_dict(**{"classifier.bias": torch.tensor([0.0, float("nan")])}), tmp_path / "mf.pt")
        with pytest.raises(ValueError, match=r"mf\.pt is not .*: a parameter is not finite"):
            from_authors(tmp_path / "mf.pt")

    @pytest.mark.parametrize("names", [NAMES[:3], [*NAMES, "more"], ["a", "b", "c", "a"], []], ids=str)
    def test_number_of_names(self, tmp_path, names):
        torch.save(state_dict(), tmp_path / "mf.pt")
        with pytest.raises(ValueError, match=r"mf\.pt .*different names, .* does not fit the model embeddings: 4 rows"):
            MatrixFactorization.from_authors(tmp_path / "mf.pt", names)

    @pytest.mark.parametrize("content", [[1, 2], torch.zeros(4, 5), {"P": 1}, {}], ids=str)
    def test_something_else_than_a_state_dict(self, tmp_path, content):
        torch.save(content, tmp_path / "mf.pt")
        with pytest.raises(ValueError, match=r"mf\.pt is not a checkpoint of the authors' trainer: it holds no P"):
            from_authors(tmp_path / "mf.pt")


SETTINGS = [
    {"alpha": 0.125, "random_state": 7},
    {"solver": "exact", "preset": "paper"},
    {"solver": "exact", "prior": "pool", "dim": 3},
    {"solver": "exact", "alpha": 0.25, "tol": 1e-2},
]


class TestOwn:
    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_round_trip_keeps_every_bit(self, toy, tmp_path, settings):
        train, val, _ = toy.split()
        model = quick(**settings).fit(train, validation=val)
        model.save(tmp_path / "mf.safetensors")
        loaded = MatrixFactorization.load(tmp_path / "mf.safetensors", device="cpu")
        assert bits(loaded) == bits(model)
        np.testing.assert_array_equal(loaded.predict_matrix(toy), model.predict_matrix(toy))
        np.testing.assert_array_equal(loaded.model_embeddings_, model.model_embeddings_)
        assert list(loaded.model_names_) == list(model.model_names_)
        for name in inspect.signature(MatrixFactorization).parameters:
            assert getattr(loaded, name) == getattr(model, name)
        assert vars(loaded).keys() == vars(model).keys()
        for name in ("history_", "path_"):
            if hasattr(model, name):
                pd.testing.assert_frame_equal(getattr(loaded, name), getattr(model, name), check_dtype=False)
        for name in ("alpha_", "dim_", "n_iter_", "explained_", "ability_"):
            np.testing.assert_array_equal(getattr(loaded, name, None), getattr(model, name, None))
        assert [path.name for path in tmp_path.iterdir()] == ["mf.safetensors"]

    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_loaded_factorization_can_be_fitted_again(self, toy, tmp_path, settings):
        model = quick(**settings).fit(toy)
        model.save(tmp_path / "mf")
        assert bits(MatrixFactorization.load(tmp_path / "mf", device="cpu").fit(toy)) == bits(model)

    def test_odd_names_travel(self, toy, tmp_path):
        names = ["NA", "null", "007", "🦙", "a@b.c (d)__e", "模型"]
        frame = pd.DataFrame(toy.labels, names, toy.question_ids)
        model = quick().fit(CorrectnessMatrix(frame, toy.questions, toy.embeddings))
        model.save(tmp_path / "mf")
        assert list(MatrixFactorization.load(tmp_path / "mf").model_names_) == names

    @pytest.mark.parametrize("solver", ["exact", "sgd"])
    def test_foreign_files_are_refused_with_their_path(self, toy, tmp_path, solver):
        model = quick(solver=solver).fit(toy)
        tensors = model.parameters_._asdict()
        (tmp_path / "garbage").write_bytes(b"not tensors at all" * 10)
        (tmp_path / "pickle").write_bytes(pickle.dumps({"P.weight": [1.0]}))
        torch.save(tensors, tmp_path / "torch.pt")
        save_file(tensors, tmp_path / "no header")
        save_file(tensors, tmp_path / "other header", metadata={"embedllm": json.dumps({"model_names": []})})
        model.save(tmp_path / "whole")
        header = safe_open(tmp_path / "whole", "pt").metadata()
        tensors.popitem()
        save_file(tensors, tmp_path / "a tensor less", metadata=header)
        (tmp_path / "whole").unlink()
        for path in list(tmp_path.iterdir()):
            with pytest.raises(ValueError, match=f"{path.name} is not a factorization written by"):
                MatrixFactorization.load(path)

    def test_file_of_an_earlier_version_is_told_so(self, toy, tmp_path):
        model = quick().fit(toy)
        model.save(tmp_path / "mf")
        header = json.loads(safe_open(tmp_path / "mf", "pt").metadata()["embedllm"])
        del header["sha256"]
        save_file(model.parameters_._asdict(), tmp_path / "mf", metadata={"embedllm": json.dumps(header)})
        with pytest.raises(ValueError, match=r"mf is not .*: it has no checksum, .*: fit and save it again"):
            MatrixFactorization.load(tmp_path / "mf")

    def test_failed_save_leaves_the_old_file_and_nothing_else(self, toy, tmp_path, monkeypatch):
        path = tmp_path / "mf"
        model = quick().fit(toy)
        model.save(path)

        def fail(target, content):
            with target.open("wb") as stream:
                stream.write(content[: len(content) // 2])
            raise OSError("disk full")

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="disk full"):
            quick(random_state=1).fit(toy).save(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["mf"]
        assert bits(MatrixFactorization.load(path)) == bits(model)

    def test_file_is_as_readable_as_any_other(self, toy, tmp_path):
        quick().fit(toy).save(tmp_path / "mf")
        (tmp_path / "plain").touch()
        assert len({stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}) == 1

    @pytest.mark.parametrize("solver", ["exact", "sgd"])
    def test_names_that_do_not_fit_the_tensors_are_refused(self, toy, tmp_path, solver):
        model = quick(solver=solver).fit(toy)
        model.model_names_ = model.model_names_[:2]
        model.save(tmp_path / "mf")
        with pytest.raises(ValueError, match="does not fit the model embeddings"):
            MatrixFactorization.load(tmp_path / "mf")
