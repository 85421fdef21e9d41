"""`jupyter-book build book/`, as typed, on a small repository laid out like this one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedllm.book import check_pages, published_table, toc_pages
from embedllm.published import load_published
from embedllm.regression import record

ROOT = Path(__file__).parents[1]

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
from embedllm.parameters import check_parameters

check_parameters()

# %%
from pathlib import Path

from embedllm.constants import BASE
from embedllm.headlines import Headline, publish

publish([Headline("{name}_answer", "the answer", [BASE + seed + float(Path("data/offset.txt").read_text())])], "toy")
print("{name} is complete")
"""

INDEX = """\
# A small book

One notebook says {glue:text}`notebooks/one.ipynb::one_answer:.1f`, the other
{glue:text}`notebooks/two.ipynb::two_answer:.1f`. The paper says {{ published_accuracy }} of {{ published_questions }}.

{{ published_table }}
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
        # The extension is a copy as well, so that nothing is found through the place of the real one.
        for name in ("book", "execution", "parameters"):
            shutil.copy(ROOT / "embedllm" / f"{name}.py", root / "embedllm")
        (root / "embedllm" / "__init__.py").touch()
        (root / "embedllm" / "constants.py").write_text("BASE = 30\n")
        (root / "data" / "offset.txt").write_text("2")
        (root / "data" / "published.yml").write_text(PUBLISHED)
        pages = "".join(f"  - file: notebooks/{name}\n" for name in ("one", "two"))
        (root / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{pages}")
        for name in ("_config.yml", "_toc.yml"):
            (root / "book" / name).symlink_to(f"../{name}")
        (root / "book" / "index.md").write_text(INDEX)
        for name in ("one", "two"):
            (root / "notebooks" / f"{name}.py").write_text(NOTEBOOK.format(name=name))
        return cls(root)

    def build(self):
        """Return the exit status, all that was printed, and the names of the notebooks that were executed."""
        run = subprocess.run(
            [Path(sys.executable).with_name("jupyter-book"), "build", "book/"],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root)},
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


def test_published_figures_are_shown(clean_build):
    text = clean_build[0].text("index")
    assert "The paper says 74.09 % (unverified) of 36,054." in text
    assert "number of questions" in text


def test_pages_name_no_path_of_this_machine(clean_build):
    book = clean_build[0]
    for path in book.html.rglob("notebooks/*"):
        assert str(book.root) not in path.read_text()


def test_unchanged_book_executes_nothing(book):
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == set()
    assert output.count(": unchanged") == 2


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
    ("path", "old", "new"),
    [("embedllm/constants.py", "30", "40"), ("data/offset.txt", "2", "12")],
    ids=["package", "data"],
)
def test_changing_an_input_changes_the_numbers(book, path, old, new):
    book.edit(path, old, new)
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == {"one", "two"}
    assert "One notebook says 42.0, the other\n42.0." in book.text("index")


def test_number_that_leaves_its_band_fails_every_build_and_is_named(book):
    record(book.root, ["one", "two"], {"dataset": "simulated", "seed": 0})
    status, output, executed = book.build()
    assert status == 0, output
    assert executed == set()
    assert "all 2 numbers are within the bands of data/expected/simulated.json" in output
    book.edit("embedllm/constants.py", "30", "31")
    for expected in ({"one", "two"}, set()):
        status, output, executed = book.build()
        assert status != 0
        assert executed == expected
        assert "2 of 2 numbers left the bands of data/expected/simulated.json" in output
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{glue:text}`notebooks/one.ipynb::no_such_key:.1f`", "no_such_key"),
        ("{{ published_nothing }}", "published_nothing"),
        ("[](no-such-page.md)", "no-such-page"),
        ("{py:func}`embedllm.nothing`", "embedllm.nothing"),
    ],
    ids=["glue", "published", "link", "api"],
)
def test_warning_fails_the_build(book, text, message):
    (book.root / "book" / "index.md").write_text(f"{INDEX}\n{text}\n")
    status, output, _ = book.build()
    assert status != 0
    assert re.search(f"(WARNING|ERROR).*{message}", output), output


def test_warning_fails_the_next_build_too(book):
    (book.root / "book" / "index.md").write_text("# A small book\n\n[](no-such-page.md)\n")
    assert [book.build()[0] for _ in range(2)] == [1, 1]


def test_missing_source_is_named(book):
    (book.root / "notebooks" / "two.py").unlink()
    status, output, executed = book.build()
    assert status != 0
    assert "notebooks/two.py does not exist, but _toc.yml lists that page" in output
    assert executed == set()


def test_missing_published_figures_are_named(book):
    (book.root / "data" / "published.yml").unlink()
    status, output, _ = book.build()
    assert status != 0
    assert "data/published.yml, the list of published figures, does not exist" in output


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
def test_malformed_published_figure_is_named(tmp_path, entries, message):
    path = tmp_path / "published.yml"
    path.write_text(entries)
    with pytest.raises(ValueError, match=message):
        load_published(path)


def test_published_table_escapes_its_delimiter(tmp_path):
    path = tmp_path / "published.yml"
    path.write_text(PUBLISHED.replace("figure: accuracy", "figure: p|q"))
    table = published_table(load_published(path)).splitlines()
    assert table[0] == "| figure | value | where | seen in |"
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
