"""What all figures share: one style, a description in words and, where the book asks for it, files.

Each function of :mod:`embedllm.plots` that draws a figure is decorated by `figure_of`. The figure tells IPython its
description, so that an executed notebook holds it beside the image, as its alternative text;
:mod:`embedllm.book.gallery` shows it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, PercentFormatter

from embedllm._support.checks import printable

TARGET = "EMBEDLLM_FIGURES"
"""Environment variable that names the folder to write to."""

WIDTH = 4.2  # inches of every figure: see the file of the style

# By value: a colour named "C0" would be looked up when the figure is shown, outside its style.
PALETTE = sns.color_palette("colorblind").as_hex()
GREY = PALETTE[7]
COLORS = {
    "MF": PALETTE[0],
    "KNN": PALETTE[1],
    "benchmark mean": GREY,
    "best model per benchmark": GREY,
    "oracle": PALETTE[2],
    "best single model": PALETTE[3],
    "weighted random": PALETTE[4],
    "uniform random": PALETTE[5],
    "MF, first run": "#7fb8d8",  # as MF, lighter
    "SGD, first run": PALETTE[9],
    "model mean": "#444444",
    "ceiling": "black",
}
MARKERS = dict(zip(COLORS, "osDDv^PXopd*", strict=True))

# For letters that DejaVu Sans lacks, if installed; a letter that no font has is a box, and no warning on a page.
_FALLBACKS = {"Noto Sans CJK SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "Noto Sans"}
_STYLE: list[Any] = [
    str(resources.files("embedllm.plots").joinpath("companion.mplstyle")),
    {"text.parse_math": False, "font.family": ["DejaVu Sans", *sorted(_FALLBACKS & set(get_font_names()))]},
]
warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")

_P = ParamSpec("_P")

_kept: Counter[Path] = Counter()  # figures of a function that went to a folder


def figure_of(
    behind: Callable[..., pd.DataFrame] = lambda table, *_: table,
) -> Callable[[Callable[_P, Figure]], Callable[_P, Figure]]:
    """Decorate a function that draws a figure.

    The figure is drawn in the companion's style, closed, so that a notebook shows it once, and described. Where the
    environment variable `EMBEDLLM_FIGURES` names a folder, it is also written there as SVG, PDF and PNG, with its data
    as CSV, under the names of the folder and the function and, from the second figure of a process on, a number.

    Parameters
    ----------
    behind : callable
        Takes the arguments of the function, by position, and returns the table that it draws; the first by default.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
        @functools.wraps(draw)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
            with plt.style.context(_STYLE):
                drawn = draw(*args, **kwargs)
                _as_text(drawn)
                _break_lines(drawn)
                drawn.draw_without_rendering()  # the layout is part of the style
                drawn.set_layout_engine("none")  # and not computed again for each file
                title = (inspect.getdoc(draw) or draw.__name__).splitlines()[0]
                function = f"{draw.__module__}.{draw.__name__}"
                description = {"title": title, "alt": describe(title, drawn), "function": function}
                description["width"] = f"{96 * drawn.get_figwidth():.0f}"  # of a notebook's page, in pixels
                if target := os.environ.get(TARGET):
                    given = inspect.signature(draw).bind(*args, **kwargs)
                    name = draw.__name__.removeprefix("plot_").replace("_", "-")
                    description["name"] = _keep(drawn, title, behind(*given.args), Path(target), name)
            plt.close(drawn)
            drawn.__dict__["_repr_mimebundle_"] = functools.partial(_bundle, description)
            return drawn

        return wrapper

    return decorate


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _ticks(plain: Callable[[Any], list[str]], at: Any) -> list[str]:
    return list(map(_lines, plain(at)))


def _as_text(drawn: Figure) -> None:
    """Escape control characters in the texts of a figure, and write the powers on logarithmic axes as mathematics."""
    axes = [axis for each in drawn.axes for axis in (each.xaxis, each.yaxis)]
    for formatter in {axis.get_major_formatter() for axis in axes}:  # axes may share one
        # No lambda, so that a figure can be pickled.
        formatter.format_ticks = functools.partial(_ticks, formatter.format_ticks)  # type: ignore[method-assign]
    for text in drawn.findobj(Text):
        text.set_text(_lines(text.get_text()))
    for axis in axes:
        if isinstance(axis.get_major_formatter(), LogFormatter):
            plt.setp(axis.get_ticklabels(which="both"), parse_math=True)


def _break_lines(drawn: Figure) -> None:
    """Break the titles and labels that are longer than the figure; Matplotlib's `wrap` reads mathematics in them."""
    drawn.draw_without_rendering()
    for text in drawn.findobj(Text):
        upright = text.get_rotation() == 90
        box, end = text.get_window_extent(), drawn.bbox.height if upright else drawn.bbox.width
        low, high = box.intervaly if upright else box.intervalx
        if low < high and (low < 0 or high > end):
            room = end - low if text.get_horizontalalignment() == "left" else min(low + high, 2 * end - low - high)
            letters = max(1, int(0.95 * len(text.get_text()) * room / (high - low)))  # they differ in width
            text.set_text(_broken(text.get_text(), letters))


def _broken(text: str, letters: int) -> str:
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)


def describe(title: str, drawn: Figure) -> str:
    """Describe a figure in words that do not depend on the data: what is drawn, then the texts on it.

    Parameters
    ----------
    title : str
        What is drawn, as a sentence.
    drawn : Figure

    Returns
    -------
    str
        The title, the headings, the labels of the axes and the entries of the legends.
    """
    axes = [each for each in drawn.axes if each.get_visible()]
    legends = [*drawn.legends, *(legend for each in axes if (legend := each.get_legend()))]
    written = {
        "Headings": [drawn.get_suptitle(), *(each.get_title(place) for each in axes for place in ("left", "center"))],
        "Axes": [
            *(label for each in axes for label in (each.get_xlabel(), each.get_ylabel())),
            *(drawn.get_supxlabel(), drawn.get_supylabel()),
        ],
        "Legend": [text.get_text() for legend in legends for text in (legend.get_title(), *legend.get_texts())],
    }
    parts = [title]
    for what, texts in written.items():
        if distinct := dict.fromkeys(" ".join(text.split()) for text in texts if text):
            parts.append(f"{what}: {'; '.join(distinct)}.")
    return " ".join(parts)


def _keep(drawn: Figure, title: str, table: pd.DataFrame, folder: Path, name: str) -> str:
    """Write a figure and its data into a folder, and return the name of the files without suffix."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Numbers start again with the process, so that a notebook that runs again replaces its files.
    _kept[folder / name] += 1
    number = _kept[folder / name]
    name = f"{folder.name}-{name}" + (f"-{number}" if number > 1 else "")
    # Without a date, the same figure is the same file.
    for suffix, undated in {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}.items():
        drawn.savefig(folder / f"{name}.{suffix}", bbox_inches="tight", metadata={"Title": title, **undated})
    named = any(table.index.names)  # otherwise it numbers the rows
    table.to_csv(folder / f"{name}.csv", index=named, float_format="%.7g")
    return name


def _bundle(
    description: dict[str, str], include: object = None, exclude: object = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata for IPython: nbconvert also looks for an alternative text in the metadata of the image."""
    return {}, {"image/png": description}  # the image itself comes from matplotlib's hook, which knows only the class


def tag_colors(positions: pd.DataFrame) -> dict[str, str]:
    """Return colours of the specializations on a map of the models, the most frequent first, as many as there are."""
    counts = positions["specialization"].value_counts().drop("", errors="ignore")
    return {str(name): color for name, color in zip(counts.index, PALETTE[:7] + PALETTE[8:], strict=False)}


def log_sizes(axes: Axes, sizes: Iterable[int], label: str) -> None:
    """Make the horizontal axis logarithmic, with a tick at each size."""
    ticks = sorted(set(sizes))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks], rotation=90)
    axes.minorticks_off()
    axes.set_xlabel(label)


def marker_areas(billions: pd.Series) -> pd.Series:
    """Return areas of markers, in square points, that grow with the logarithm of the size; NaN is the smallest."""
    return 12 + 12 * np.log2(1 + billions.fillna(0).clip(lower=0))


def styles_of(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return `color` and `marker` of each method: the same in every figure, or some that no known method has."""
    colors = itertools.cycle(color for color in PALETTE if color not in COLORS.values())
    markers = itertools.cycle("<>*hH8")
    return {
        name: {"color": COLORS.get(name) or next(colors), "marker": MARKERS.get(name) or next(markers)}
        for name in methods
    }


def beside_row(axes: Axes, place: float, text: str, bold: bool = False) -> None:
    """Write a text to the right of the axes, at the height of a row."""
    at: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate(text, (1, place), (4, 0), va="center", fontsize=8, weight="bold" if bold else "normal", **at)


def value_rows(axes: Axes, labels: Sequence[str], values: pd.Series, colors: Sequence[str], form: str) -> None:
    """Make a row and a marker for each value, with the value at the right, written by a format such as "{:.1f}"."""
    label_rows(axes, labels)
    axes.scatter(values, range(len(values)), 50, color=colors, zorder=3)
    for place, value in enumerate(values):
        beside_row(axes, place, form.format(value))


def sources(table: pd.DataFrame) -> str:
    """Return what the data of a table are."""
    return ", ".join(pd.unique(table["data"]))


def head(figure: Figure, text: str) -> None:
    """Write a heading at the left of a figure of several panels."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)


_Place = Literal["outside upper center", "outside upper left", "outside lower center", "outside lower right"]


def legend(figure: Figure, axes: Axes, loc: _Place = "outside upper center") -> None:
    """Write what the axes show beside them, in as many columns as there is room for."""
    handles, labels = axes.get_legend_handles_labels()
    for ncols in range(len(labels), 0, -1):
        written = figure.legend(handles, labels, loc=loc, ncols=ncols, columnspacing=1, handletextpad=0.4)
        if ncols == 1 or written.get_window_extent().width <= figure.bbox.width:
            return
        written.remove()


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Make a row for each label, from the top; long ones get two lines, if they have no line break of their own."""
    shown = [_broken(label, 28) if len(label) > 28 and "\n" not in label else label for label in labels]
    axes.set_yticks(range(len(labels)), shown)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def label_benchmarks(axes: Axes, table: pd.DataFrame, count: str = "n_questions") -> list[str]:
    """Make a row for each benchmark of a table, labelled with its counts, and return the benchmarks from the top.

    Methods that ran on other divisions of the questions have other counts.
    """
    counts = table.groupby("benchmark", sort=False)[count].agg(["min", "max"]).round().astype(int)
    rows = [
        f"{least:,}" if least == most else f"{least:,} to {most:,}" for least, most in counts.itertuples(index=False)
    ]
    label_rows(axes, [f"{name} ({n})" for name, n in zip(counts.index, rows, strict=True)])
    return counts.index.tolist()


def by_benchmark(table: pd.DataFrame, method: str, label: str) -> Figure:
    """Draw one row for each benchmark and one marker for each method."""
    n_benchmarks, methods = table["benchmark"].nunique(), list(pd.unique(table[method]))
    figure, axes = plt.subplots(figsize=(WIDTH, max(0.28, 0.05 * len(methods)) * n_benchmarks + 1.4))
    benchmarks = label_benchmarks(axes, table)
    for offset, (name, style) in zip(offsets(len(methods)), styles_of(methods).items(), strict=True):
        rows = table[table[method] == name]
        places = [benchmarks.index(benchmark) + offset for benchmark in rows["benchmark"]]
        axes.plot(rows["accuracy"], places, linewidth=0, markersize=5, label=name, **style)
        error = {"fmt": "none", "ecolor": style["color"], "elinewidth": 0.8}
        axes.errorbar(rows["accuracy"], places, xerr=2 * rows["stderr"], **error)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, -0.02), min(right, 1.02))  # error bars of few questions reach beyond 0 and 1
    percent(axes.xaxis)
    axes.set(xlabel=label, ylabel="benchmark (test questions)", title=sources(table))
    legend(figure, axes)
    return figure


def percent(*axes: Axis) -> None:
    """Write shares on an axis as whole percentages."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def offsets(n: int) -> list[float]:
    """Return small vertical steps that keep the markers of one row apart."""
    return [min(0.15, 0.75 / n) * (i - (n - 1) / 2) for i in range(n)]
