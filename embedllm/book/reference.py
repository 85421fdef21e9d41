"""The part of the Sphinx extension that concerns the API reference, and which pages Sphinx reads again.

The page `api` shows the public names of the package, the pages in ``api/`` all other names, by sub-package.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import embedllm


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is done to the reference."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-skip-member", skip_member)
    app.connect("missing-reference", find_public_name)
    app.connect("env-get-outdated", outdated_pages)
    app.connect("build-finished", mark_clean_build)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def skip_member(app: Sphinx, what: str, name: str, member: object, *_: Any) -> bool | None:
    """Leave out what is shown elsewhere or not ours.

    These are the public names in their modules, the methods that scikit-learn adds to every estimator, and the fields
    of a named tuple, of which Python only says the number.
    """
    public = what == "module" and name in dir(embedllm)
    inherited = str(getattr(member, "__module__", "")).startswith("sklearn.")
    return True if public or inherited or type(member).__name__ == "_tuplegetter" else None


def find_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Resolve a reference to a public name, or to a part of it, that names the module where it is defined."""
    target = node.get("reftarget", "")
    for full, name in public_names().items():
        if f"{target}.".startswith(f"{full}."):
            short = f"embedllm.{name}{target.removeprefix(full)}"
            where, domain = node["refdoc"], env.get_domain("py")
            return domain.resolve_xref(env, where, app.builder, node["reftype"], short, node, content)
    return None


@cache
def public_names() -> dict[str, str]:
    """Return the full name, with its module, of each public name; read from the stub, since imports take seconds."""
    stub = ast.parse(Path(embedllm.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [each for each in stub.body if isinstance(each, ast.ImportFrom)]
    return {f"embedllm.{each.module}.{alias.name}": alias.name for each in imports for alias in each.names}


def outdated_pages(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> set[str]:
    """Return the pages to read again although they did not change: after a build with warnings all, else no reference.

    Sphinx does not know that a page glues numbers of a notebook, and a page that is not read does not repeat its
    warnings, so that a second build would pass where the first one failed. The reference takes most of the time; what
    it shows is in modules, which Sphinx knows.
    """
    clean = _mark(app).exists()
    _mark(app).unlink(missing_ok=True)
    return {page for page in env.all_docs if not (clean and page.partition("/")[0] == "api")}


def mark_clean_build(app: Sphinx, exception: Exception | None) -> None:
    """Leave a mark that no page has a warning to repeat."""
    if exception is None and not app._warncount:
        _mark(app).touch()


def _mark(app: Sphinx) -> Path:
    return Path(app.doctreedir) / "no_warnings"
