"""What a figure says of itself, and the files that it leaves."""

import pickle

import matplotlib

matplotlib.use("Agg")  # before pyplot looks for a screen

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from embedllm.plots import _style as figures
from embedllm.plots._style import TARGET, figure_of, label_benchmarks, legend, styles_of


@figure_of()
def plot_heights(table, unit="cm"):
    """Height of each tree, tallest first.

    More that a reader of the figure need not know.
    """
    figure, (left, right) = plt.subplots(1, 2)
    left.plot(table["height"], label="oaks")
    left.set(xlabel="tree", ylabel=f"height\n({unit})", title=table["data"].iat[0])
    left.legend(title="kind")
    right.set(ylabel="height (cm)")
    right.set_title("elsewhere", loc="left")
    hidden = figure.add_subplot(label="hidden", visible=False)
    hidden.set_xlabel("never seen")
    return figure


@figure_of(lambda heights, unit: heights.rename_axis("tree").to_frame(unit))
def plot_by_name(heights, unit):
    """Height of each tree."""
    return plt.figure()


@pytest.fixture
def trees():
    return pd.DataFrame({"height": [300.0, 1 / 3], "data": "simulated trees"})


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder where figures are kept."""
    monkeypatch.setenv(TARGET, str(tmp_path / "wood"))
    return tmp_path / "wood"


def description(figure):
    return figure._repr_mimebundle_()[1]["image/png"]


def test_says_what_is_written_on_it(trees):
    assert description(plot_heights(trees)) == {
        "title": "Height of each tree, tallest first.",
        "alt": "Height of each tree, tallest first. Headings: simulated trees; elsewhere. "
        "Axes: tree; height (cm). Legend: kind; oaks.",
        "function": f"{__name__}.plot_heights",
        "width": "403",
    }


def test_figure_without_words_has_its_title(trees):
    assert description(plot_by_name(trees["height"], "cm"))["alt"] == "Height of each tree."


def test_ipython_puts_it_beside_the_image(trees):
    formatter = DisplayFormatter()
    # As matplotlib does it in a notebook: for the class, not knowing of the description.
    formatter.formatters["image/png"].for_type(plt.Figure, lambda figure: b"an image")
    data, metadata = formatter.format(plot_heights(trees))
    assert data["image/png"] == b"an image"
    assert metadata["image/png"]["alt"].startswith("Height of each tree")


def test_nothing_is_kept_unless_it_is_asked_for(trees, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TARGET, raising=False)
    assert "name" not in description(plot_heights(trees))
    assert list(tmp_path.iterdir()) == []


def test_is_kept_with_its_data(trees, kept):
    assert description(plot_heights(trees))["name"] == "wood-heights"
    assert {path.name for path in kept.iterdir()} == {f"wood-heights.{each}" for each in ("csv", "pdf", "png", "svg")}
    assert (kept / "wood-heights.csv").read_text() == "height,data\n300,simulated trees\n0.3333333,simulated trees\n"
    assert b"<svg" in (kept / "wood-heights.svg").read_bytes()
    assert (kept / "wood-heights.pdf").read_bytes().startswith(b"%PDF")
    assert (kept / "wood-heights.png").read_bytes().startswith(b"\x89PNG")


def test_table_behind_takes_the_arguments_however_they_were_given(trees, kept):
    for call in (lambda: plot_by_name(trees["height"], "cm"), lambda: plot_by_name(unit="cm", heights=trees["height"])):
        name = description(call())["name"]
        assert (kept / f"{name}.csv").read_text().splitlines()[:2] == ["tree,cm", "0,300"]


def test_figures_of_one_function_are_numbered(trees, kept):
    names = [description(plot_heights(trees))["name"] for _ in range(3)]
    assert names == ["wood-heights", "wood-heights-2", "wood-heights-3"]


def test_next_process_replaces_the_files(trees, kept, monkeypatch):
    plot_heights(trees)
    monkeypatch.setattr(figures, "_kept", type(figures._kept)())
    assert description(plot_heights(trees.head(1)))["name"] == "wood-heights"
    assert len((kept / "wood-heights.csv").read_text().splitlines()) == 2
    assert len(list(kept.iterdir())) == 4


def test_folder_that_is_named_by_its_place(trees, tmp_path, monkeypatch):
    (tmp_path / "wood").mkdir()
    monkeypatch.chdir(tmp_path / "wood")
    monkeypatch.setenv(TARGET, ".")
    assert description(plot_heights(trees))["name"] == "wood-heights"


def test_survives_pickling(trees):
    assert description(pickle.loads(pickle.dumps(plot_heights(trees))))["title"].startswith("Height")


def test_same_figure_is_the_same_files(trees, kept):
    for _ in range(2):
        plot_heights(trees)
    for suffix in ("csv", "pdf", "png", "svg"):
        assert (kept / f"wood-heights.{suffix}").read_bytes() == (kept / f"wood-heights-2.{suffix}").read_bytes()


def test_unknown_methods_have_colours_and_markers_of_their_own():
    styles = styles_of(["mine", "MF", "KNN", "other"])
    assert styles["MF"] == styles_of(["MF"])["MF"]
    assert styles["mine"] == styles_of(["mine", "MF"])["mine"]
    for part in ("color", "marker"):
        assert len({style[part] for style in styles.values()}) == 4
    assert len(styles_of(map(str, range(30)))) == 30  # more than there are colours and markers


def test_rows_say_how_many_questions_each_method_had():
    table = pd.DataFrame({"benchmark": ["b", "b", "a", "a"], "n_questions": [90, 82.6, 1200.0, 1200]})
    axes = plt.figure().subplots()
    assert label_benchmarks(axes, table) == ["b", "a"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b (83 to 90)", "a (1,200)"]


@pytest.mark.parametrize("kind", ["title", "xlabel", "ylabel"])
def test_long_texts_are_broken_and_stay_inside(kind):
    words = "costs $5 or $6 of some length " * 5

    @figure_of(lambda: pd.DataFrame())
    def plot_nothing():
        """Nothing."""
        figure, axes = plt.subplots()
        axes.set(**{kind: words})
        return figure

    figure = plot_nothing()
    (axes,) = figure.axes
    text = axes.get_title("left") if kind == "title" else getattr(axes, f"get_{kind}")()
    assert "\n" in text and text.split() == words.split()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.05 and box.x1 < width + 0.05 and box.y1 < height + 0.05


@pytest.mark.parametrize(("letters", "columns"), [(2, 4), (30, 1)])
def test_legend_has_the_columns_that_fit(letters, columns):
    figure, axes = plt.subplots(figsize=(4, 3))
    for name in "abcd":
        axes.plot([0], [0], label=name * letters)
    legend(figure, axes)
    plt.close(figure)
    (written,) = figure.legends
    assert written._ncols == columns
    assert written.get_window_extent().width <= figure.bbox.width
