"""A fit in several processes equals one in a single process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from distributed_worker import FITS

from embedllm import CorrectnessMatrix, MatrixFactorization, Router, encode_questions, load_dataset
from embedllm._support.checks import name_positions
from embedllm.predictors.distributed import add_up, agree, gather, own_share, process_group, rank

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
N_PROCESSES = 3


def torchrun(n_processes, *arguments):
    run = subprocess.run(
        [*TORCHRUN, f"--nproc-per-node={n_processes}", *map(str, arguments)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def loss(model, matrix):
    """Mean cross-entropy over the observed cells."""
    positions = name_positions("model", matrix.model_names, model.model_names_)
    logits = model.coef_[positions].astype(float) @ matrix.embeddings.T + model.intercept_[positions, None]
    return np.logaddexp(0, np.where(matrix.labels == 1, -logits, logits))[matrix.observed].mean()


class TestAlone:
    def test_holds_everything(self, toy):
        with process_group("cpu"):
            assert rank() == (0, 1)
            assert own_share(toy).question_ids.tolist() == toy.question_ids.tolist()
        assert gather(7) == [7]
        agree("anything", 1)
        tensor = torch.ones(2)
        add_up([tensor])
        assert tensor.tolist() == [1, 1]


@pytest.fixture(scope="module")
def processes(make_matrix, tmp_path_factory):
    """Folder, training and validation data of a run in three processes, whose shares are unequal."""
    folder = tmp_path_factory.mktemp("shares")
    train = make_matrix(n_questions=301, missing=0.2)
    validation = make_matrix(n_questions=50, missing=0.2, seed=1)
    train.save(folder / "train.npz")
    validation.save(folder / "validation.npz")
    torchrun(N_PROCESSES, Path(__file__).with_name("distributed_worker.py"), folder)
    return folder, train, validation


@pytest.mark.slow
class TestProcesses:
    def test_share_the_questions(self, processes):
        sizes = [torch.load(processes[0] / f"{number}.pt", weights_only=True).tolist() for number in range(N_PROCESSES)]
        assert sizes == [[100, 3], [100, 3], [101, 3]]

    @pytest.mark.parametrize("name", FITS)
    def test_end_with_the_same_bits(self, processes, name):
        contents = {(processes[0] / f"{name} {number}.safetensors").read_bytes() for number in range(N_PROCESSES)}
        assert len(contents) == 1

    @pytest.mark.parametrize("name", FITS)
    def test_fit_what_one_process_fits(self, processes, name):
        # Noise, order, folds and steps are the same; only sums are rounded in another order.
        folder, train, validation = processes
        together = MatrixFactorization.load(folder / f"{name} 0.safetensors")
        alone = MatrixFactorization(**FITS[name]).fit(train, validation if name != "without validation" else None)
        np.testing.assert_allclose(together.history_, alone.history_, atol=1e-4)
        np.testing.assert_allclose(together.predict_matrix(validation), alone.predict_matrix(validation), atol=1e-3)
        assert loss(together, validation) == pytest.approx(loss(alone, validation), abs=1e-4)
        assert together.alpha_ == alone.alpha_
        if name != "sgd":
            np.testing.assert_allclose(together.model_embeddings_, alone.model_embeddings_, atol=1e-3)
            np.testing.assert_allclose(together.path_["log_loss"], alone.path_["log_loss"], atol=1e-4)

    @pytest.mark.parametrize("number", range(N_PROCESSES))
    def test_are_told_where_they_differ(self, processes, number):
        *differences, too_few = json.loads((processes[0] / f"{number}.json").read_text())
        assert len(differences) == 3
        assert all("the processes of the group were given different models" in each for each in differences)
        assert "2 questions" in too_few and "fewer questions than there are processes: 3" in too_few


@pytest.mark.slow
def test_command_line_under_torchrun(small_encoder, write_long_form, tmp_path):
    prompts = [f"What is {a} {word} {b}?" for a in range(15) for b in (3, 7, 11, 12) for word in ("plus", "times")]
    ids = [f"q{number}" for number in range(len(prompts))]
    rng = np.random.default_rng(0)
    correct = rng.random((4, len(ids))) < np.where(["plus" in prompt for prompt in prompts], 0.9, 0.3)
    questions = pd.DataFrame({"benchmark": "sums", "prompt": prompts}, ids)
    matrix = CorrectnessMatrix(
        pd.DataFrame(correct, list("abcd"), ids), questions, encode_questions(prompts, small_encoder, device="cpu")
    )
    train, held_out, _ = matrix.split((0.7, 0.2, 0.1))
    folder = write_long_form(tmp_path / "data", train)
    arguments = ["-m", "embedllm", "fit", folder, "--encoder", small_encoder, "--dim", "6", "--device", "cpu"]
    said = torchrun(2, *arguments, "--router", tmp_path / "two")
    assert said.count("router saved") == 1
    assert "fitted by 2 processes, each with its share of the questions" in said
    alone = MatrixFactorization(dim=6, device="cpu").fit(load_dataset(folder))
    assert loss(Router.load(tmp_path / "two").factorization, held_out) == pytest.approx(loss(alone, held_out), abs=1e-4)
