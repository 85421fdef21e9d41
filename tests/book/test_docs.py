"""Every command and every Python block of the README and of the book works as printed.

A block that cannot run here says so in its opening fence, after the language: ```` ```bash illustrative ````.
Commands of the package run in the order of their page, between its Python blocks, since they share files.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import embedllm
from embedllm.book.contents import toc_pages
from embedllm.datasets.encoder import DEFAULT_ENCODER
from embedllm.datasets.real_pools import pool_folder

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]

# These install or move; the suite itself runs in what they made.
ALLOWED = {"cd", "conda", "git", "pip", "source"}

# CI runs them, so that here it is enough that they exist.
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line, what stands after the opening fence, and its text."""

    page: Path
    line: int
    info: str
    text: str


def blocks(page):
    found, fence, start = [], None, 0
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        marker = re.match(r"\s*(`{3,}|~{3,})\s*(.*)", line)
        if fence is None and marker:
            fence, info, start = marker[1], marker[2].strip(), number + 1
        elif fence is not None and marker and marker[1].startswith(fence) and not marker[2]:
            found.append(Block(page, start + 1, info, "\n".join(lines[start:number])))
            fence = None
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands():
    """Yield each distinct command of the bash blocks, with the place where it stands first."""
    seen = set()
    for block in BLOCKS:
        if block.info != "bash":
            continue
        for command in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(command, comments=True)
            if words and tuple(words) not in seen:
                seen.add(tuple(words))
                yield pytest.param(words, id=f"{block.page.name}:{block.line}: {' '.join(words)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_escapes_this_file(page):
    for block in blocks(page):
        language = block.info.partition(" ")[0]
        assert language not in ("", "console", "ipython", "py", "sh", "shell"), (
            f"{page.name}:{block.line}: mark the block as bash, python or, for what is no code, text"
        )


@pytest.mark.slow
@pytest.mark.parametrize("words", list(commands()))
def test_command(words, tmp_path):
    match words:
        case ["make", *targets]:
            assert {target for target in targets if "=" not in target} <= TARGETS
        case ["jupyter-book", "build", path] | ["python", "-m", "embedllm.book", path]:
            assert (ROOT / path / "_toc.yml").exists()
        case ["python" | "python3", "-m", "venv" | "pip" | "embedllm", *_]:
            pass
        case ["python", *arguments]:
            succeeds([sys.executable, *arguments])
        case ["papermill", "--help-notebook", notebook]:
            succeeds([sys.executable, "-m", "papermill", "--help-notebook", notebook])
        case ["papermill", notebook, output, *arguments]:
            require_data(arguments)
            small = ["-p", "scale", "0.03"]
            succeeds([sys.executable, "-m", "papermill", notebook, tmp_path / Path(output).name, *arguments, *small])
        case [name, *_]:
            assert name in ALLOWED, f"say in tests/book/test_docs.py how to test {name}"


def require_data(arguments):
    """Skip a command whose data set is not on this machine; the paper's release never is."""
    for name, value in pairwise(arguments):
        here = value == "simulated" or pool_folder(value) or (value != "embedllm" and (ROOT / value).exists())
        if name == "dataset" and not here:
            pytest.skip(f"the data set {value} is not here")


def succeeds(command):
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


OF_THE_PACKAGE = "python -m embedllm "
PRINTS = "---- printed by the block at line "


def check_shown(shown, printed):
    """Each line that a page shows is printed, up to rounding."""
    for line in filter(None, shown.splitlines()):
        alike = [each for each in printed.splitlines() if form(each) == form(line)]
        assert alike, f"{line!r} is shown, and this is printed:\n{printed}"
        assert any(values(each) == pytest.approx(values(line), abs=0.05) for each in alike), (line, alike)


def form(line):
    return re.sub(r"\d", "0", line).rstrip()


def values(line):
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", line)]


def script_of(page):
    """The Python blocks of a page and the commands between them as one script, each block where it is on the page."""
    script = ""
    for block in blocks(page):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.info == "bash":
            lines = [
                f"assert __import__('embedllm.__main__').__main__.main({shlex.split(line)[3:]!r}) == 0"
                if line.startswith(OF_THE_PACKAGE)
                else ""
                for line in lines
            ]
        if block.info in ("python", "bash") and any(lines):
            script += "\n" * (block.line - 2 - script.count("\n")) + f"print('{PRINTS}{block.line}')\n"
            script += "\n".join(lines) + "\n"
    return script


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run_in_order(page, tmp_path, named_encoder):
    script = script_of(page)
    if not script:
        pytest.skip("nothing to run")
    path = tmp_path / f"{page.name}.py"
    path.write_text(script, encoding="utf-8")
    environment = os.environ | named_encoder(DEFAULT_ENCODER)
    run = subprocess.run([sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    outputs = {int(first): text for first, _, text in (part.partition("\n") for part in run.stdout.split(PRINTS)[1:])}
    for block, after in pairwise(blocks(page)):
        if after.info == "text" and block.info in ("python", "bash"):
            check_shown(after.text, outputs[block.line])


@pytest.mark.slow
def test_readme_shows_what_its_lines_print(tmp_path):
    example, shown = [block.text for block in blocks(ROOT / "README.md") if block.info in ("python", "text")]
    run = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == shown, run.stderr[-3000:]


@pytest.mark.slow
def test_landing_page_shows_what_its_commands_print(tmp_path, small_encoder):
    """On the table of the page on own models, with the encoder that is named."""
    table = next(block.text for block in blocks(ROOT / "book" / "own-models.md") if "to_csv" in block.text)
    subprocess.run([sys.executable, "-c", table], cwd=tmp_path, check=True)
    block, shown = [
        block.text for block in blocks(ROOT / "book" / "index.md") if block.info in ("bash illustrative", "text")
    ]
    printed = ""
    for line in block.replace("\\\n", " ").splitlines():
        words = [sys.executable, *shlex.split(line)[1:]]
        if "import" in words:
            words += ["--encoder", str(small_encoder)]
        run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        printed += run.stdout
    check_shown(shown, printed)


REFERENCE = {page: page.read_text(encoding="utf-8") for page in sorted((ROOT / "book" / "api").glob("*.md"))}


def test_every_module_is_in_the_reference():
    """On the page of its sub-package; private modules are not shown."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "embedllm").rglob("*.py")]
    modules = {".".join(path.parts) for path in paths if not any(part.startswith("_") for part in path.parts)}
    shown = [name for text in REFERENCE.values() for name in re.findall(r"automodule:: ([\w.]+)\n +:members:", text)]
    assert sorted(shown) == sorted(modules)


def test_every_public_name_stands_first_in_the_reference():
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r":: embedllm\.(\w+)$", text, re.MULTILINE)) == sorted(embedllm.__all__)


def test_bibtex_says_what_the_citation_file_says():
    work = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = work["references"]
    (text,) = [block.text for block in blocks(ROOT / "book" / "index.md") if block.info == "bibtex"]
    entries = [dict(re.findall(r"^  (\w+) = \{+(.*?)\}+,?$", entry, re.MULTILINE)) for entry in text.split("\n\n")]
    assert entries == [
        {
            "title": paper["title"],
            "author": " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]),
            "booktitle": paper["conference"]["name"],
            "year": str(paper["year"]),
            "note": paper["identifiers"][0]["value"],
        },
        {
            "title": work["title"],
            "author": work["authors"][0]["name"],
            "year": str(work["date-released"].year),
            "version": work["version"],
        },
    ]


def test_archive_says_what_the_citation_file_says():
    work = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    archive = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    assert [archive[key] for key in ("title", "version", "license")] == [
        work[key] for key in ("title", "version", "license")
    ]
    assert archive["creators"] == work["authors"]
    assert archive["related_identifiers"][0]["identifier"] == work["references"][0]["identifiers"][0]["value"]
    assert f"## {work['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_table_of_contents_is_read_in_order():
    pages = toc_pages(ROOT / "_toc.yml")
    assert pages[0] == "index"
    assert pages.index("api") + 1 == pages.index("api/matrix-and-datasets")
    assert set(pages) == {path.strip() for path in re.findall(r"(?:root|file): (.*)", (ROOT / "_toc.yml").read_text())}


def test_checkout_needs_no_symbolic_links():
    """`jupyter-book build book/` works from a clean checkout, also where git writes links as text files."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]
    for name in ("_config.yml", "_toc.yml"):
        assert (ROOT / "book" / name).read_bytes() == (ROOT / name).read_bytes(), f"make book copies {name}"
