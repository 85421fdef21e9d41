"""Ctrl-C, and the end of a container, while a command works: one line, and nothing half done."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest

from embedllm._support.files import cached, creating_folder
from embedllm.book import regression

# The command, stopped by a signal where it calls a function for the first time.
STOPPED = """
import importlib, os, runpy, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where these tests run in the background
place, name, number, *sys.argv[1:] = sys.argv[1:]
owner = importlib.import_module(place.partition(":")[0])
for part in place.split(":")[1:]:
    owner = getattr(owner, part)
plain = getattr(owner, name)
def stopped(*args, **kwargs):
    plain(*args, **kwargs)
    os.kill(os.getpid(), int(number))
    time.sleep(60)
setattr(owner, name, stopped)
runpy.run_module("embedllm", run_name="__main__", alter_sys=True)
"""
TABLE = "prompt,benchmark,a,b\n" + "".join(f"What is {n} plus 2?,sums,{n % 2},{n % 3 // 2}\n" for n in range(8))


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_encoder):
    """A folder with a table and a data set."""
    from embedllm.__main__ import main

    folder = tmp_path_factory.mktemp("place")
    (folder / "table.csv").write_text(TABLE)
    out = ["--out", str(folder / "pool"), "--encoder", str(small_encoder), "--device", "cpu"]
    assert main(["import", "wide", str(folder / "table.csv"), *out]) == 0
    return folder


IMPORT = ["import", "wide", "table.csv", "--out", "new/pool"]
COMMANDS = {
    "encoding": (SIGINT, IMPORT, "sentence_transformers:SentenceTransformer", "encode"),
    "writing": (SIGINT, IMPORT, "numpy", "save"),
    "saving": (SIGTERM, ["fit", "pool", "--router", "other", "--dim", "2"], "pathlib:Path", "write_bytes"),
}


def files_of(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("when", COMMANDS)
def test_command(place, small_encoder, tmp_path, when):
    number, arguments, owner, name = COMMANDS[when]
    before = files_of(place)
    for folder in ("temporary", "cache"):
        (tmp_path / folder).mkdir()
    command = [
        sys.executable,
        "-c",
        STOPPED,
        owner,
        name,
        str(int(number)),
        *arguments,
        "--encoder",
        str(small_encoder),
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "EMBEDLLM_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=150)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "interrupted\n")
    assert files_of(place) == before
    assert not (place / "new").exists()
    assert not list((tmp_path / "temporary").iterdir())
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.endswith(("tmp", "journal"))]


def test_folder_that_a_killed_process_left(tmp_path):
    """In containers, a process often has the number of an earlier one."""
    (tmp_path / f".pool.{os.getpid()}.tmp").mkdir()
    with creating_folder(tmp_path / "pool") as folder:
        (folder / "file").touch()
    assert [path.name for path in (tmp_path / "pool").iterdir()] == ["file"]


def late(*_):
    pytest.fail("hours of work, which cannot be kept")


@pytest.mark.parametrize("name", ["record_sgd", "record_solvers"])
def test_tool_looks_first_where_it_will_write(name):
    main = runpy.run_path(str(Path(__file__).parents[1] / "tools" / f"{name}.py"))["main"]
    main.__globals__.update(TARGET=Path("/proc/none/record.json"), load_dataset=late)
    with pytest.raises(NotADirectoryError, match="nothing can be written in /proc/none"):
        main(["zeroeval"])


def test_benchmarks_look_first_where_they_will_write(monkeypatch):
    from benchmarks import __main__ as benchmarks

    monkeypatch.setattr(benchmarks, "run_all", late)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--record", "/proc/none/run.json"])
    with pytest.raises(NotADirectoryError, match="nothing can be written in /proc/none"):
        benchmarks.main()


def test_record_of_a_build_looks_first_where_it_will_write(monkeypatch, capsys):
    monkeypatch.setattr(regression, "refresh", late)
    monkeypatch.setattr(regression, "expected_path", lambda *_: Path("/proc/none/pool.json"))
    monkeypatch.chdir(Path(__file__).parents[1])
    assert regression._main("record") == 1
    assert "nothing can be written in /proc/none" in capsys.readouterr().err


def test_lock_of_a_killed_process_blocks_no_other(tmp_path):
    code = "import sys, time; from pathlib import Path; from embedllm._support.files import cached; "
    code += "cached(Path(sys.argv[1]), '', None, lambda: (print('made', flush=True), time.sleep(60)), None)"
    path = tmp_path / "cache" / "pool.npz"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "made\n"
        process.kill()
    assert (tmp_path / "cache" / "pool.npz.lock").exists()
    assert cached(path, "", Path.read_text, lambda: "new", lambda made, to: None) == "new"
