"""A small repository laid out like this one, and its book."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

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
            shutil.copy(root / name, root / "book")
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

    def markup(self, page):
        return (self.html / f"{page}.html").read_text()

    def text(self, page):
        """Return the text of a page without its markup."""
        return re.sub(r"<[^>]*>", "", self.markup(page))

    def tags(self, page):
        """Return the names and attributes of the elements of a page."""
        tags = []
        parser = HTMLParser()
        parser.handle_starttag = lambda name, attributes: tags.append((name, dict(attributes)))
        parser.feed(self.markup(page))
        return tags

    def figures(self, page):
        """Return the attributes of the figures of a page."""
        return [attributes for name, attributes in self.tags(page) if name == "img" and "_images" in attributes["src"]]

    def pages(self):
        """Return the names of all pages, also of those that Sphinx adds."""
        return [path.relative_to(self.html).with_suffix("").as_posix() for path in self.html.rglob("*.html")]


@pytest.fixture(scope="session")
def new_book(tmp_path_factory):
    """Return the function that makes a repository that was not built yet."""
    return lambda: Book.create(tmp_path_factory.mktemp("book") / "repository")


@pytest.fixture(scope="session")
def clean_build(new_book):
    book = new_book()
    return book, *book.build()


@pytest.fixture
def book(clean_build, tmp_path):
    """A copy of a book that was just built: by content, nothing in it is stale."""
    return Book(shutil.copytree(clean_build[0].root, tmp_path / "repository", symlinks=True))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def serve():
    """Return the context in which a folder is served, which gives its address."""

    @contextmanager
    def served(folder):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    return served


@pytest.fixture(scope="session")
def missing():
    """Return what to do where something is not there: skip the test, or, in CI, fail."""
    return lambda what: (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {what}")


@pytest.fixture(scope="module")
def chromium(missing):
    """One browser for all tests of a module."""
    if (path := shutil.which("chromium")) is None:
        missing("chromium: apt-get install --no-install-recommends chromium")
    with sync_playwright() as driver:
        # Root, as in a container, has no sandbox.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()
