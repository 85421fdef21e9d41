"""The Sphinx extension that makes ``jupyter-book build book/`` reproduce the paper.

The extension, listed in ``_config.yml``, executes the stale notebooks before Sphinx reads the pages, compares their
values with the recorded tolerances, offers the published values of ``data/published.yml`` to the pages, and fails the
build on any warning. :mod:`embedllm.book.gallery`, :mod:`embedllm.book.reference` and :mod:`embedllm.book.repository`
are parts of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.util import logging

from embedllm.book.contents import book_notebooks
from embedllm.book.execution import refresh
from embedllm.book.notebooks import WORKERS
from embedllm.book.parameters import book_parameters
from embedllm.book.regression import check
from embedllm.protocol.published import load_published, published_values

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # Shows all warnings and makes any of them fail the build, as -W --keep-going would.
    app.keep_going = True
    app.parallel = 1 + WORKERS  # one process prepares the pages that the others write
    app.add_config_value("embedllm_parameters", {}, "", types=[dict])
    for part in ("gallery", "reference", "repository"):
        app.setup_extension(f"embedllm.book.{part}")
    app.connect("config-inited", allow_parallel)
    app.connect("config-inited", check_copies)
    app.connect("config-inited", define_substitutions)
    app.connect("builder-inited", refresh_notebooks)
    app.connect("doctree-read", fold_parameters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def allow_parallel(app: Sphinx, config: Config) -> None:
    """Declare the numbering of sections safe for parallel reading, since it runs after all pages are read."""
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True


def check_copies(app: Sphinx, config: Config) -> None:
    """Refuse a configuration or a table of contents other than that at the root, which the other commands read."""
    book = Path(app.srcdir)
    for name in ("_config.yml", "_toc.yml"):
        if (book / name).read_text(encoding="utf-8") != (book.parent / name).read_text(encoding="utf-8"):
            raise ConfigError(f"book/{name} is not a copy of {name}: edit that one, then cp _config.yml _toc.yml book/")


def refresh_notebooks(app: Sphinx) -> None:
    """Execute the stale notebooks and compare their values with the recorded tolerances.

    A failure is shown, that of a notebook on its page too, and fails the build; so does a value outside its tolerance.
    """
    root, parameters = Path(app.srcdir).parent, book_parameters(app.config.embedllm_parameters)
    names = book_notebooks(root)
    try:
        failed = refresh(root, names, parameters, say=LOGGER.info)
        for name, error_text in failed.items():
            # An error counts as a warning, which makes the exit status non-zero.
            LOGGER.error("notebooks/%s failed. %s", name, error_text)
        if not failed:
            passed, message = check(root, parameters)
            (LOGGER.info if passed else LOGGER.error)("regression check: %s", message)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error


def fold_parameters(app: Sphinx, doctree: nodes.document) -> None:
    """Fold the cell in which Papermill sets the parameters, as the cell that declares them is."""
    prompts = {f"prompt_{way}": app.config[f"nb_code_prompt_{way}"] for way in ("show", "hide")}
    for cell in doctree.findall(nodes.container):
        if "injected-parameters" in cell.get("cell_metadata", {}).get("tags", []):
            cell.attributes.update(hide_mode="input", **prompts)


def define_substitutions(app: Sphinx, config: Config) -> None:
    """Define ``{{ published_table }}`` and ``{{ published_<key> }}`` for each published value."""
    try:
        published = load_published(Path(app.srcdir).parent / "data" / "published.yml")
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    config.myst_substitutions = {
        **config.myst_substitutions,
        "published_table": published_table(published),
        **{f"published_{key}": value for key, value in published_values(published).items()},
    }


def published_table(published: pd.DataFrame) -> str:
    """Lay out the published values as a Markdown table."""
    rows = [["published", "value", "where", "seen in"], ["---"] * 4]
    for key, value in published_values(published).items():
        row = published.loc[key]
        rows.append([row["figure"], value, row["where"], row["seen_in"]])
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |" for cells in rows)
