"""What stands on the pages of a small book, and `make serve`."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_figure_is_described_and_has_its_size(clean_build):
    book = clean_build[0]
    for page, n_figures in (("notebooks/one", 1), ("notebooks/two", 1), ("index", 1), ("gallery", 2)):
        figures = book.figures(page)
        assert len(figures) == n_figures
        for figure in figures:
            assert figure["alt"] == "Squares of the first numbers. Headings: toy. Axes: number."
            assert 100 < int(figure["width"]) < 300
            assert 50 < int(figure["height"]) < 200


def test_parameters_of_a_run_are_folded(clean_build):
    cell = clean_build[0].markup("notebooks/one").partition("tag_injected-parameters")[2]
    assert re.match(r'[^>]*>\s*<details class="[^"]*\bhide\b', cell)


@pytest.mark.parametrize("page", ["notebooks/two", "index", "gallery"])
def test_figure_leads_to_its_function_its_code_its_script_and_its_data(clean_build, page):
    book = clean_build[0]
    links = re.search(r'<p class="figure-links">(.*?two-squares.*?)</p>', book.markup(page))[1]
    found = dict.fromkeys(("api", "plot_squares", "two.py", "two-squares.svg", "two-squares.pdf", "two-squares.csv"))
    for address in re.findall('href="(.*?)"', links):
        path, _, anchor = address.partition("#")
        target = (book.html / page).parent / path
        assert target.is_file(), address
        if anchor:
            assert f'id="{anchor}"' in target.read_text()
        found["api" if target.stem == "api" else anchor or target.name] = target
    assert None not in found.values(), found
    assert found["plot_squares"] == (book.html / page).parent / found["plot_squares"]
    assert found["two.py"].read_text() == (book.root / "notebooks" / "two.py").read_text()
    assert found["two-squares.csv"].read_text() == "n,square,data\n1,1,toy\n2,4,toy\n"


def test_figures_elsewhere_and_prose_lead_to_where_the_figure_stands(clean_build):
    book = clean_build[0]
    for page, address in (
        ("gallery", "notebooks/one.html#one-squares"),
        ("gallery", "notebooks/two.html#two-squares"),
        ("index", "notebooks/two.html#two-squares"),
        ("index", "notebooks/one.html#one-squares"),
    ):
        assert ("a", address) in [(name, attributes.get("href")) for name, attributes in book.tags(page)]
        path, _, anchor = address.partition("#")
        assert f'id="{anchor}"' in (book.html / path).read_text()


def test_reference_shows_a_public_name_once_and_finds_it_by_its_full_name(clean_build):
    book = clean_build[0]
    assert len(re.findall('id="embedllm[^"]*CorrectnessMatrix"', book.markup("api"))) == 1
    assert 'href="api.html#embedllm.CorrectnessMatrix.save"' in book.markup("index")


def external_loads(book):
    """What the pages and their style sheets would ask of other hosts; links that a reader may follow are none of it."""
    found = set()
    for page in book.pages():
        for name, attributes in book.tags(page):
            address = attributes.get("src") or (attributes.get("href") if name == "link" else None)
            if address and re.match(r"(\w+:)?//", address):
                found.add((page, address))
    for path in book.html.rglob("*.css"):
        found |= {
            (path.name, address)
            for address in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]*)", path.read_text())
        }
    return found


def test_pages_load_nothing_from_other_hosts(clean_build):
    assert external_loads(clean_build[0]) == set()


def test_equations_are_drawn_by_what_comes_with_the_book(clean_build):
    book = clean_build[0]
    (script,) = [attributes["src"] for name, attributes in book.tags("index") if "mathjax" in attributes.get("src", "")]
    assert (book.html / script.partition("?")[0]).resolve().is_file()
    assert not [attributes for _, attributes in book.tags("api") if "mathjax" in attributes.get("src", "")]


def buttons(book, page):
    """Addresses of the buttons of the theme that lead to other sites."""
    return [
        attributes["href"]
        for name, attributes in book.tags(page)
        if name == "a" and "btn" in attributes.get("class", "") and attributes["href"].startswith("https:")
    ]


def test_unknown_repository_has_no_buttons(clean_build):
    assert buttons(clean_build[0], "index") == buttons(clean_build[0], "notebooks/one") == []


def test_buttons_lead_to_files_of_the_repository(book):
    known = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "someone/book", "GITHUB_REF_NAME": "trunk"}
    status, output, executed = book.build(**known)
    assert status == 0, output
    assert executed == set()
    found = {button for page in ("index", "gallery", "notebooks/one") for button in buttons(book, page)}
    assert found == {
        "https://github.com/someone/book",
        "https://github.com/someone/book/edit/trunk/book/index.md",
        "https://github.com/someone/book/edit/trunk/book/gallery.md",
        "https://github.com/someone/book/edit/trunk/notebooks/one.py",
        "https://mybinder.org/v2/gh/someone/book/trunk?urlpath=lab/tree/notebooks/one.ipynb",
        "https://colab.research.google.com/github/someone/book/blob/trunk/notebooks/one.ipynb",
    }
    for address in found - {"https://github.com/someone/book"}:
        assert (book.root / re.split("trunk/|tree/", address)[-1]).is_file()


@pytest.fixture
def served(book):
    """`make serve` in this environment: its address, a wait for the end of the n-th build, and what it prints."""
    shutil.copy(ROOT / "Makefile", book.root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = book.root / "serve.log"

    def finished(number):
        """Wait for so many builds to end, and then some; return how many have begun."""
        deadline = time.monotonic() + 120
        while log.read_text().count("Serving on") < number:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        time.sleep(2)  # by now a build that started itself would have begun
        return log.read_text().count("Wrote conf.py")

    with log.open("w") as stream:
        server = subprocess.Popen(
            ["make", "serve", "READY=", f"BIN={Path(sys.executable).parent}", f"PORT={port}"],
            cwd=book.root,
            env={**os.environ, "PYTHONPATH": str(book.root)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield f"http://127.0.0.1:{port}", finished, log
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def test_serve_rebuilds_once_for_each_change_and_outlives_a_failure(book, served):
    address, finished, log = served

    def shown(page):
        with urllib.request.urlopen(f"{address}/{page}.html", timeout=10) as answer:
            return answer.read().decode()

    assert finished(1) == 1
    assert "websocket-reload" in shown("index")
    book.edit("book/index.md", "A small book", "A changed book")
    assert finished(2) == 2
    assert "A changed book" in shown("index")
    book.edit("notebooks/one.py", 'print("one is complete")', "1 / 0")
    assert finished(3) == 3
    assert "ZeroDivisionError: division by zero" in log.read_text()
    assert "ZeroDivisionError" in shown("notebooks/one")
