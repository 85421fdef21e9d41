"""What holds for every figure: described, kept with its data, drawn in its own style, inside its frame."""

import io
import pkgutil
from importlib import import_module

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from embedllm import plots
from embedllm.plots._style import TARGET

MODULES = [import_module(f"embedllm.plots.{module.name}") for module in pkgutil.iter_modules(plots.__path__)]
FIGURES = sorted({name for module in MODULES for name in dir(module) if name.startswith("plot_")})


@pytest.fixture(params=FIGURES)
def name(request):
    return request.param


@pytest.fixture
def source(name, pool):
    """What the data of the figure are."""
    return "random data" if name == "plot_growth" else pool.source


def test_is_described_and_kept_with_its_data(draw, name, source, tmp_path, monkeypatch):
    monkeypatch.setenv(TARGET, str(tmp_path / "page"))
    described = draw[name]()._repr_mimebundle_()[1]["image/png"]
    assert described["title"].endswith("."), "the docstring begins with a sentence of one line"
    assert described["alt"].startswith(described["title"])
    assert source in described["alt"]
    # What is drawn, and what the data are, so that simulated ones are known as such.
    table = pd.read_csv(tmp_path / "page" / f"{described['name']}.csv")
    assert len(table)
    assert table["data"].str.contains(source, regex=False).any()
    assert not [column for column in table if "Unnamed" in column], "name the index, if it is more than row numbers"


def test_is_closed_and_can_be_saved(draw, name):
    before = plt.get_fignums()
    figure = draw[name]()
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == before
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")


def test_style_does_not_leak(draw, name):
    before = dict(matplotlib.rcParams)
    draw[name]()
    assert dict(matplotlib.rcParams) == before


def test_does_not_depend_on_the_style_of_the_caller(draw, name):
    expected = draw[name]()
    with plt.style.context({"axes.labelsize": 40, "font.size": 30, "figure.dpi": 30}):
        figure = draw[name]()
    assert figure.axes[0].xaxis.label.get_size() == expected.axes[0].xaxis.label.get_size()


def test_says_what_is_drawn_from_which_data(draw, name, source):
    figure = draw[name]()
    first = figure.axes[0]  # its label may stand below the lowest of the panels that share the axis
    shared = first.get_shared_x_axes().get_siblings(first)
    assert any(axes.get_xlabel() for axes in shared) or figure.get_supxlabel()
    assert any(
        source in words
        for words in (
            figure.get_suptitle(),
            *(axes.get_title(at) for axes in figure.axes for at in ("left", "center", "right")),
        )
    )


def test_can_be_read_on_a_phone(draw, name):
    """On a screen of 390 pixels a figure is 336 wide or more, and what is written in it 8 high or more."""
    figure = draw[name]()
    around = 0.11  # inches, when it is saved
    per_inch = min(96, 336 / (figure.get_figwidth() + around))
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(sizes) / 72 * per_inch >= 8


def test_text_stays_inside_the_figure(draw, name):
    figure = draw[name]()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 > -0.05
    assert box.y0 > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05
