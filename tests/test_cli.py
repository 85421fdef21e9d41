"""The command line: `fit` and `route`, in one process and as a user runs them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from embedllm import CorrectnessMatrix, MatrixFactorization, Router, encode_questions
from embedllm.__main__ import main

PROMPTS = [f"What is {a} times {b}?" for a in range(2, 8) for b in (3, 11)] + ["Where is Rome?", "Who was Cicero?"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, small_encoder, write_long_form):
    """A folder of the user's own, with the vectors of the small encoder."""
    ids = [str(number) for number in range(len(PROMPTS))]
    labels = pd.DataFrame(np.random.default_rng(0).integers(0, 2, (3, len(ids))), ["b", "a", "a@1.0 (x)"], ids)
    questions = pd.DataFrame({"benchmark": "gsm8k", "prompt": PROMPTS}, ids)
    matrix = CorrectnessMatrix(labels, questions, encode_questions(PROMPTS, small_encoder, device="cpu"))
    return write_long_form(tmp_path_factory.mktemp("dataset"), matrix)


@pytest.fixture(scope="module")
def saved(dataset, small_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "router"
    arguments = ["--router", str(folder), "--encoder", str(small_encoder), "--dim", "6"]
    assert main(["fit", str(dataset), *arguments]) == 0
    return folder


def error_of(capsys, *arguments):
    """The one line on stderr of a command that fails."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


class TestFit:
    def test_saves_what_the_library_fits(self, saved, dataset, small_encoder):
        from embedllm import load_dataset

        expected = MatrixFactorization(dim=6).fit(load_dataset(dataset))
        loaded = Router.load(saved).factorization
        assert loaded.coef_.tobytes() == expected.coef_.tobytes()
        assert loaded.get_params() == expected.get_params()

    @pytest.mark.parametrize(
        ("arguments", "settings"),
        [
            (["--solver", "sgd", "--seed", "3", "--alpha", "0.1"], {"solver": "sgd", "random_state": 3, "alpha": 0.1}),
            (["--prior", "pool", "--alpha", "0.2"], {"prior": "pool", "alpha": 0.2}),
        ],
        ids=["sgd", "pool"],
    )
    def test_settings(self, dataset, small_encoder, tmp_path, capsys, arguments, settings):
        from embedllm import load_dataset

        shared = ["--router", tmp_path / "r", "--encoder", small_encoder, "--dim", "2"]
        assert main(["fit", str(dataset), *map(str, shared), *arguments]) == 0
        out = capsys.readouterr().out
        assert "3 models x 14 questions" in out
        assert f"router saved in {tmp_path / 'r'}; encoder: {small_encoder}" in out
        expected = MatrixFactorization(dim=2, **settings).fit(load_dataset(dataset))
        loaded = Router.load(tmp_path / "r").factorization
        assert loaded.get_params() == expected.get_params()
        assert loaded.coef_.tobytes() == expected.coef_.tobytes()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--dim", "0"], "dim must be a positive whole number, got 0"),
            (["--solver", "sgd", "--seed", "-1"], "the seed (random_state) must be"),
            (["--solver", "newton"], "solver must be 'exact' or 'sgd', got 'newton'"),
            (["--alpha", "ten"], "alpha must be 'auto' or a number above 0, got 'ten'"),
            (["--alpha", "0"], "alpha must be 'auto' or a number above 0, got 0.0"),
            (["--prior", "models"], "prior must be None or 'pool', got 'models'"),
            (["--prior", "pool", "--solver", "sgd"], "prior 'pool' is for the exact solver"),
            (["--encoder", "/no/such/encoder"], "no encoder '/no/such/encoder'"),
            (["--device", "gpu"], "device must be 'auto', 'cpu' or 'cuda', got 'gpu'"),
        ],
    )
    def test_unsuitable_setting(self, dataset, small_encoder, tmp_path, capsys, arguments, expected):
        arguments = ["fit", dataset, "--router", tmp_path / "r", "--encoder", small_encoder, *arguments]
        assert expected in error_of(capsys, *arguments)
        assert not (tmp_path / "r").exists()

    def test_unknown_data_set(self, tmp_path, capsys):
        assert "nowhere" in error_of(capsys, "fit", tmp_path / "nowhere", "--router", tmp_path / "r")

    def test_simulated_pool(self, small_encoder, tmp_path, capsys):
        error = error_of(capsys, "fit", "simulated", "--router", tmp_path / "r", "--encoder", small_encoder)
        assert "have no prompt, so nothing shows that their embeddings come from the encoder" in error


class TestRoute:
    def test_prints_what_the_library_chooses(self, saved, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        texts = ["What is 4 times 12?", "Where\nis   Athens?", "long " * 60]
        assert main(["route", *texts, "--router", str(saved)]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == ["question", "model", "right", "runner-up", "right"]
        assert len(lines) == 3
        assert lines[0].startswith("What is 4 times 12?  ")
        assert lines[1].startswith("Where is Athens?  ")
        assert lines[2].startswith("long long") and "..." in lines[2]
        assert max(map(len, lines)) <= 100
        for line, route in zip(lines, Router.load(saved).route(texts).itertuples(), strict=True):
            assert f"{route.model} " in line
            assert f"{route.probability:.3f}" in line
            assert line.endswith(f"{route.runner_up_probability:.3f}")

    def test_pool_of_one_model_has_no_runner_up(self, dataset, small_encoder, tmp_path, capsys):
        from embedllm import load_dataset

        alone = load_dataset(dataset).subset(models=["a@1.0 (x)"])
        Router(MatrixFactorization(dim=2).fit(alone), small_encoder).save(tmp_path)
        assert main(["route", "a", "b", "--router", str(tmp_path)]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        probabilities = Router.load(tmp_path).route(["a", "b"])["probability"]
        for text, line, probability in zip("ab", lines, probabilities, strict=True):
            assert line.split() == [text, "a@1.0", "(x)", f"{probability:.3f}", "-", "-"]
            assert line.rindex("-") == head.rindex("right")

    def test_narrow_terminal_still_shows_the_beginning(self, saved, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "10")
        assert main(["route", "What is 4 times 12, exactly?", "--router", str(saved)]) == 0
        assert "What is 4 times 1..." in capsys.readouterr().out

    def test_encoder_elsewhere(self, saved, small_encoder, capsys):
        assert main(["route", "a", "--router", str(saved), "--encoder", str(small_encoder)]) == 0

    def test_device(self, saved, capsys):
        assert main(["route", "on the CPU", "--router", str(saved), "--device", "cpu"]) == 0
        assert "got 'gpu'" in error_of(capsys, "route", "on a GPU", "--router", saved, "--device", "gpu")

    def test_errors(self, saved, dataset, tmp_path, capsys):
        assert f"there is no router in {tmp_path}" in error_of(capsys, "route", "a", "--router", tmp_path)
        assert "question 1 is empty" in error_of(capsys, "route", "a", " ", "--router", saved)
        assert "holds no sentence" in error_of(capsys, "route", "a", "--router", saved, "--encoder", dataset)

    @pytest.mark.parametrize("arguments", [["route"], ["route", "a"], ["route", "--router", "r"], ["fit", "d"], []])
    def test_usage(self, arguments, capsys):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: python -m embedllm" in capsys.readouterr().err

    def test_as_a_user_runs_it(self, saved):
        command = [sys.executable, "-m", "embedllm", "route", "What is 9 times 9?", "--router", str(saved)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")  # the libraries below are kept quiet
        assert "What is 9 times 9?" in run.stdout

    def test_error_as_a_user_sees_it(self, tmp_path):
        command = [sys.executable, "-m", "embedllm", "route", "a", "--router", str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr == f"error: there is no router in {tmp_path}: it holds no file router.json\n"


def test_start_is_quick():
    code = "import sys, embedllm.__main__; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
