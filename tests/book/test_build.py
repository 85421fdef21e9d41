"""`jupyter-book build book/`, as typed, on a small repository: what it executes, and when it fails."""

import re
import shutil
import subprocess
import sys

import pytest

from embedllm.book.contents import check_pages
from embedllm.book.regression import record

pytestmark = pytest.mark.slow


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
    book.edit("embedllm/datasets/formats/lm_eval.py", '"""', '""" ')
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
    record(book.root, {"dataset": "simulated", "seed": 0})
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
    index = book.root / "book" / "index.md"
    index.write_text(index.read_text() + "".join(f"\n{text}\n" for text in faults))
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
    assert len(book.figures("gallery")) == 1
    assert "Notebook one" not in re.search("<article.*</article>", book.markup("gallery"), re.DOTALL)[0]


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


@pytest.mark.parametrize("name", ["_config.yml", "_toc.yml"])
def test_copy_that_differs_is_refused(book, name):
    path = book.root / name
    path.write_text(path.read_text() + "# edited\n")
    status, output, executed = book.build()
    assert status
    assert f"book/{name} is not a copy of {name}: edit that one, then cp _config.yml _toc.yml book/" in output
    assert not executed
