"""How figures are handed out: drawn in one style, described in words and, where the book asks for it, kept as files.

Each function of :mod:`embedllm.plots` is decorated by `figure_of`. What it returns tells IPython its description, so
that an executed notebook carries it beside the image, as its alternative text; :mod:`embedllm.gallery` shows it.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

TARGET = "EMBEDLLM_FIGURES"
"""Environment variable that names the folder to write to."""

_P = ParamSpec("_P")

_kept: Counter[Path] = Counter()  # figures of a function that went to a folder


def figure_of(
    behind: Callable[..., pd.DataFrame] = lambda table, *_: table,
) -> Callable[[Callable[_P, Figure]], Callable[_P, Figure]]:
    """Decorate a function that draws a figure.

    The figure comes out in the companion's style, closed, so that a notebook shows it once, and described. Where the
    environment variable `EMBEDLLM_FIGURES` names a folder, it is also kept there as SVG, PDF and PNG, with its data as
    CSV, under the names of the folder and the function, and from the second of a process on a number.

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
            with plt.style.context(str(resources.files("embedllm").joinpath("companion.mplstyle"))):
                drawn = draw(*args, **kwargs)
                drawn.draw_without_rendering()  # the layout is part of the style
                title = _summary(draw)
                description = {
                    "title": title,
                    "alt": describe(title, drawn),
                    "function": f"{draw.__module__}.{draw.__name__}",
                }
                if target := os.environ.get(TARGET):
                    given = inspect.signature(draw).bind(*args, **kwargs)
                    name = draw.__name__.removeprefix("plot_").replace("_", "-")
                    description["name"] = _keep(drawn, title, behind(*given.args), Path(target), name)
            plt.close(drawn)
            _tell_ipython(drawn, description)
            return drawn

        return wrapper

    return decorate


def _summary(draw: Callable[..., Any]) -> str:
    return (inspect.getdoc(draw) or draw.__name__).splitlines()[0]


def describe(title: str, drawn: Figure) -> str:
    """Put a figure into words that hold whatever the data: what is drawn, then what is written on it.

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
    # Numbers begin anew with the process, so that a notebook that runs again replaces its files.
    _kept[folder / name] += 1
    number = _kept[folder / name]
    name = f"{folder.name}-{name}" + (f"-{number}" if number > 1 else "")
    # Without the time of its making, the same figure is the same file.
    for suffix, undated in {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}.items():
        drawn.savefig(folder / f"{name}.{suffix}", bbox_inches="tight", metadata={"Title": title, **undated})
    named = any(table.index.names)  # otherwise it numbers the rows
    table.to_csv(folder / f"{name}.csv", index=named, float_format="%.7g")
    return name


def _tell_ipython(drawn: Figure, description: dict[str, str]) -> None:
    """Put the description into the metadata of the image, where nbconvert, too, looks for an alternative text."""
    # The image itself comes from matplotlib's own hook, which knows only the class.
    drawn.__dict__["_repr_mimebundle_"] = functools.partial(_bundle, description)


def _bundle(
    description: dict[str, str], include: object = None, exclude: object = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"image/png": description}
