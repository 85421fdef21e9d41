"""What users pass and set: other kinds of arrays, and another default type of PyTorch."""

import numpy as np
import pandas as pd
import pytest
import torch

from embedllm import (
    CorrectnessMatrix,
    KNNCorrectness,
    MatrixFactorization,
    ModelMean,
    Router,
    TrainingPreset,
    encode_questions,
)
from embedllm.datasets.encoder import _load
from embedllm.protocol import flops
from embedllm.studies.what_embedllm_is import optimum_from_random_starts

FORMS = {
    "float64": lambda x: x.astype(np.float64),
    "big-endian": lambda x: x.astype(">f4"),
    "reversed": lambda x: x[::-1].copy()[::-1],
    "columns first": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "frame": pd.DataFrame,
    "list": lambda x: x.tolist(),
    "tensor": lambda x: torch.tensor(x),
}


@pytest.fixture(
    scope="module", params=[MatrixFactorization(dim=3, alpha=0.1), KNNCorrectness(5), ModelMean()], ids=repr
)
def fitted(request, toy):
    return request.param.fit(toy)


@pytest.mark.parametrize("form", FORMS)
def test_predictions_from_any_array(fitted, toy, form):
    expected = fitted.predict_proba(toy.embeddings)
    np.testing.assert_array_equal(fitted.predict_proba(FORMS[form](np.array(toy.embeddings))), expected)


@pytest.mark.parametrize("form", ["float64", "big-endian", "reversed", "columns first", "frame"])
def test_fit_from_any_array(toy, form):
    labels = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
    embeddings = FORMS[form](np.array(toy.embeddings))
    if isinstance(embeddings, np.ndarray):
        embeddings.flags.writeable = False  # which is not copied, if it need not
    matrix = type(toy)(labels, toy.questions, embeddings)
    for predictor in (MatrixFactorization(dim=3, alpha=0.1), KNNCorrectness(5)):
        found = predictor.fit(matrix).predict_proba(matrix.embeddings)
        np.testing.assert_array_equal(found, predictor.fit(toy).predict_proba(toy.embeddings))


@pytest.mark.parametrize("wrong", [[["a", "b"]], None, "text", [[1.0], [1.0, 2.0]], object], ids=repr)
def test_what_is_no_array_says_what_to_pass(fitted, wrong):
    with pytest.raises(ValueError, match="embedding"):
        fitted.predict_proba(wrong)


def test_matrix_instead_of_its_embeddings(fitted, toy):
    with pytest.raises(ValueError, match=r"such as matrix\.embeddings, not CorrectnessMatrix"):
        fitted.predict_proba(toy)


def results(toy, small_encoder, folder, monkeypatch):
    """Bits of everything that is computed by PyTorch."""
    monkeypatch.setenv("EMBEDLLM_CACHE", str(folder))
    _load.cache_clear()
    preset = TrainingPreset(pairs_per_step=32, epochs=2, learning_rate=1e-3, weight_decay=1e-5)
    fits = {
        "exact": MatrixFactorization(dim=3),
        "pool": MatrixFactorization(dim=3, prior="pool"),
        "sgd": MatrixFactorization(dim=3, solver="sgd", preset=preset),
        "knn": KNNCorrectness(5),
    }
    found = {name: fit.fit(toy).predict_proba(toy.embeddings).tobytes() for name, fit in fits.items()}
    for name in ("exact", "sgd"):
        fits[name].save(folder / name)
        loaded = MatrixFactorization.load(folder / name)
        found[f"{name}, loaded"] = loaded.predict_proba(toy.embeddings).tobytes()
    texts = [f"What is {number} times 3?" for number in range(toy.n_questions)]
    vectors = encode_questions(texts, small_encoder, device="cpu")
    labels = pd.DataFrame(toy.labels, toy.model_names, toy.question_ids)
    pool = CorrectnessMatrix(labels, toy.questions.assign(prompt=texts), vectors)
    router = Router.fit(pool, MatrixFactorization(dim=2), encoder=small_encoder, device="cpu")
    router.add_model("new", {"What is 3 times 8?": True, "Who was Cicero?": False}, pool)
    found |= {"encoded": vectors.tobytes(), "routes": router.route(["Where is Rome?", *texts]).to_csv()}
    found["flops"] = [flops.count_step(flops.Shape(6, 12, 3), by_pair, 8) for by_pair in (True, False)]
    found["starts"] = optimum_from_random_starts(toy, toy, 0.1, 1e-3, 1, 0).to_csv()
    return found


def test_default_type_of_pytorch_changes_nothing(toy, small_encoder, tmp_path_factory, monkeypatch):
    expected = results(toy, small_encoder, tmp_path_factory.mktemp("float32"), monkeypatch)
    torch.set_default_dtype(torch.float64)
    try:
        found = results(toy, small_encoder, tmp_path_factory.mktemp("float64"), monkeypatch)
        assert [name for name in found if found[name] != expected[name]] == []
    finally:
        torch.set_default_dtype(torch.float32)
