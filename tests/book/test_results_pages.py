"""What a reader of the built book must be told on each page of results.

Needs a book (``make book``); without one the tests of its pages skip, except in CI, where they fail.
"""

import html
import os
import re
from pathlib import Path

import nbformat
import pytest

from embedllm.book.contents import book_notebooks
from embedllm.studies.summary import CLAIMS

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book" / "_build" / "html" / "notebooks"
PAGES = sorted(set(book_notebooks(ROOT)) - {"from_formula_to_code"})

VERDICTS = r"\b(holds|contradicted|agrees|differs|undecided)\b"
ABOUT_THE_PAPER = r"\b(paper|claims?|published)\b"


def markup(page):
    if not (path := BOOK / f"{page}.html").is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs a built book: make book")
    return re.search("<article.*</article>", path.read_text(encoding="utf-8"), re.DOTALL)[0]


def text_of(markup):
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", markup)))


def text(page):
    return text_of(markup(page))


def prose(markup):
    """A page without its code."""
    return re.sub(r"<(pre|script)\b.*?</\1>", " ", markup, flags=re.DOTALL)


def verdicts(markup):
    """The verdicts of a page: elements that begin with one, and sentences on the paper or a claim that have one."""
    elements = re.findall(rf"<(?:em|strong|td)\b[^>]*>(\s*{VERDICTS}[^<]*)</", prose(markup))
    sentences = re.split(r"(?<=[.;:?!]) ", text_of(prose(markup)))
    return [found for found, _ in elements] + [
        each for each in sentences if re.search(ABOUT_THE_PAPER, each) and re.search(VERDICTS, each)
    ]


@pytest.mark.parametrize(
    "planted",
    [
        "<p>MMLU gives most: <em>holds</em></p>",
        "<td>holds for 4 of 6</td>",
        "<strong>contradicted</strong>",
        "<p>On 112 models, the claim of the paper\n<span>holds</span> in all <code>six</code> cases.</p>",
        "<p>The gain is 2.1 points. This agrees with the published one.</p>",
        "<p>What the paper claims of GPQA is contradicted by these data.</p>",
    ],
)
def test_a_planted_verdict_is_found(planted):
    assert verdicts(f"<p>The paper has Figure 5.</p>{planted}<p>The checkpoint holds 112 vectors.</p>")


def test_what_is_no_verdict_is_not_found():
    assert not verdicts(
        "<p>The paper has Figure 5. The checkpoint holds 112 vectors; only the training differs.</p>"
        "<pre>the claim of the paper holds</pre><em>in the ground truth</em><td>a pair agrees on 79 %</td>"
    )


@pytest.fixture(params=book_notebooks(ROOT))
def cells(request):
    return nbformat.read(ROOT / "notebooks" / f"{request.param}.ipynb", as_version=4).cells


def test_notebook_has_no_markup_of_the_book(cells):
    """Papermill and Jupyter would show roles, directives and labels of MyST, such as `{term}`, as they are written."""
    for cell in cells:
        assert not re.findall(r"\{[a-z:]+\}`|^```+\{|^\(.*\)=$", cell.source, re.MULTILINE)
        assert "{glue" not in cell.source


def test_notebook_begins_with_what_it_found(cells):
    """A title, and a box that a later cell fills; the book shows neither's code."""
    title, box = cells[:2]
    assert title.source.startswith("# ")
    (fill,) = [cell for cell in cells if "in_short.fill(" in cell.source]
    assert "in_short = InShort(" in box.source
    assert box.metadata["tags"] == fill.metadata["tags"] == ["remove-input"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_names_its_place_in_the_paper(page):
    """A figure, a table or a section of the paper, or that the page is ours."""
    assert re.search(r"In the paper: *((Figure|Table|Section) \d|all figures|nothing, the page is ours)", text(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_says_what_is_published(page):
    """The published value, or that there is none."""
    assert re.search(r"Published: *\S", text(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_page_lead_somewhere(page):
    """Also those in the outputs of cells, which Sphinx does not look at."""
    found = markup(page)
    for address in re.findall('href="([^":]*)"', found):
        path, _, anchor = html.unescape(address).partition("#")
        target = (BOOK / path).read_text(encoding="utf-8") if path.endswith(".html") else found
        assert (BOOK / path).exists(), address
        assert not anchor or f'id="{anchor}"' in target, address


@pytest.mark.slow
@pytest.mark.parametrize("page", ["summary", "real_answers"])
def test_no_verdict_on_the_paper_from_simulated_data(page):
    cells = re.findall(r'<td data-head="([^"]*)">(.*?)</td>', markup(page), re.DOTALL)
    assert len(cells) > len(CLAIMS)
    simulated = [content for head, content in cells if "simulated" in head]
    assert not [content for content in simulated if re.search(VERDICTS, re.sub("<[^>]*>", " ", content))]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(set(PAGES) - {"summary", "real_answers"}))
def test_pages_of_results_pass_no_verdict(page):
    """The summary does, by its rules, and on real answers alone."""
    assert not verdicts(markup(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_data_set_cannot_give_is_said_in_words(page):
    assert not re.search(r"\bnan\b", text_of(prose(markup(page))))
