"""The pages of the book, as ``_toc.yml`` lists them, and a check that each of them was written."""

from __future__ import annotations

from pathlib import Path


def book_notebooks(root: Path) -> list[str]:
    """Return the names of the notebooks of the book, in reading order."""
    prefix = "notebooks/"
    return [page.removeprefix(prefix) for page in toc_pages(root / "_toc.yml") if page.startswith(prefix)]


def toc_pages(path: Path) -> list[str]:
    """Return the pages of a table of contents, without suffix, in reading order."""
    from sphinx_external_toc.parsing import parse_toc_yaml  # of Jupyter Book 1, without which a check explains itself

    return list(parse_toc_yaml(path))


def check_pages(book: Path) -> str | None:
    """Compare the HTML of a book with its table of contents.

    Parameters
    ----------
    book : Path
        The folder that was given to ``jupyter-book build``.

    Returns
    -------
    str or None
        What is wrong and what to do, or None.
    """
    html = book / "_build" / "html"
    if not any(html.rglob("*.html")):
        remedy = (
            "Jupyter Book 2 ignores _config.yml and writes no HTML: pip install 'jupyter-book>=1.0.4,<2', build again"
        )
        return f"{html} has no page. {remedy}"
    missing = [page for page in toc_pages(book / "_toc.yml") if not (html / f"{page}.html").is_file()]
    return f"{html} lacks pages that _toc.yml lists: {', '.join(missing)}" if missing else None
