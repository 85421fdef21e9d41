"""The part of the Sphinx extension that shows figures: what each is in words, who draws it, and its files.

A figure that a notebook drew by a function of :mod:`embedllm.plots` carries a description and its files (see
``embedllm/plots/_style.py``). On its page it gets an alternative text, an anchor of the name of its files, and a line
of links: to the function and its code, to the script of the notebook, to the figure as SVG and PDF and to its data as
CSV. Two directives show figures elsewhere: ``figure-copy`` one of them, ``figure-gallery`` all.

Every image of the book gets its width and height, so that pages do not jump while it loads; one without an alternative
text is a warning.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import imagesize
import nbformat
from docutils import nodes
from sphinx import addnodes
from sphinx.domains.std import StandardDomain
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from embedllm.book.contents import toc_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawn:
    """A figure of an executed notebook.

    Parameters
    ----------
    page : str
        The page of the notebook, such as "notebooks/routing".
    name : str
        Of its files, without suffix, and of its anchor on the page.
    title, alt : str
        What it shows, in a sentence and in full.
    function : str
        Full name of the function that draws it.
    width : str
        Pixels of a page of Jupyter.
    sha256 : str
        Of the image in the notebook.
    """

    page: str
    name: str
    title: str
    alt: str
    function: str
    width: str
    sha256: str

    def file(self, suffix: str) -> str:
        """Path of one of its files, from the folder of the book."""
        folder, notebook = self.page.rsplit("/", 1)
        return f"/{folder}/figures/{notebook}/{self.name}.{suffix}"


def drawn_figures(book: Path, page: str) -> list[Drawn]:
    """Return the figures of an executed notebook, in its order; those that no decorated function drew are left out.

    Parameters
    ----------
    book : Path
        Folder of the book.
    page : str
        The page of the notebook, without suffix.
    """
    found = []
    for cell in nbformat.read(book / f"{page}.ipynb", as_version=4).cells:
        for output in cell.get("outputs", []):
            described = output.get("metadata", {}).get("image/png", {})
            if "name" in described:
                image = base64.b64decode(output["data"]["image/png"])
                found.append(Drawn(page=page, sha256=hashlib.sha256(image).hexdigest(), **described))
    return found


def caption(drawn: Drawn, figures: Iterable[Drawn]) -> str:
    """Return the title of a figure and, if others have the same, what is written on it and not on them."""
    others = [re.split(r"[:;.] ?", other.alt) for other in figures if other.title == drawn.title and other != drawn]
    if not others:
        return drawn.title
    own = [text for text in re.split(r"[:;.] ?", drawn.alt) if text not in set().union(*others)]
    return f"{drawn.title.rstrip('.')}: {own[0]}." if own else drawn.title


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and what is done to images."""
    app.add_directive("figure-copy", FigureCopy)
    app.add_directive("figure-gallery", FigureGallery)
    app.add_node(nodes.image, override=True, html=(visit_image, depart_image))
    # Before Sphinx collects what the page downloads.
    app.connect("doctree-read", complete_images, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def complete_images(app: Sphinx, doctree: nodes.document) -> None:
    """Describe and measure the images of a page, and put under each figure of a notebook where it comes from."""
    page = app.env.docname
    notebook = Path(app.env.doc2path(page)).suffix == ".ipynb"
    known = {drawn.sha256: drawn for drawn in drawn_figures(Path(app.srcdir), page)} if notebook else {}
    for image in list(doctree.findall(nodes.image)):
        if "://" in image["uri"] or image["uri"].startswith("data:"):
            continue
        path = Path(app.env.relfn2path(image["uri"], page)[1])
        # MyST-NB names the images of a notebook by their content.
        if drawn := known.get(path.stem):
            image["alt"] = drawn.alt
            cast(StandardDomain, app.env.get_domain("std")).anonlabels[drawn.name] = (page, drawn.name)
            box = nodes.container("", classes=["figure-box"], ids=[drawn.name])
            image.replace_self([box, _links(app, drawn, page)])
            box += image
        if not image.get("alt", "").strip():
            remedy = "in a notebook, draw it by a function of embedllm.plots"
            LOGGER.warning("an image without alternative text: %s", remedy, location=image)
        (width, height), (dots, _) = imagesize.get(path), imagesize.getDPI(path)
        if width > 0:
            # At its size in inches, of 96 pixels, if it has one: figures have more dots, for screens that show them.
            per_dot = 96 / dots if dots > 0 else 1
            image["pixels"] = (round(width * per_dot), round(height * per_dot))


def _links(app: Sphinx, drawn: Drawn, page: str) -> nodes.paragraph:
    """The line under a figure."""
    module, _, function = drawn.function.rpartition(".")
    to_function = addnodes.pending_xref(
        "", nodes.literal("", function), refdomain="py", reftype="func", reftarget=drawn.function, refdoc=page
    )
    code = app.builder.get_relative_uri(page, f"_modules/{module.replace('.', '/')}")
    to_code = nodes.reference("", "code", internal=True, refuri=f"{code}#{function}")
    script = f"{drawn.page}.py"
    downloads = {Path(script).name: f"/../{script}", "SVG": drawn.file("svg"), "PDF": drawn.file("pdf")}
    downloads["data (CSV)"] = drawn.file("csv")
    line = nodes.paragraph("", "", to_function, nodes.Text(" ("), to_code, nodes.Text(")"), classes=["figure-links"])
    for text, target in downloads.items():
        line += nodes.Text(" · ")
        line += addnodes.download_reference("", "", nodes.inline("", text), reftarget=target, refdoc=page)
    return line


class _FigureDirective(SphinxDirective):
    def copies(self, drawn: Drawn, title: str, *classes: str) -> nodes.container:
        """An image, its title, which leads to the page of the figure, and the line under it."""
        app, page = self.env.app, self.env.docname
        there = f"{app.builder.get_relative_uri(page, drawn.page)}#{drawn.name}"
        image = nodes.image("", uri=drawn.file("png"), alt=drawn.alt, loading="lazy")
        linked = nodes.reference("", "", image, internal=True, refuri=there)
        titled = nodes.reference("", title, internal=True, refuri=there)
        box = nodes.container("", nodes.container("", linked, classes=["figure-box"]), classes=list(classes))
        box += [nodes.paragraph("", "", titled, classes=["figure-title"]), _links(app, drawn, page)]
        return box

    def all_drawn(self) -> Iterator[tuple[str, list[Drawn]]]:
        """The notebooks of the book that have figures, in reading order, with their figures."""
        book = Path(self.env.srcdir)
        for page in toc_pages(book / "_toc.yml"):
            if (book / f"{page}.ipynb").exists() and (figures := drawn_figures(book, page)):
                yield page, figures


class FigureCopy(_FigureDirective):
    """Show a figure of a notebook, named by its files, on another page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the figure."""
        by_name = {drawn.name: drawn for _, figures in self.all_drawn() for drawn in figures}
        name = self.arguments[0]
        if name not in by_name:
            raise self.error(f"no notebook drew a figure {name}; there are: {', '.join(by_name) or 'none'}")
        return [self.copies(by_name[name], by_name[name].title, "figure-copy")]


class FigureGallery(_FigureDirective):
    """Show all figures of the book, by notebook."""

    def run(self) -> list[nodes.Node]:
        """Return a heading and a grid of figures for each notebook."""
        shown: list[nodes.Node] = []
        for page, figures in self.all_drawn():
            target = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{page}", "refdoc": self.env.docname}
            title = addnodes.pending_xref("", nodes.inline("", page), refexplicit=False, refwarn=True, **target)
            shown.append(nodes.rubric("", "", title))
            grid = nodes.container("", classes=["figure-gallery"])
            grid += [self.copies(drawn, caption(drawn, figures), "figure-card") for drawn in figures]
            shown.append(grid)
        return shown


def visit_image(self: HTML5Translator, node: nodes.image) -> None:
    """Write an image as Sphinx does, with its size in pixels."""
    type(self).visit_image(self, node)
    if "pixels" in node:
        width, height = node["pixels"]
        self.body[-1] = self.body[-1].replace("<img ", f'<img width="{width}" height="{height}" ', 1)


def depart_image(self: HTML5Translator, node: nodes.image) -> None:
    """Leave an image as Sphinx does."""
    type(self).depart_image(self, node)
