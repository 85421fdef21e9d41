"""The command line: `fit` and `route`, in one process and as a user runs them."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pandas as pd
import pytest
from hostile import HOSTILE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedllm import CorrectnessMatrix, MatrixFactorization, Router, encode_questions
from embedllm.__main__ import _table, main
from embedllm.predictors.familiarity import Familiarity

PROMPTS = [f"What is {a} times {b}?" for a in range(2, 8) for b in (3, 11)] + ["Where is Rome?", "Who was Cicero?"]

TEXTS = ["What is 4 times 12?", "Where is Ælfric's abbey, 町?"]


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


def by_name(matrix):
    return matrix.subset(models=sorted(matrix.model_names))


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

        expected = MatrixFactorization(dim=6).fit(by_name(load_dataset(dataset)))
        loaded = Router.load(saved).factorization
        assert loaded.coef_.tobytes() == expected.coef_.tobytes()
        assert loaded.get_params() == expected.get_params()

    @pytest.mark.parametrize(
        ("arguments", "settings"),
        [
            (["--solver", "sgd", "--seed", "3", "--alpha", "0.1"], {"solver": "sgd", "random_state": 3, "alpha": 0.1}),
            (["--prior", "pool", "--alpha", "0.2"], {"prior": "pool", "alpha": 0.2}),
            (["--prior", "none"], {"prior": None}),
        ],
        ids=["sgd", "pool", "no prior"],
    )
    def test_settings(self, dataset, small_encoder, tmp_path, capsys, arguments, settings):
        from embedllm import load_dataset

        shared = ["--router", tmp_path / "r", "--encoder", small_encoder, "--dim", "2"]
        assert main(["fit", str(dataset), *map(str, shared), *arguments]) == 0
        out = capsys.readouterr().out
        assert "3 models x 14 questions" in out
        assert f"router saved in {tmp_path / 'r'}; encoder: {small_encoder}" in out
        expected = MatrixFactorization(dim=2, **settings).fit(by_name(load_dataset(dataset)))
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

    def test_stacks_by_default_and_says_what_it_found(self, dataset, small_encoder, tmp_path, capsys):
        assert main(["fit", str(dataset), "--router", str(tmp_path / "r"), "--encoder", str(small_encoder)]) == 0
        summary = Router.load(tmp_path / "r").predictor.summary()
        out = capsys.readouterr().out
        assert summary in out.splitlines()
        assert "of each part alone: benchmark mean 0." in summary

    def test_takes_the_encoder_of_the_import(self, small_encoder, tmp_path, capsys):
        lines = [f"{prompt},sums,{number % 2},{number % 3 // 2}" for number, prompt in enumerate(PROMPTS[:6])]
        (tmp_path / "t.csv").write_text("\n".join(["prompt,benchmark,a,b", *lines]) + "\n")
        shared = ["--encoder", str(small_encoder), "--device", "cpu"]
        assert main(["import", "wide", str(tmp_path / "t.csv"), "--out", str(tmp_path / "pool"), *shared]) == 0
        assert main(["fit", str(tmp_path / "pool"), "--router", str(tmp_path / "r"), "--dim", "2"]) == 0
        assert f"encoder: {small_encoder}" in capsys.readouterr().out

    def test_folder_of_the_router_is_checked_first(self, dataset, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("embedllm.datasets.load.load_dataset", lambda *_: pytest.fail("hours of work"))
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "router", "/proc/none/router"):
            error = error_of(capsys, "fit", dataset, "--router", folder)
            assert f"nothing can be written in {folder}, since " in error
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_unknown_data_set(self, tmp_path, capsys):
        assert "nowhere" in error_of(capsys, "fit", tmp_path / "nowhere", "--router", tmp_path / "r")

    def test_simulated_pool(self, small_encoder, tmp_path, capsys):
        error = error_of(capsys, "fit", "simulated", "--router", tmp_path / "r", "--encoder", small_encoder)
        assert "have no prompt, so nothing shows that their embeddings come from the encoder" in error


def test_evaluate_compares_a_router_with_the_baselines(dataset, capsys, tmp_path):
    report = tmp_path / "report.html"
    assert main(["evaluate", str(dataset), "--runs", "2", "--report", str(report)]) == 0
    out = capsys.readouterr().out
    assert "Is routing worth it on " in report.read_text()
    assert "\nQuestions: 2 random divisions; fitted to 79 %, measured on 7 % (n = 1)\n" in out
    assert list(tmp_path.iterdir()) == [report]
    assert "nothing can be written in" in error_of(capsys, "evaluate", dataset, "--report", "/proc/none/report.html")
    for name in ("benchmark mean", "KNN", "MF, pool prior", "router", "best single model", "best model per benchmark"):
        assert f"\n{name} " in out
    assert out.count("not told apart from") == out.count("without an interval: fewer than 30 questions") == 3
    for option, value, message in (("--runs", "0", "n_runs must be"), ("--group-by", "x", "no column 'x'")):
        assert main(["evaluate", str(dataset), option, value]) == 1
        assert message in capsys.readouterr().err


class TestRoute:
    def test_prints_what_the_library_chooses(self, saved, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        texts = ["What is 4 times 12?", "Where\nis   Athens?", "long " * 60]
        assert main(["route", *texts, "--router", str(saved)]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == ["question", "model", "correct", "runner-up", "correct"]
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
            assert line.rindex("-") == head.rindex("correct")

    @pytest.fixture
    def unlike(self, saved, tmp_path):
        """Let a router find the second of these questions unlike those of the data."""
        router = Router.load(saved)
        vectors = encode_questions([TEXTS[0], *PROMPTS], router.encoder.folder, device="cpu")
        router.familiarity = Familiarity(Familiarity.learn(vectors).reference, 0.9)
        router.save(tmp_path / "router")
        return ["What is 4 times 12?", "Write an ode.", "--router", str(tmp_path / "router")]

    def test_warns_of_unfamiliar_questions(self, unlike, capsys):
        said = "warning: 1 of 2 questions is less like the questions of the data than 99 % of those are like each other"
        for options in ([], ["--top", "2"]):
            assert main(["route", *unlike, *options]) == 0
            out, error = capsys.readouterr()
            marked = [line for line in out.splitlines() if "?" in line.replace("12?", "")]
            assert marked and all(line.startswith("Write an ode.") and line.endswith("?") for line in marked)
            assert error == f"{said}: its probabilities mean little (marked ?)\n"
        assert main(["route", *unlike, "--format", "csv"]) == 0
        out, error = capsys.readouterr()
        assert pd.read_csv(io.StringIO(out))["unfamiliar"].tolist() == [False, True]
        assert error == f"{said}: its probabilities mean little (column unfamiliar)\n"
        assert main(["route", "What is 4 times 12?", *unlike[2:]]) == 0
        assert capsys.readouterr().err == ""
        assert main(["route", "A sonnet.", *unlike[1:]]) == 0
        assert "2 of 2 questions are less like" in capsys.readouterr().err

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

    @pytest.mark.parametrize("arguments", [["route"], ["route", "a"], ["route", "--format", "xml"], ["fit", "d"], []])
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


class TestRouteQuestionsOfFiles:
    """Questions come from arguments, files or the standard input, and routes go where and as they are wanted."""

    def write(self, folder, name):
        path, rows = folder / name, pd.DataFrame({"id": [1, 2], "prompt": TEXTS})
        if name.endswith("csv"):
            rows.to_csv(path, index=False)
        elif name.endswith("parquet"):
            rows.to_parquet(path)
        elif name.endswith("jsonl"):
            rows.to_json(path, orient="records", lines=True)
        else:
            path.write_text("\ufeff" + "\n\n".join(TEXTS) + "\n", encoding="utf-8")
        return path

    @pytest.mark.parametrize("name", ["q.txt", "q.csv", "q.parquet", "q.jsonl", "q"])
    @pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
    def test_what_is_written_is_what_the_library_chooses(self, saved, tmp_path, capsys, name, form):
        shared = ["--router", str(saved), "--file", str(self.write(tmp_path, name)), "--format", form]
        assert main(["route", *shared, "--out", str(tmp_path / "routes")]) == 0
        assert capsys.readouterr().out == ""
        read = pd.read_csv if form == "csv" else lambda path: pd.read_json(path, lines=form == "jsonl")
        expected = Router.load(saved).route(TEXTS)
        pd.testing.assert_frame_equal(read(tmp_path / "routes"), expected, check_dtype=False, rtol=1e-6)
        assert main(["route", *shared]) == 0
        assert capsys.readouterr().out == (tmp_path / "routes").read_text(encoding="utf-8")

    def test_the_ending_of_the_file_says_the_format(self, saved, tmp_path):
        long = "What is the longest word of this question, which no terminal shows on a line of eighty characters?"
        for name, start in (("routes.csv", "question,model"), ("routes.jsonl", '{"question"'), ("routes.txt", "quest")):
            assert main(["route", "--router", str(saved), long, "--out", str(tmp_path / name)]) == 0
            written = (tmp_path / name).read_text(encoding="utf-8")
            assert written.startswith(start) and long in written

    def test_standard_input(self, saved):
        command = [sys.executable, "-m", "embedllm", "route", "--router", str(saved), "--format", "jsonl"]
        run = subprocess.run(command, input="\n".join(TEXTS).encode(), capture_output=True)
        assert run.returncode == 0, run.stderr
        assert [json.loads(line)["question"] for line in run.stdout.splitlines()] == TEXTS
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr.startswith("error: there is no question: pass some as arguments, by --file or on the")

    def test_file_named_as_a_question_is_asked_about(self, saved, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path, "q.txt")
        error = error_of(capsys, "route", "q.txt", "--router", saved)
        assert "'q.txt' is the name of a file: pass --file q.txt to route the questions in it, or, if it is" in error
        assert "leave out one of them" in error_of(capsys, "route", "a", "--file", "q.txt", "--router", saved)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("q.csv", b"question\nWhat?\n", "q.csv has no column 'prompt'"),
            ("q.jsonl", b'{"prompt": 7}\n', "q.jsonl, line 1 has no text 'prompt': it has prompt"),
            ("q.jsonl", b"[1]\n", "q.jsonl, line 1 is a list, not an object"),
            ("q.txt", b"\n \n", "q.txt holds no question: write each on a line"),
            ("q.txt", b"fine\nM\xfcnchen\n", "q.txt, line 2 is not UTF-8: save it as UTF-8"),
            ("none.txt", None, "No such file"),
        ],
    )
    def test_file_that_cannot_be_used_is_named(self, saved, tmp_path, capsys, name, content, message):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert message in error_of(capsys, "route", "--file", tmp_path / name, "--router", saved)

    def test_choice_among_models(self, saved, capsys):
        router, text = Router.load(saved), TEXTS[0]
        first, second, third = router.rank([text])["model"]
        shared = ["route", text, "--router", str(saved), "--format", "csv"]

        def routes(*arguments):
            assert main([*shared, *arguments]) == 0
            return pd.read_csv(io.StringIO(capsys.readouterr().out))

        assert routes("--exclude", first)[["model", "runner_up"]].to_numpy().tolist() == [[second, third]]
        assert routes("--model", third, "--model", second)["model"].tolist() == [second]
        assert routes("--top", "5")["model"].tolist() == [first, second, third]
        assert routes("--top", "2", "--exclude", second)["rank"].tolist() == [1, 2]
        low = routes("--min-probability", "1", "--fallback", "a person").loc[0]
        assert (low["model"], low["runner_up"]) == ("a person", first)
        assert np.isnan(low["probability"]) and low["runner_up_probability"] > 0
        assert "unknown model 'x'" in error_of(capsys, *shared, "--model", "x")
        assert "--exclude 'x': there is no such model" in error_of(capsys, *shared, "--exclude", "x")
        every = [option for name in (first, second, third) for option in ("--exclude", name)]
        assert "models is empty" in error_of(capsys, *shared, *every)
        assert "min_probability and fallback go together" in error_of(capsys, *shared, "--min-probability", "0.5")
        assert "--top lists models" in error_of(capsys, *shared, "--top", "2", "--fallback", first)
        assert "top must be a positive whole number, got 0" in error_of(capsys, *shared, "--top", "0")

    def test_prices(self, saved, tmp_path, capsys):
        first, second, third = Router.load(saved).rank([TEXTS[0]])["model"]
        table = tmp_path / "prices.csv"
        table.write_text(f"model,price\n{first},3\n{third},1\n")
        shared = ["route", TEXTS[0], "--router", str(saved), "--format", "csv"]
        priced = [*shared, "--prices", str(table)]

        def chosen(*arguments):
            assert main([*priced, *arguments]) == 0
            return pd.read_csv(io.StringIO(capsys.readouterr().out))["model"].item()

        default = ["--default-price", "2"]
        assert chosen(*default, "--max-cost", "3") == first
        assert chosen(*default, "--max-cost", "2") == second
        assert chosen(*default, "--tradeoff", "1000") == third
        assert chosen("--exclude", second, "--max-cost", "2") == third
        assert "prices go with max_cost or tradeoff" in error_of(capsys, *priced, *default)
        error = error_of(capsys, *priced, "--max-cost", "2")
        assert f"no price of model {second!r} is known: add it to the prices" in error
        assert "--default-price" in error
        assert "pass prices=... (--prices)" in error_of(capsys, *shared, "--max-cost", "2")
        assert "pass --prices FILE too" in error_of(capsys, *shared, *default)
        assert "--top lists models" in error_of(capsys, *priced, "--top", "2")
        assert "no model costs at most 0.1" in error_of(capsys, *priced, *default, "--max-cost", "0.1")

    def test_place_to_write_is_checked_first(self, saved, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(Router, "load", lambda *_: pytest.fail("hours of work"))
        (tmp_path / "file").touch()
        error = error_of(capsys, "route", "a", "--router", saved, "--out", tmp_path / "file" / "routes.csv")
        assert "nothing can be written in" in error


class TestErrors:
    """One line whatever goes wrong, and what comes from the data is no command to a terminal."""

    @pytest.mark.parametrize(
        ("raised", "line"),
        [
            (RuntimeError("CUDA\nout"), "RuntimeError: CUDA\\nout (--debug shows the traceback)"),
            (MemoryError(), "MemoryError:  (--debug shows the traceback)"),
            (ValueError("model 'a\x1b[31m\u202e'"), "model 'a\\x1b[31m\\u202e'"),
            (KeyError("unknown model 'b'"), "unknown model 'b'"),
            (KeyError(), "KeyError:  (--debug shows the traceback)"),
        ],
    )
    def test_any_exception(self, saved, capsys, monkeypatch, raised, line):
        monkeypatch.setattr(Router, "load", lambda *_: (_ for _ in ()).throw(raised))
        assert error_of(capsys, "route", "a", "--router", saved) == f"error: {line}\n"
        for arguments in (["--debug", "route", "a"], ["route", "a", "--debug"]):
            with pytest.raises(type(raised)):
                main([*arguments, "--router", str(saved)])

    def test_interruption(self, saved, capsys, monkeypatch):
        monkeypatch.setattr(Router, "load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["route", "a", "--router", str(saved)]) == 130
        assert capsys.readouterr() == ("", "interrupted\n")

    def test_names_on_the_terminal(self, saved, small_encoder, dataset, tmp_path, capsys):
        from embedllm import load_dataset

        matrix = load_dataset(dataset).subset(models=["a"])
        matrix.models = matrix.models.rename(index={"a": "\x1b[2Jred\nline \u202e$x$ 模型 <b>"})
        Router(MatrixFactorization(dim=2).fit(matrix), small_encoder).save(tmp_path)
        assert main(["route", "\x1b]0;title\x07 a", "--router", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert r"\x1b[2Jred\nline \u202e$x$ 模型 <b>" in out and r"\x1b]0;title\x07 a" in out
        assert out.count("\n") == 2 and all(each.isprintable() for each in out.splitlines())

    @given(st.lists(st.text(min_size=1), min_size=3, max_size=3))
    def test_any_name_keeps_to_its_line(self, texts):
        question, model, runner_up = texts
        row = {"question": question, "model": model, "probability": 0.5, "unfamiliar": False}
        table = _table(pd.DataFrame([row | {"runner_up": runner_up, "runner_up_probability": 0.4}] * 2), shorten=True)
        assert table.count("\n") == 2 and table.replace("\n", "").isprintable()

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), min_size=1), min_size=4, max_size=4),
        st.sampled_from([name for name in HOSTILE if not set("/\0") & set(name)]),
    )
    def test_names_from_import_to_route(self, small_encoder, tmp_path_factory, names, folder):
        """Whatever the names of models, benchmark and folder are: lines of the commands, and no others."""
        place = tmp_path_factory.mktemp("names")
        table = pd.DataFrame({"prompt": PROMPTS[:6], "benchmark": names[0]})
        for number, name in enumerate(names[1:]):
            table[f"{name} {number}"] = [(row + number) % 2 for row in range(6)]
        table.to_csv(place / f"{folder}.csv", index=False)
        shared = ["--encoder", str(small_encoder), "--device", "cpu"]
        for arguments in (
            ["import", "auto", str(place / f"{folder}.csv"), "--out", str(place / folder)],
            ["fit", str(place / folder), "--router", str(place / f"r{folder}"), "--dim", "2"],
            ["route", names[0], names[1], "--router", str(place / f"r{folder}")],
            ["route", "a", "--router", str(place / f"none{folder}")],
        ):
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                status = main([*arguments, *shared])
            assert all(line.isprintable() for line in (out.getvalue() + err.getvalue()).split("\n"))
            assert err.getvalue().count("\n") == status

    def test_terminal_of_ascii_alone(self, saved):
        command = [sys.executable, "-m", "embedllm", "route", "模型?", "--router", str(saved)]
        environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        run = subprocess.run(command, capture_output=True, env=environment)
        assert (run.returncode, run.stderr) == (0, b"")

    def test_tilde_is_the_home(self, saved, capsys, monkeypatch):
        monkeypatch.setenv("HOME", str(saved.parent))
        assert main(["route", "a", "--router=~/router"]) == 0


def test_start_is_quick():
    code = "import sys, embedllm.__main__; assert not {'torch', 'pandas', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
