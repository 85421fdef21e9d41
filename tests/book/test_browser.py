"""The built book in a real browser: Debian's chromium, headless, over a server on this machine.

Needs chromium and a book (``make book``); without either the tests skip, except in CI, where they fail.
"""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from embedllm.book.contents import toc_pages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book" / "_build" / "html"
PAGES = toc_pages(ROOT / "_toc.yml")
PHONE = {"width": 390, "height": 844}
RESULTS = ("summary", "real_answers", "dataset", "forecasting", "routing", "benchmark_prediction", "communities")
RESULTS += ("contributions", "published_numbers", "prices", "portfolio", "selective_routing", "sensitivity")


@pytest.fixture(scope="module")
def site(serve, missing):
    """Address of the built book."""
    if not (BOOK / "index.html").is_file():
        missing("a built book: make book")
    with serve(BOOK) as address:
        yield address


@pytest.fixture
def visit(chromium, site):
    """Return the function that opens a page in a fresh profile, and the complaints that come up meanwhile."""
    complaints = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    # Whatever is asked of another host is noted, and not let out.
    tab.route(lambda url: not url.startswith(f"{site}/"), lambda route: (note(route.request.url), route.abort()))

    def note(url):
        complaints.append(f"external: {url}")

    def go(page):
        tab.goto(f"{site}/{page}.html", wait_until="networkidle")
        return tab, complaints

    yield go
    context.close()


@pytest.mark.parametrize("page", PAGES)
def test_page(visit, page):
    """It loads without a complaint, its images are described, its equations drawn, and it fits on a phone."""
    tab, complaints = visit(page)
    # Those that wait to be scrolled to are loaded now.
    tab.locator("article img").evaluate_all(
        "all => Promise.all(all.map(img => { img.loading = 'eager'; return img.decode(); }))"
    )
    images = tab.locator("article img").evaluate_all(
        """all => all.map(img => ({src: img.src.slice(-60), shown: img.naturalWidth > 0,
           alt: img.alt.trim() !== "" && !/[.](png|svg)$/.test(img.alt),  // a file name describes nothing
           sized: img.hasAttribute("width") && img.hasAttribute("height")
                  || img.style.width !== "" || img.style.aspectRatio !== ""}))"""
    )
    for image in images:
        lacking = [what for what in ("alt", "shown", "sized") if not image[what]]
        complaints += [f"image without {', '.join(lacking)}: {image['src']}"] if lacking else []
    equations = tab.locator(".math")
    drawn = tab.locator(".math:has(mjx-container)").count()
    if drawn < equations.count() or any("\\(" in text for text in equations.all_inner_texts()):
        complaints.append(f"{drawn} of {equations.count()} equations are drawn")
    tab.set_viewport_size(PHONE)
    if (width := tab.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
        complaints.append(f"{width} pixels wide on a phone of {PHONE['width']}")
    assert not complaints


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("page", ["index", *(f"notebooks/{name}" for name in ("summary", "routing", "explore"))])
def test_page_is_accessible(visit, page, mode):
    """Contrast, names of links and buttons, and what else axe checks of WCAG 2, levels A and AA."""
    tab, _ = visit(page)
    tab.emulate_media(color_scheme=mode)
    tab.reload(wait_until="networkidle")
    assert tab.locator("html").get_attribute("data-theme") == mode
    found = Axe().run(tab, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert not [(each["id"], node["html"][:200]) for each in found for node in each["nodes"]]


@pytest.mark.parametrize("page", RESULTS)
def test_page_of_results_is_short(visit, page):
    """Code and tables beside the story are folded, and no figure is higher than its message needs."""
    tab, _ = visit(f"notebooks/{page}")
    assert tab.evaluate("document.documentElement.scrollHeight") <= 5000


@pytest.mark.parametrize("page", [name for name in RESULTS if name != "summary"])
def test_figures_can_be_read_on_a_phone(visit, page):
    """None has to be scrolled, and what is written in them is 8 pixels high or more."""
    tab, _ = visit(f"notebooks/{page}")
    tab.set_viewport_size(PHONE)
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    boxes = tab.locator(".figure-box").evaluate_all(
        """all => all.map(box => ({id: box.id, scrolled: box.scrollWidth - box.clientWidth,
           scale: box.querySelector("img").clientWidth / box.querySelector("img").naturalWidth}))"""
    )
    smallest = 7.5 * 192 / 72  # pixels of a file: see tests/plots/test_every_figure.py
    assert boxes
    assert not [box for box in boxes if box["scrolled"] > 0 or smallest * box["scale"] < 8]


def test_search_finds_the_oracle(visit):
    tab, complaints = visit("search")
    tab.goto(tab.url + "?q=oracle")
    expect(tab.locator("#search-results li a[href*='routing']").first).to_be_visible()  # results come one by one
    assert not complaints


@pytest.fixture
def explore(visit):
    if "notebooks/explore" not in PAGES:
        pytest.skip("this book has no page to explore")
    tab, _ = visit("notebooks/explore")
    expect(tab.locator("#model-map svg")).to_be_visible()
    expect(tab.locator("#routes tbody tr")).not_to_have_count(0)
    return tab


@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desk"])
def test_map_is_filtered(explore, size):
    explore.set_viewport_size(size)
    points = explore.locator("#model-map .layer_1_marks path, #model-map [class*='layer_1'] path")
    everyone = points.count()
    assert everyone > 1
    name = points.first.get_attribute("aria-label")
    assert name and "model: " in name
    model = name.split("model: ")[1].split(";")[0]
    explore.locator("#model-map-filters input[type=search]").fill(model)
    expect(points).not_to_have_count(everyone)
    assert all(model in point.get_attribute("aria-label") for point in points.all())
    explore.locator("#model-map-filters input[type=search]").fill("")
    expect(points).to_have_count(everyone)


def test_models_are_searched(explore):
    rows = explore.locator("#models tbody tr")
    model = rows.nth(2).locator("td").first.inner_text()
    explore.locator("#models_wrapper input[type=search]").first.fill(model)
    expect(rows.first).to_contain_text(model)
    assert all(model in row for row in rows.all_inner_texts())


def test_routes_are_searched_filtered_and_sorted(explore):
    rows = explore.locator("#routes tbody tr")
    heads = explore.locator("#routes_wrapper thead th .dt-column-title").all_inner_texts()

    def choose(column, nth):
        """Choose a value from the list of a column, and return it."""
        explore.locator("#routes_wrapper thead th").nth(heads.index(column)).locator(".dtcc-button_dropdown").click()
        button = explore.locator(".dtcc-dropdown .dtcc-list-buttons button").nth(nth)
        value = button.inner_text()
        button.click()
        explore.keyboard.press("Escape")
        expect(rows.first.locator("td").nth(heads.index(column))).to_have_text(value)
        assert set(rows.locator(f"td:nth-child({heads.index(column) + 1})").all_inner_texts()) == {value}
        return value

    id_of_first = rows.first.locator("td").first.inner_text()[:40]
    search = explore.locator("#routes_wrapper input[type=search]").first
    search.fill(id_of_first)
    assert all(id_of_first in row for row in rows.all_inner_texts())
    search.fill("")
    # The questions of a benchmark on which the routers choose one model, or some number, and MF's choice is incorrect.
    assert choose("MF is", 1) == "incorrect"
    choose("benchmark", 0)
    choose("routers disagree", 0)
    # By what is predicted.
    predicted = heads.index("MF predicts")
    head = explore.locator("#routes_wrapper thead th").nth(predicted)
    head.locator(".dtcc-button_order").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    values = [float(text) for text in rows.locator(f"td:nth-child({predicted + 1})").all_inner_texts()]
    assert values == sorted(values)


def test_keyboard_alone_reaches_the_text_and_opens_what_is_folded(visit):
    tab, _ = visit("notebooks/routing")
    focused = "document.activeElement"
    tab.keyboard.press("Tab")
    assert "Skip to main content" in tab.evaluate(f"{focused}.textContent")
    tab.keyboard.press("Enter")
    for _ in range(30):
        tab.keyboard.press("Tab")
        assert tab.evaluate(f"getComputedStyle({focused}).outlineStyle") != "none"  # where the focus is can be seen
        if tab.evaluate(f"{focused}.tagName") == "SUMMARY":
            break
    assert not tab.evaluate(f"{focused}.parentElement.open")
    tab.keyboard.press("Enter")
    assert tab.evaluate(f"{focused}.parentElement.open")
