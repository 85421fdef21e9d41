"""The part of the Sphinx extension that leads to the repository: buttons to edit a page and to launch a notebook.

The address is known only where the book is built for it: from `GITHUB_SERVER_URL` and `GITHUB_REPOSITORY`, which GitHub
Actions sets. Without them there are no buttons.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is done to the theme's buttons."""
    app.connect("config-inited", offer_repository)
    app.connect("html-page-context", point_to_sources, priority=900)  # after the theme has made its buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def offer_repository(app: Sphinx, config: Config) -> None:
    """Switch the theme's buttons on, if the address of the repository is known."""
    config.html_theme_options = {**config.html_theme_options, **theme_options(os.environ)}


def theme_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of the theme that make the buttons; none if the address of the repository is not known.

    Parameters
    ----------
    environment : mapping
        Environment variables. The branch is the one that a pull request is to be merged into, which has its files for
        good, or the one that was built.
    """
    server, name = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if not (server and name):
        return {}
    options: dict[str, Any] = {
        "repository_provider": "github",
        "repository_url": f"{server}/{name}",
        "repository_branch": environment.get("GITHUB_BASE_REF") or environment.get("GITHUB_REF_NAME") or "main",
        "path_to_docs": "book",
        "use_repository_button": True,
        "use_edit_page_button": True,
    }
    if server == "https://github.com":  # Colab knows no other, and Binder might not reach one
        options["launch_buttons"] = {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        }
    return options


def point_to_sources(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Let the buttons of a notebook lead to its pair in the repository, which does not have its executed copy.

    One edits the script and launches the notebook.
    """
    buttons = context.get("header_buttons", [])
    if not page.startswith("notebooks/"):
        return
    for button in [*buttons, *(inner for group in buttons for inner in group.get("buttons", []))]:
        if "url" in button:
            suffix = "py" if button.get("label") == "source-edit-button" else "ipynb"
            button["url"] = button["url"].replace(f"book/{page}.ipynb", f"{page}.{suffix}")
