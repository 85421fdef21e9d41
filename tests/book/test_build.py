"""`jupyter-book build book/`, as typed, on a small repository laid out like this one."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest

from embedllm.book.contents import check_pages, toc_pages
from embedllm.book.extension import published_table
from embedllm.book.regression import record
from embedllm.book.repository import theme_options
from embedllm.protocol.published import load_published

ROOT = Path(__file__).parents[2]

# As on a machine of one's own.
UNKNOWN_REPOSITORY = dict.fromkeys(("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_BASE_REF", "GITHUB_REF_NAME"), "")

NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Notebook {name}

# %% tags=["parameters"]
dataset: str = "simulated"  # where the questions come from
seed: int = 7  # of the random numbers

# %%
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from pathlib import Path

from embedllm.constants_of_{name} import BASE
from embedllm.protocol.reported_values import ReportedValue, report

offset = float(Path("data/offset.txt").read_text())
report([ReportedValue("{name}_answer", "the answer", [BASE + seed + offset])], "toy")

# %%
import pandas as pd

from embedllm.pictures import plot_squares

plot_squares(pd.DataFrame({{"n": [1, 2], "square": [1, 4], "data": "toy"}}))

# %%
print("{name} is complete")
"""

PICTURES = """\
'Pictures.'

import matplotlib.pyplot as plt

from embedllm.plots._style import figure_of


@figure_of()
def plot_squares(table):
    'Squares of the first numbers.'
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot(table["n"], table["square"])
    axes.set(title=table["data"].iat[0], xlabel="number")
    return figure
"""

API = """\
# Reference

```{eval-rst}
.. autoclass:: embedllm.CorrectnessMatrix
   :members: save

.. automodule:: embedllm.pictures
   :members:

.. automodule:: embedllm.matrix
   :members:
```
"""

INDEX = """\
# A small book

One notebook says {glue:text}`notebooks/one.ipynb::one_answer:.1f`, the other
{glue:text}`notebooks/two.ipynb::two_answer:.1f`. The paper says {{ published_accuracy }} of {{ published_questions }}.

{{ published_table }}

As {ref}`the figure <one-squares>` shows, $1 + 3 = 2^2$. See {meth}`~embedllm.matrix.CorrectnessMatrix.save`.

```{figure-copy} two-squares
```
"""

PUBLISHED = """\
- {key: accuracy, figure: accuracy, value: 74.09, unit: "%", where: paper, seen_in: a summary, verified: false}
- {key: questions, figure: number of questions, value: 36054, unit: "", where: paper, seen_in: paper, verified: true}
"""


class Book:
    """A repository of two notebooks and a page that quotes both."""

    def __init__(self, root):
        self.root = root
        self.html = root / "book" / "_build" / "html"

    @classmethod
    def create(cls, root):
        for folder in ("book", "data", "embedllm", "notebooks"):
            (root / folder).mkdir(parents=True)
        for name in ("_config.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, root)
        # The package is a copy, so that nothing is found through the place of the real one, with modules of its own.
        shutil.copytree(ROOT / "embedllm", root / "embedllm", dirs_exist_ok=True)
        for name in ("one", "two"):
            (root / "embedllm" / f"constants_of_{name}.py").write_text("BASE = 30\n")
        (root / "embedllm" / "pictures.py").write_text(PICTURES)
        (root / "data" / "offset.txt").write_text("2")
        (root / "data" / "published.yml").write_text(PUBLISHED)
        pages = "".join(f"  - file: notebooks/{name}\n" for name in ("one", "two"))
        pages += "".join(f"  - file: {name}\n" for name in ("gallery", "api"))
        (root / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{pages}")
        for name in ("_config.yml", "_toc.yml"):
            (root / "book" / name).symlink_to(f"../{name}")
        (root / "book" / "index.md").write_text(INDEX)
        (root / "book" / "api.md").write_text(API)
        shutil.copy(ROOT / "book" / "gallery.md", root / "book")
        for name in ("vendor", "_static"):
            shutil.copytree(ROOT / "book" / name, root / "book" / name)
        for name in ("one", "two"):
            (root / "notebooks" / f"{name}.py").write_text(NOTEBOOK.format(name=name))
        return cls(root)

    def build(self, **environment):
        """Return the exit status, all that was printed, and the names of the notebooks that were executed."""
        run = subprocess.run(
            [Path(sys.executable).with_name("jupyter-book"), "build", "book/"],
            cwd=self.root,
            env={**os.environ, **UNKNOWN_REPOSITORY, "PYTHONPATH": str(self.root), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        executed = re.findall(r"^notebooks/(\w+): executing", run.stdout, re.MULTILINE)
        return run.returncode, run.stdout, set(executed)

    def edit(self, path, old, new):
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new))

    def text(self, page):
        """Return the text of a page without its markup."""
        return re.sub(r"<[^>]*>", "", (self.html / f"{page}.html").read_text())

    def tags(self, page):
        """Return the names and attributes of the elements of a page."""
        tags = []
        parser = HTMLParser()
        parser.handle_starttag = lambda name, attributes: tags.append((name, dict(attributes)))
        parser.feed((self.html / f"{page}.html").read_text())
        return tags

    def pages(self):
        """Return the names of all pages, also of those that Sphinx adds."""
        return [path.relative_to(self.html).with_suffix("").as_posix() for path in self.html.rglob("*.html")]


@pytest.fixture(scope="module")
def clean_build(tmp_path_factory):
    book = Book.create(tmp_path_factory.mktemp("clean") / "repository")
    return book, *book.build()


@pytest.fixture
def book(clean_build, tmp_path):
    """A copy of a book that was just built: by content, nothing in it is stale."""
    return Book(shutil.copytree(clean_build[0].root, tmp_path / "repository", symlinks=True))


def test_clean_build(clean_build):
    book, status, output, executed = clean_build
    assert status == 0, output
    assert executed == {"one", "two"}
    assert "two is complete" in book.text("notebooks/two")
    assert "One notebook says 32.0, the other" in book.text("index")
    assert check_pages(book.root / "book") is None


def test_parameters_come_from_the_configuration(clean_build):
    # _config.yml says 0, the notebook 7.
    assert "seed = 0" in clean_build[0].text("notebooks/one")


def test_published_values_are_shown(clean_build):
    text = clean_build[0].text("index")
    assert "The paper says 74.09 % (unverified) of 36,054." in text
    assert "number of questions" in text


def test_pages_name_no_path_of_this_machine(clean_build):
    book = clean_build[0]
    for path in book.html.rglob("notebooks/*"):
        assert str(book.root) not in path.read_text()


def test_unchanged_book_executes_nothing(book):
    for _ in range(2):
        status, output, executed = book.build()
        assert status == 0, output
        assert executed == set()
        assert output.count(": unchanged") == 2
    # In the place of the first build, all pages are read but the reference.
    assert "0 added, 4 changed, 0 removed" in re.sub("\x1b.*?m", "", output)


def test_editing_a_notebook_executes_only_that_one(book):
    ids = re.findall(r'"id": ".*"', (book.root / "notebooks/one.ipynb").read_text())
    book.edit("notebooks/one.py", "BASE + seed", "100 * BASE + seed")
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == {"one"}
    assert "One notebook says 3002.0, the other\n32.0." in book.text("index")
    assert "100 * BASE" in book.text("notebooks/one")
    assert re.findall(r'"id": ".*"', (book.root / "notebooks/one.ipynb").read_text()) == ids


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("embedllm/constants_of_one.py", "30", "40", {"one": 42, "two": 32}),
        ("data/offset.txt", "2", "12", {"one": 42, "two": 42}),
    ],
    ids=["package", "data"],
)
def test_changing_an_input_changes_the_numbers_that_depend_on_it(book, path, old, new, expected):
    book.edit(path, old, new)
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == {name for name, value in expected.items() if value != 32}
    assert f"One notebook says {expected['one']}.0, the other\n{expected['two']}.0." in book.text("index")


def test_what_changes_no_result_executes_nothing(book):
    book.edit("embedllm/constants_of_one.py", "BASE", "# A comment.\nBASE")
    book.edit("embedllm/pictures.py", "'Pictures.'", "'Drawings.'")
    book.edit("embedllm/datasets/formats/lm_eval.py", '"""', '"""Changed: ')
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == set()
    assert "Drawings." in book.text("api")


def test_edit_of_the_ipynb_alone_is_carried_into_the_script(book):
    book.edit("notebooks/one.ipynb", "one is complete", "one is finished")
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == {"one"}
    assert "notebooks/one: the py was changed as its ipynb was" in output
    assert "one is finished" in (book.root / "notebooks" / "one.py").read_text()
    assert "one is finished" in book.text("notebooks/one")


def test_edits_of_both_files_of_a_pair_are_refused(book):
    book.edit("notebooks/one.ipynb", "one is complete", "one is finished")
    book.edit("notebooks/one.py", "# # Notebook", "# # The notebook")
    status, output, executed = book.build()
    assert status != 0
    assert executed == set()
    assert "notebooks/one.py and one.ipynb differ, and both may have been edited" in output


def test_number_that_leaves_its_tolerance_fails_every_build_and_is_named(book):
    record(book.root, ["one", "two"], {"dataset": "simulated", "seed": 0})
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == set()
    assert "all 2 values are within the tolerances of data/expected/simulated.json" in output
    book.edit("embedllm/constants_of_two.py", "30", "31")
    for expected in ({"two"}, set()):
        status, output, executed = book.build()
        assert status != 0
        assert executed == expected
        assert "1 of 2 values are outside the tolerances of data/expected/simulated.json" in output
        assert re.search(r"two\.two_answer +the answer +33 +32 +32", output)


def test_failing_notebook_fails_every_build_and_is_shown(book):
    book.edit("notebooks/one.py", 'print("one is complete")', "1 / 0")
    for _ in range(2):
        status, output, executed = book.build()
        assert status != 0
        assert executed == {"one"}
        assert "notebooks/one: FAILED" in output
        assert "ZeroDivisionError: division by zero" in output
    assert "ZeroDivisionError" in book.text("notebooks/one")
    assert "check_parameters()" in book.text("notebooks/one")


def test_warnings_fail_the_build(book):
    faults = {
        "{glue:text}`notebooks/one.ipynb::no_such_key:.1f`": "no_such_key",
        "{{ published_nothing }}": "published_nothing",
        "[](no-such-page.md)": "no-such-page",
        "{py:func}`embedllm.nothing`": "embedllm.nothing",
        "```{figure-copy} three-squares\n```": "no notebook drew .* three-squares; there are: one-squares, two-sq",
        "![](notebooks/figures/one/one-squares.png)": "an image without alternative text",
    }
    (book.root / "book" / "index.md").write_text(INDEX + "".join(f"\n{text}\n" for text in faults))
    status, output, _ = book.build()
    assert status != 0
    for message in faults.values():
        assert re.search(f"(WARNING|ERROR).*{message}", output), output


def test_warnings_fail_the_next_build_too(book):
    (book.root / "book" / "index.md").write_text("# A small book\n\n[](no-such-page.md)\n")
    book.edit("embedllm/pictures.py", "'Pictures.'", "'Pictures of :func:`embedllm.nothing`.'")
    for _ in range(2):
        status, output, _ = book.build()
        assert status == 1
        assert "no-such-page" in output
        assert "embedllm.nothing" in output


def test_reference_shows_a_public_name_once_and_finds_it_by_its_full_name(clean_build):
    book = clean_build[0]
    assert len(re.findall('id="embedllm[^"]*CorrectnessMatrix"', book_html(book, "api"))) == 1
    assert 'href="api.html#embedllm.CorrectnessMatrix.save"' in book_html(book, "index")


def figures_of(book, page):
    return [attributes for name, attributes in book.tags(page) if name == "img" and "_images" in attributes["src"]]


def test_figure_is_described_and_has_its_size(clean_build):
    book = clean_build[0]
    for page, n_figures in (("notebooks/one", 1), ("notebooks/two", 1), ("index", 1), ("gallery", 2)):
        figures = figures_of(book, page)
        assert len(figures) == n_figures
        for figure in figures:
            assert figure["alt"] == "Squares of the first numbers. Headings: toy. Axes: number."
            assert 100 < int(figure["width"]) < 300
            assert 50 < int(figure["height"]) < 200


@pytest.mark.parametrize("page", ["notebooks/two", "index", "gallery"])
def test_figure_leads_to_its_function_its_code_its_script_and_its_data(clean_build, page):
    book = clean_build[0]
    links = re.search(r'<p class="figure-links">(.*?two-squares.*?)</p>', (book.html / f"{page}.html").read_text())[1]
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


def test_figures_follow_their_notebook(book):
    book.edit("notebooks/one.py", "[1, 4]", "[1, 9]")
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == {"one"}
    tables = [path.read_text() for path in (book.html / "_downloads").rglob("*-squares.csv")]
    assert sorted(table.splitlines()[-1] for table in tables) == ["2,4,toy", "2,9,toy"]


def test_figure_that_is_no_longer_drawn_leaves_the_gallery(book):
    book.edit("notebooks/one.py", "plot_squares(pd", "(pd")
    book.edit("book/index.md", "{ref}`the figure <one-squares>`", "the figure")
    status, output, _ = book.build()
    assert status == 0, output
    assert len(figures_of(book, "gallery")) == 1
    assert "Notebook one" not in re.search("<article.*</article>", book_html(book, "gallery"), re.DOTALL)[0]


def book_html(book, page):
    return (book.html / f"{page}.html").read_text()


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


@pytest.mark.parametrize(
    ("environment", "branch", "launched"),
    [
        ({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REF_NAME": ""}, "main", True),
        # A pull request: what it will be merged into has the files for good.
        (
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REF_NAME": "7/merge", "GITHUB_BASE_REF": "dev"},
            "dev",
            True,
        ),
        # Binder and Colab know no other host.
        ({"GITHUB_SERVER_URL": "https://git.example.org", "GITHUB_REF_NAME": "dev"}, "dev", False),
    ],
)
def test_branch_and_launch_buttons(environment, branch, launched):
    options = theme_options({"GITHUB_REPOSITORY": "someone/book", **environment})
    assert options["repository_branch"] == branch
    assert ("launch_buttons" in options) == launched


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


def test_missing_source_is_named(book):
    (book.root / "notebooks" / "two.py").unlink()
    status, output, executed = book.build()
    assert status != 0
    assert "notebooks/two.py does not exist, but _toc.yml lists that page" in output
    assert executed == set()


def test_missing_published_values_are_named(book):
    (book.root / "data" / "published.yml").unlink()
    status, output, _ = book.build()
    assert status != 0
    assert "data/published.yml, the list of published values, does not exist" in output


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            "- {key: a, figure: f, value: 1, where: w, seen_in: s, verified: true}",
            r"published.yml, entry 1 \(a\) lacks unit",
        ),
        (PUBLISHED.replace("where: paper", "where: paper, page 3", 1), r"entry 1 .* unknown keys \['page 3'\]: quote"),
        (PUBLISHED.replace("accuracy,", "MF accuracy,"), r"entry 1 \(MF accuracy\): a key is of letters"),
        (PUBLISHED.replace("key: questions", "key: accuracy"), r"entry 2 \(accuracy\): .* occurs once"),
        (PUBLISHED.replace("false", "perhaps"), "entry 1 .* verified is 'perhaps', not true or false"),
    ],
)
def test_malformed_published_value_is_named(tmp_path, entries, message):
    path = tmp_path / "published.yml"
    path.write_text(entries)
    with pytest.raises(ValueError, match=message):
        load_published(path)


def test_published_table_escapes_its_delimiter(tmp_path):
    path = tmp_path / "published.yml"
    path.write_text(PUBLISHED.replace("figure: accuracy", "figure: p|q"))
    table = published_table(load_published(path)).splitlines()
    assert table[0] == "| published | value | where | seen in |"
    assert table[2] == "| p&#124;q | 74.09 % (unverified) | paper | a summary |"


def test_missing_page_is_named_by_the_check(book):
    (book.html / "notebooks" / "two.html").unlink()
    run = subprocess.run(
        [sys.executable, "-m", "embedllm.book", "book/"], cwd=book.root, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.endswith("lacks pages that _toc.yml lists: notebooks/two\n")


def test_book_without_html_explains_itself(book):
    # What Jupyter Book 2 leaves.
    shutil.rmtree(book.html)
    assert re.search("has no page.*pip install 'jupyter-book>=1.0.4,<2'", check_pages(book.root / "book"))


def test_checkout_without_symbolic_links_explains_itself(book):
    (book.root / "book" / "_toc.yml").unlink()
    (book.root / "book" / "_toc.yml").write_text("../_toc.yml")
    assert "_toc.yml is no symbolic link" in check_pages(book.root / "book")


def test_toc_pages_are_those_of_the_book():
    pages = toc_pages(ROOT / "_toc.yml")
    assert pages[0] == "index"
    assert {"notebooks/dataset", "notebooks/forecasting", "notebooks/routing", "api"} <= set(pages)
