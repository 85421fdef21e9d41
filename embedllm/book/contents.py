"""The pages of the book, as ``_toc.yml`` lists them, and a check that each of them was written."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml


def book_notebooks(root: Path) -> list[str]:
    """Return the names of the notebooks of the book, in reading order."""
    prefix = "notebooks/"
    return [page.removeprefix(prefix) for page in toc_pages(root / "_toc.yml") if page.startswith(prefix)]


def toc_pages(path: Path) -> list[str]:
    """Return the pages of a table of contents, without suffix, in reading order."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield str(value).removesuffix(".md").removesuffix(".ipynb")
                else:
                    yield from walk(value)

    return list(walk(yaml.safe_load(path.read_text(encoding="utf-8"))))


def check_pages(book: Path) -> str | None:
    """Compare the HTML of a book with its table of contents.

    Parameters
    ----------
    book : Path
        The folder that was given to ``jupyter-book build``.

    Returns
    -------
    str or None
        What is wrong and how to put it right, or None.
    """
    for name in ("_config.yml", "_toc.yml"):
        if not (book / name).is_symlink():
            return f"{book / name} is no symbolic link to ../{name}: set git's core.symlinks and check it out again"
    html = book / "_build" / "html"
    if not any(html.rglob("*.html")):
        return (
            f"{html} has no page, and {_installed('jupyter-book')} is installed. Version 2 ignores _config.yml and "
            "writes no HTML: pip install 'jupyter-book>=1.0.4,<2', then build again."
        )
    missing = [page for page in toc_pages(book / "_toc.yml") if not (html / f"{page}.html").is_file()]
    return f"{html} lacks pages that _toc.yml lists: {', '.join(missing)}" if missing else None


def _installed(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"no {name}"
