"""What a reader of the built book must be told on each page of results.

Needs a book (``make book``); without one the tests skip, except in CI, where they fail.
"""

import html
import os
import re
from pathlib import Path

import pytest

from embedllm.book.contents import book_notebooks
from embedllm.studies.summary import CLAIMS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book" / "_build" / "html" / "notebooks"
PAGES = sorted(set(book_notebooks(ROOT)) - {"from_formula_to_code"})

VERDICTS = r"\b(holds|contradicted|agrees|differs|undecided)\b"


def markup(page):
    if not (path := BOOK / f"{page}.html").is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs a built book: make book")
    return re.search("<article.*</article>", path.read_text(encoding="utf-8"), re.DOTALL)[0]


def text(page):
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", markup(page))))


@pytest.mark.parametrize("page", PAGES)
def test_page_names_its_place_in_the_paper(page):
    """A figure, a table or a section of the paper, or that the page is ours."""
    assert re.search(r"In the paper: *((Figure|Table|Section) \d|all figures|nothing, the page is ours)", text(page))


@pytest.mark.parametrize("page", PAGES)
def test_page_says_what_is_published(page):
    """The published value, or that there is none."""
    assert re.search(r"Published: *\S", text(page))


@pytest.mark.parametrize("page", ["summary", "real_answers"])
def test_no_verdict_on_the_paper_from_simulated_data(page):
    cells = re.findall(r'<td data-head="([^"]*)">(.*?)</td>', markup(page), re.DOTALL)
    assert len(cells) > len(CLAIMS)
    simulated = [content for head, content in cells if "simulated" in head]
    assert not [content for content in simulated if re.search(VERDICTS, re.sub("<[^>]*>", " ", content))]


@pytest.mark.parametrize("page", sorted({claim.page for claim in CLAIMS}))
def test_pages_of_results_pass_no_verdict(page):
    """The summary does, by its rules."""
    assert not re.search(r"<em>[^<]*(contradicted|undecided)|\b(confirms|refutes) the paper", markup(page))
