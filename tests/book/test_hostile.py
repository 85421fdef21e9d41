"""A book on data whose names would be commands, in a real browser: no script of theirs runs, and they are text."""

import shutil
from pathlib import Path

import pytest
from hostile import HOSTILE, with_hostile_names
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# The other notebooks show the same: figures, tables of pandas, and values in their prose.
NAMES = ["dataset", "explore", "routing"]
FOLDER = "own <img src=x onerror=alert(1)> $\\frac{$ 模型 \x1b[2J {{braces}}"


@pytest.fixture(scope="module")
def matrix(make_matrix):
    return with_hostile_names(make_matrix(n_questions=60), 0)


@pytest.fixture(scope="module")
def hostile_book(matrix, new_book, write_long_form):
    book = new_book()
    shutil.rmtree(book.root / "notebooks")
    (book.root / "notebooks").mkdir()
    for name in NAMES:
        shutil.copy(ROOT / "notebooks" / f"{name}.py", book.root / "notebooks")
    shutil.copytree(ROOT / "data", book.root / "data", dirs_exist_ok=True)
    write_long_form(book.root / FOLDER, matrix)
    pages = "".join(f"  - file: {name}\n" for name in (*(f"notebooks/{name}" for name in NAMES), "gallery"))
    for folder in (book.root, book.root / "book"):
        (folder / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{pages}")
    (book.root / "book" / "index.md").write_text("# A book\n")
    (book.root / "book" / "api.md").unlink()
    # Links to the pages that are not there are complaints.
    _, output, executed = book.build(EMBEDLLM_DATASET=FOLDER, OMP_NUM_THREADS="1")
    assert executed == set(NAMES) and "FAILED" not in output, output
    return book


@pytest.fixture
def visit(chromium, serve, hostile_book):
    """Return the function that opens a page; no dialog may come up, and nothing else that a name asks for."""
    complaints = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    tab.on("response", lambda answer: complaints.append(f"{answer.status} {answer.url}") if not answer.ok else None)
    with serve(hostile_book.html) as address:

        def go(page):
            tab.goto(f"{address}/{page}.html", wait_until="networkidle")
            return tab

        yield go
        assert not complaints
    context.close()


@pytest.mark.parametrize("page", [*(f"notebooks/{name}" for name in NAMES), "gallery"])
def test_names_are_text(visit, page):
    tab = visit(page)
    assert tab.locator("[onerror], article script:not([type]):has-text('alert(1)')").count() == 0
    assert tab.locator("mjx-container").count() == tab.locator(".math mjx-container").count()
    if page == "gallery":
        assert any(FOLDER[:30] in (image.get_attribute("alt") or "") for image in tab.locator("article img").all())
    else:
        tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        text = tab.locator("article").inner_text()
        for each in ("own <img src=x onerror=alert(1)> $\\frac{$ 模型", *HOSTILE[:2]):
            assert each in text


def test_views_in_the_browser(visit, matrix):
    """What the scripts of the views write: tooltips, the labels of points, lists to choose from."""
    tab = visit("notebooks/explore")
    points = tab.locator("#model-map .layer_1_marks path, #model-map [class*='layer_1'] path")
    expect(points).to_have_count(matrix.n_models)
    labels = "".join(point.get_attribute("aria-label") for point in points.all())
    for name in HOSTILE[:3]:
        assert name in labels
    tooltip, shown = tab.locator("#vg-tooltip-element"), ""
    for point in points.all():
        point.hover(force=True)
        tab.wait_for_timeout(200)
        shown += tooltip.inner_text()  # a point below another one has none
    assert "<img src=x onerror=alert(1)>" in shown
    rows = tab.locator("#routes tbody tr")
    expect(rows).not_to_have_count(0)
    prompts = "".join(rows.locator("td:first-child").all_inner_texts())
    assert any(f": {each}" in prompts for each in HOSTILE)
    for head in tab.locator("#routes_wrapper thead th .dtcc-button_dropdown").all():
        head.click()
        expect(tab.locator(".dtcc-dropdown")).to_be_visible()
        tab.keyboard.press("Escape")
    tab.locator("#routes_wrapper input[type=search]").first.fill(HOSTILE[1])
    expect(rows).not_to_have_count(0)
