"""What a page found, in words with its values: the box at its head and the paragraph at its end.

Both are outputs of cells, so that they read the same in the book and in a notebook that Papermill ran. The box is shown
at once, and filled when the page has its values.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from IPython.display import HTML, display
from markdown_it import MarkdownIt

from embedllm.protocol.reported_values import ReportedValue, quoted

SIMULATED = " Its models and answers are made up: nothing here is evidence about the paper."
WAITING = "<p>The values appear here when the notebook has run to its end.</p>"


class InShort:
    """The box at the head of a page, which :meth:`fill` completes.

    Parameters
    ----------
    text : str
        Markdown with the keys of reported values in braces, formatted as by `str.format`: ``{mf_accuracy:.2f}`` is a
        value, ``{mf_accuracy_low:+.1f}`` the lower end of its interval, ``{mf_accuracy_words}`` the value with unit and
        interval, or why the data set does not give it.

    Examples
    --------
    >>> box = InShort("MF predicts {mf:.1f} % of the answers correctly.")
    <IPython.core.display.HTML object>
    >>> box.fill([ReportedValue("mf", "accuracy of MF", [73.25], "%")])
    <IPython.core.display.HTML object>
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._shown = display(HTML(_box(WAITING)), display_id=True)

    def fill(self, reported_values: Iterable[ReportedValue], data: str = "", **more: str | float | list[str]) -> None:
        """Put the values into the box, wherever it stands.

        Parameters
        ----------
        reported_values : iterable of ReportedValue
        data : str
            `matrix.source`, which the box names first, and what simulated data show. Empty on a page that reads no data
            set of the build.
        **more : str, float or list of str
            Further values, such as a name, by their keys in the text.

        Raises
        ------
        ValueError
            If the text names a value that is not given.
        """
        about = f"<p><b>Data: {html.escape(data)}.</b>{SIMULATED if 'simulated' in data else ''}</p>" if data else ""
        content = HTML(_box(about + in_words(self._text, reported_values, **more)))
        if self._shown is None:  # outside a notebook
            display(content)
        else:
            self._shown.update(content)


def recap(text: str, reported_values: Iterable[ReportedValue], **more: str | float | list[str]) -> HTML:
    """Return the paragraph that ends a page; text and values as of `InShort`.

    Examples
    --------
    >>> tau = ReportedValue("tau", "median tau", [float("nan")], reason="it has one model")
    >>> recap("Median tau: {tau_words}.", [tau]).data
    '<div class="recap"><p>Median tau: not testable on this data set: it has one model.</p>\\n</div>'
    """
    return HTML(f'<div class="recap">{in_words(text, reported_values, **more)}</div>')


def in_words(text: str, reported_values: Iterable[ReportedValue], **more: str | float | list[str]) -> str:
    """Put values into Markdown and return it as HTML. A value that is text stays text, whatever signs it has."""
    values: Mapping[str, Any] = quoted(reported_values) | more
    try:
        filled = text.format_map({key: _literal(value) for key, value in values.items()})
    except KeyError as error:
        known = ", ".join(sorted(values))
        raise ValueError(f"the text names {error}, which is no reported value: name one of {known}") from None
    shown = MarkdownIt("commonmark", {"html": False}).enable("table").render(filled)
    return shown.replace("<table>", '<table class="table">')  # as the book styles those of Markdown cells


def _literal(value: str | float | list[str]) -> str | float:
    """Escape what Markdown would take for its own; several texts become a list."""
    if isinstance(value, list):
        return "".join(f"\n- {_literal(each)}" for each in value)
    return re.sub(r"([^\w\s]|_)", r"\\\1", value, flags=re.ASCII) if isinstance(value, str) else value


def _box(content: str) -> str:
    return f'<div class="admonition tip"><p class="admonition-title"><b>In short</b></p>{content}</div>'
