"""The Sphinx extension that makes ``jupyter-book build book/`` reproduce the paper, and a check of what it built.

The extension, listed in ``_config.yml``, executes the stale notebooks before Sphinx reads the pages, compares their
numbers with the recorded tolerances, offers the published figures of ``data/published.yml`` and the entries of
``CITATION.cff`` to the pages, and fails the build on any warning; :mod:`embedllm.book.gallery` and
:mod:`embedllm.book.repository` are parts of it. Afterwards ``python -m embedllm.book book/`` checks that every page of
``_toc.yml`` was written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from embedllm.book.citation import read_citations
from embedllm.book.contents import book_notebooks
from embedllm.book.execution import refresh
from embedllm.book.regression import check
from embedllm.protocol.published import load_published, published_values

# Sphinx is imported where it is needed: the check has to explain itself where Jupyter Book 1 is not installed.
if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # Shows all warnings and makes any of them fail the build, as -W --keep-going would.
    app.keep_going = True
    app.add_config_value("embedllm_parameters", {}, "", types=[dict])
    app.setup_extension("embedllm.book.gallery")
    app.setup_extension("embedllm.book.repository")
    app.connect("config-inited", define_substitutions)
    app.connect("builder-inited", refresh_notebooks)
    app.connect("env-get-outdated", every_document)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def refresh_notebooks(app: Sphinx) -> None:
    """Execute the stale notebooks and compare their numbers with the recorded tolerances.

    A failure is shown, that of a notebook on its page too, and fails the build; so does a number outside its tolerance.
    """
    from sphinx.errors import ConfigError
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    root, parameters = Path(app.srcdir).parent, app.config.embedllm_parameters
    names = book_notebooks(root)
    try:
        failed = refresh(root, names, parameters, say=logger.info)
        for name, error_text in failed.items():
            # An error counts as a warning, which makes the exit status non-zero.
            logger.error("notebooks/%s failed. %s", name, error_text)
        if not failed:
            passed, message = check(root, names, parameters)
            (logger.info if passed else logger.error)("regression check: %s", message)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error


def every_document(app: Sphinx, *_: Any) -> set[str]:
    """Read all pages again in each build.

    Sphinx does not know that a page glues numbers of a notebook, and a page that is not read does not repeat its
    warnings, so that a second build would pass where the first one failed.
    """
    return set(app.env.all_docs)


def skip_fields(app: Sphinx, what: str, name: str, member: object, *_: Any) -> bool | None:
    """Leave out the fields of named tuples, of which Python only says their number; the signature names them."""
    return True if type(member).__name__ == "_tuplegetter" else None


def define_substitutions(app: Sphinx, config: Config) -> None:
    """Define ``{{ citation }}``, ``{{ published_table }}`` and ``{{ published_<key> }}`` for each published figure."""
    from sphinx.errors import ConfigError

    root = Path(app.srcdir).parent
    try:
        figures = load_published(root / "data" / "published.yml")
        citations = read_citations(root / "CITATION.cff")
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    config.myst_substitutions = {
        **config.myst_substitutions,
        "published_table": published_table(figures),
        "citation": f"```bibtex\n{citations}\n```",
        **{f"published_{key}": value for key, value in published_values(figures).items()},
    }


def published_table(figures: pd.DataFrame) -> str:
    """Lay out the published figures as a Markdown table."""
    rows = [["figure", "value", "where", "seen in"], ["---"] * 4]
    for key, value in published_values(figures).items():
        row = figures.loc[key]
        rows.append([row["figure"], value, row["where"], row["seen_in"]])
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |" for cells in rows)
