"""The paper's training is fitted once for all pages, and again when anything that decides it changes."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from embedllm import MatrixFactorization, TrainingPreset
from embedllm.protocol.shared_fit import CachedFactorization, paper_training

BRIEF = TrainingPreset(pairs_per_step=64, epochs=2, learning_rate=0.01, weight_decay=0)
SGD = {"dim": 4, "solver": "sgd", "preset": BRIEF, "device": "cpu"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fits"


@pytest.fixture
def fits(monkeypatch):
    """The fits that are computed."""
    done, fit = [], MatrixFactorization.fit

    def counted(self, matrix, validation=None):
        done.append(matrix)
        return fit(self, matrix, validation)

    monkeypatch.setattr(MatrixFactorization, "fit", counted)
    return done


def test_settings_of_the_paper():
    expected = {"dim": 232, "alpha": 0.05, "solver": "sgd", "preset": "paper", "prior": None}
    assert paper_training().get_params().items() >= expected.items()


def test_second_fit_is_read(cache, fits, toy):
    train, val, _ = toy.split()
    once, again = (CachedFactorization(**SGD).fit(train, validation=val) for _ in range(2))
    assert len(fits) == 1
    plain = MatrixFactorization(**SGD).fit(train, validation=val)
    for fitted in (once, again):
        assert fitted.get_params() == plain.get_params()
        np.testing.assert_array_equal(fitted.model_embeddings_, plain.model_embeddings_)
        np.testing.assert_array_equal(fitted.predict_matrix(toy), plain.predict_matrix(toy))
        assert fitted.distances().equals(plain.distances())
        assert fitted.history_.equals(plain.history_)
    assert clone(once).get_params() == once.get_params()
    assert [path.suffix for path in cache.iterdir() if path.suffix != ".lock"] == [".safetensors"]


@pytest.mark.parametrize(
    "change", ["label", "embedding", "name", "order", "validation", "seed", "dim", "epochs", "threads", "torch", "code"]
)
def test_whatever_decides_a_fit_makes_another(cache, fits, toy, change, monkeypatch, tmp_path):
    train, val, _ = toy.split()
    parameters = dict(SGD)
    CachedFactorization(**parameters).fit(train)
    if change == "label":
        labels = train.labels.copy()
        labels[1, 3] = 1 - labels[1, 3]
        train = train.with_labels(labels)
    elif change == "embedding":
        train = train.subset()
        train.embeddings = train.embeddings.copy()
        train.embeddings[2, 1] += np.float32(1e-6)
    elif change == "name":
        train = train.subset()
        train.models = train.models.rename(index={train.model_names[0]: "zzz"})
    elif change == "order":
        train = train.subset(models=train.model_names[::-1])
    elif change in ("seed", "dim", "epochs"):
        epochs = TrainingPreset(pairs_per_step=64, epochs=3, learning_rate=0.01, weight_decay=0)
        parameters |= {"seed": {"random_state": 1}, "dim": {"dim": 5}, "epochs": {"preset": epochs}}[change]
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "0.1")
    elif change == "code":
        monkeypatch.setattr("embedllm.protocol.shared_fit.sha256_of", lambda path: "another")
    CachedFactorization(**parameters).fit(train, validation=val if change == "validation" else None)
    assert len(fits) == 2


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_damaged_entry_is_fitted_again_with_one_warning(cache, fits, toy, damage):
    first = CachedFactorization(**SGD).fit(toy)
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    with pytest.warns(UserWarning, match="a cached fit is made and written again") as caught:
        again = CachedFactorization(**SGD).fit(toy)
    assert len(caught) == 1
    np.testing.assert_array_equal(again.coef_, first.coef_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CachedFactorization(**SGD).fit(toy)
    assert len(fits) == 2


def test_cache_that_cannot_be_written(tmp_path, monkeypatch, toy):
    (tmp_path / "fits").write_text("")
    monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match="the fit cannot be cached .* set EMBEDLLM_CACHE"):
        fitted = CachedFactorization(**SGD).fit(toy)
    np.testing.assert_array_equal(fitted.coef_, MatrixFactorization(**SGD).fit(toy).coef_)


def test_error_of_a_fit_is_raised(cache, toy):
    with pytest.raises(ValueError, match="nothing to learn from"):
        CachedFactorization(**SGD).fit(toy.with_labels(np.full_like(toy.labels, -1)))


SCRIPT = """
import sys
from pathlib import Path

from embedllm._support.files import cached

def make():
    with open(sys.argv[2], "a") as log:
        log.write("made ")
    import time
    time.sleep(2)
    return "content"

print(cached(Path(sys.argv[1]), "text", Path.read_text, make, lambda text, path: path.write_text(text)))
"""


def test_a_second_process_waits_for_the_first(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "cache" / "text"), str(tmp_path / "log")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["content\n"] * 2
    assert (tmp_path / "log").read_text() == "made "
