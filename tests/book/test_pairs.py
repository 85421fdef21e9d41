"""A notebook and its script: whichever was edited, nothing that was written gets lost."""

import nbformat
import pytest

from embedllm.book.notebooks import Notebook

SCRIPT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# Trees.

# %% tags=["parameters"]
height: int = 3

# %%
height
"""


@pytest.fixture
def pair(tmp_path):
    """A pair that agrees."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.jupytext]\nnotebook_metadata_filter = "kernelspec,-jupytext"\ncell_metadata_filter = "tags,-all"\n'
    )
    notebook = Notebook(tmp_path, "trees")
    notebook.source.write_text(SCRIPT)
    assert notebook.sync() == "the ipynb was regenerated from its py"
    return notebook


def cells(pair):
    return nbformat.read(pair.ipynb, as_version=4).cells


def edit_ipynb(pair, position, source):
    notebook = nbformat.read(pair.ipynb, as_version=4)
    notebook.cells[position].source = source
    nbformat.write(notebook, pair.ipynb)


def edit_py(pair, old, new):
    assert old in pair.source.read_text()
    pair.source.write_text(pair.source.read_text().replace(old, new))


def test_pair_that_agrees_stays_as_it_is(pair):
    before = pair.source.read_bytes(), pair.ipynb.read_bytes()
    assert pair.sync() is None
    assert (pair.source.read_bytes(), pair.ipynb.read_bytes()) == before


def test_edit_of_the_script_reaches_the_notebook(pair):
    ids = [cell.id for cell in cells(pair)]
    edit_py(pair, "height: int = 3", "height: int = 4")
    assert pair.sync() == "the ipynb was regenerated from its py"
    assert cells(pair)[1].source == "height: int = 4"
    assert [cell.id for cell in cells(pair)] == ids
    assert pair.sync() is None


def test_edit_of_the_notebook_reaches_the_script(pair):
    edit_ipynb(pair, 2, "2 * height")
    assert pair.sync() == "the py was changed as its ipynb was"
    assert pair.source.read_text() == SCRIPT.replace("# %%\nheight", "# %%\n2 * height")
    assert cells(pair)[2].source == "2 * height"
    assert pair.sync() is None


def test_edits_take_turns(pair):
    edit_ipynb(pair, 2, "2 * height")
    pair.sync()
    edit_py(pair, "2 * height", "3 * height")
    assert pair.sync() == "the ipynb was regenerated from its py"
    edit_ipynb(pair, 2, "4 * height")
    assert pair.sync() == "the py was changed as its ipynb was"


def test_edits_of_both_are_refused(pair):
    edit_ipynb(pair, 2, "2 * height")
    edit_py(pair, "Trees", "Old trees")
    before = pair.source.read_bytes(), pair.ipynb.read_bytes()
    with pytest.raises(ValueError, match=r"trees\.py and trees\.ipynb differ.*--update notebooks/trees\.py`, or the"):
        pair.sync()
    assert (pair.source.read_bytes(), pair.ipynb.read_bytes()) == before


def test_same_edit_of_both_is_accepted(pair):
    """As Jupyter makes it where Jupytext is installed."""
    edit_ipynb(pair, 2, "2 * height")
    edit_py(pair, "# %%\nheight", "# %%\n2 * height")
    assert pair.sync() is None
    edit_py(pair, "2 * height", "3 * height")
    assert pair.sync() == "the ipynb was regenerated from its py"


def test_difference_of_unknown_origin_is_refused(pair):
    notebook = nbformat.read(pair.ipynb, as_version=4)
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
    nbformat.write(notebook, pair.ipynb)
    edit_py(pair, "Trees", "Old trees")
    with pytest.raises(ValueError, match="both may have been edited"):
        pair.sync()


def test_results_in_the_notebook_are_no_edit(pair):
    notebook = nbformat.read(pair.ipynb, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="3")]
    notebook.cells[2].metadata = {"collapsed": True}
    nbformat.write(notebook, pair.ipynb)
    assert pair.sync() is None
    assert pair.source.read_text() == SCRIPT


def test_changed_tag_is_an_edit(pair):
    notebook = nbformat.read(pair.ipynb, as_version=4)
    notebook.cells[2].metadata["tags"] = ["remove-input"]
    nbformat.write(notebook, pair.ipynb)
    assert pair.sync() == "the py was changed as its ipynb was"
    assert '# %% tags=["remove-input"]\nheight' in pair.source.read_text()
