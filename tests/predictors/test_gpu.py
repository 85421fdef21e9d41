"""On a GPU: the same neighbours, the same factorization up to rounding, and no waiting between steps.

Needs neither fixtures nor a network: `pytest --noconftest tests/predictors/test_gpu.py` on a machine with CUDA.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.knn import KNNCorrectness
from embedllm.predictors.mf import MatrixFactorization
from embedllm.predictors.path import fit_path
from embedllm.predictors.sgd import TrainingPreset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]

QUICK = TrainingPreset(pairs_per_step=64, epochs=12, learning_rate=1e-2, weight_decay=1e-5)


def build(n_models=6, n_questions=40, width=12, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    ids = [f"q{number}" for number in range(n_questions)]
    embeddings = rng.standard_normal((n_questions, width)).astype(np.float32)
    labels = (rng.standard_normal((n_models, width)) @ embeddings.T > 0).astype(int)
    labels[rng.random(labels.shape) < missing] = -1
    labels[0, 0] = 1
    frame = pd.DataFrame(labels, [f"model-{number}" for number in range(n_models)], ids)
    return CorrectnessMatrix(frame, pd.DataFrame({"benchmark": "b"}, ids), embeddings)


def with_embeddings(matrix, embeddings):
    frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    return CorrectnessMatrix(frame, matrix.questions, embeddings)


def quick(**settings):
    return MatrixFactorization(**({"dim": 6, "solver": "sgd", "preset": QUICK} | settings))


def bits(model):
    return [value.numpy().tobytes() for value in model.parameters_]


class TestKNN:
    @pytest.fixture(params=["plain", "missing", "duplicates", "crowd", "far from the origin", "tiny", "huge"])
    def data(self, request):
        """Training data and questions to ask."""
        matrix = build(n_questions=600, missing=0 if request.param == "plain" else 0.3)
        vectors = matrix.embeddings
        change = {
            "duplicates": lambda: np.tile(vectors[:300], (2, 1)),
            "crowd": lambda: vectors[:1] + 1e-4 * vectors,
            "far from the origin": lambda: vectors + 1000,
            "tiny": lambda: vectors * np.float32(1e-25),
            "huge": lambda: vectors * np.float32(1e25),
        }.get(request.param, lambda: vectors)
        changed = change()
        return with_embeddings(matrix, changed), np.concatenate([changed[::7], changed[::5] * np.float32(1.01)])

    def test_equals_the_search_on_the_cpu_bit_by_bit(self, data):
        matrix, asked = data
        cpu, cuda, auto = (
            KNNCorrectness(device=device).fit(matrix).predict_proba_each(asked, [1, 13, 131, 1000])
            for device in ("cpu", "cuda", "auto")
        )
        np.testing.assert_array_equal(cuda, cpu)
        np.testing.assert_array_equal(auto, cpu)

    def test_products_in_tf32_change_nothing(self, data):
        matrix, asked = data
        expected = KNNCorrectness(13, device="cpu").fit(matrix).predict_proba(asked)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            found = KNNCorrectness(13, device="cuda").fit(matrix).predict_proba(asked)
        finally:
            torch.set_float32_matmul_precision(before)
        np.testing.assert_array_equal(found, expected)

    def test_paper_s_size(self):
        matrix, asked = build(112, 29_673, 768), build(1, 3000, 768, seed=1).embeddings
        found = [KNNCorrectness(device=device).fit(matrix).predict_proba(asked) for device in ("cpu", "cuda")]
        np.testing.assert_array_equal(*found)


class TestMatrixFactorization:
    @pytest.mark.parametrize("missing", [0, 0.3])
    def test_equals_the_fit_on_the_cpu_up_to_rounding(self, missing):
        # Without noise, which each device draws in its own way, both start from the same values in the same order.
        matrix = build(missing=missing)
        predicted = [quick(alpha=0, device=device).fit(matrix).predict_matrix(matrix) for device in ("cpu", "cuda")]
        np.testing.assert_allclose(*predicted, atol=1e-3)

    def test_same_seed_gives_the_same_bits(self):
        matrix = build()
        first = bits(quick(device="cuda").fit(matrix))
        assert bits(quick(device="cuda").fit(matrix)) == first
        assert bits(quick(device="auto").fit(matrix)) == first
        assert bits(quick(device="cuda", random_state=1).fit(matrix)) != first

    @pytest.mark.parametrize("solver", ["exact", "sgd"])
    def test_file_of_a_gpu_loads_on_the_cpu(self, tmp_path, solver):
        matrix = build()
        model = quick(solver=solver, device="cuda").fit(matrix)
        model.save(tmp_path / "mf")
        loaded = MatrixFactorization.load(tmp_path / "mf", device="cpu")
        np.testing.assert_array_equal(loaded.predict_matrix(matrix), model.predict_matrix(matrix))

    def test_host_never_waits_between_steps(self):
        # It waits some times an epoch, however many steps that has.
        preset = TrainingPreset(60, epochs=2, learning_rate=1e-3, weight_decay=0)

        def waits(n_questions):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    quick(preset=preset, device="cuda").fit(build(n_questions=n_questions))
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            return sum("synchroniz" in str(each.message) for each in caught)

        waits(100)  # what happens once
        assert waits(100) == waits(1000)


class TestExact:
    @pytest.mark.parametrize("missing", [0, 0.3])
    @pytest.mark.parametrize("settings", [{"alpha": 0.1}, {}, {"prior": "pool"}], ids=str)
    def test_equals_the_fit_on_the_cpu_up_to_rounding(self, missing, settings):
        matrix, validation = build(n_questions=300, missing=missing), build(n_questions=60, missing=missing, seed=1)
        cpu, cuda = (
            MatrixFactorization(device=device, **settings).fit(matrix, validation) for device in ("cpu", "cuda")
        )
        assert cuda.alpha_ == cpu.alpha_
        np.testing.assert_allclose(cuda.predict_matrix(validation), cpu.predict_matrix(validation), atol=1e-3)
        np.testing.assert_allclose(cuda.model_embeddings_, cpu.model_embeddings_, atol=1e-2)
        np.testing.assert_allclose(cuda.path_["log_loss"], cpu.path_["log_loss"], atol=1e-4)

    def test_cross_validation(self):
        matrix = build(n_questions=200, missing=0.3)
        cpu, cuda = (MatrixFactorization(device=device).fit(matrix) for device in ("cpu", "cuda"))
        np.testing.assert_allclose(cuda.path_["log_loss"], cpu.path_["log_loss"], atol=1e-4)

    def test_path(self):
        matrix, validation = build(n_questions=200), build(n_questions=60, seed=1)
        cpu, cuda = (fit_path(matrix, validation, [0.1, 0.3], [2, 6], device=device) for device in ("cpu", "cuda"))
        np.testing.assert_allclose(cuda[["log_loss", "accuracy"]], cpu[["log_loss", "accuracy"]], atol=1e-3)

    def test_second_fit_has_the_same_bits(self):
        matrix = build(112, 3000, 768)
        first, second = (bits(MatrixFactorization(alpha=0.1, device=device).fit(matrix)) for device in ("cuda", "auto"))
        assert first == second

    def test_paper_s_size(self):
        matrix = build(112, 29_673, 768)
        cpu, cuda = (MatrixFactorization(alpha=0.05, device=device).fit(matrix) for device in ("cpu", "cuda"))
        asked = matrix.embeddings[:2000]
        np.testing.assert_allclose(cuda.predict_proba(asked), cpu.predict_proba(asked), atol=1e-2)
