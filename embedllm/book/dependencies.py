"""What the results of a notebook depend on: modules of the package, files that they read, and installed versions.

A notebook depends on the modules that it imports and on those that they import, wherever in the source the statement
stands. A module counts by its syntax tree, so that comments, docstrings and layout change nothing; of a function that
draws a figure, the first line of the docstring counts, because it is the title of the figure. A file in ``data/`` or
beside a module belongs to the modules that name it. What is imported by a computed name is not seen; the tests refuse
such imports in the package.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeGuard

from embedllm._support.files import sha256_of

EXECUTING = frozenset({"ipykernel", "papermill"})
"""Distributions that run a notebook, whatever it imports."""


class Module(NamedTuple):
    """What the source of a module says.

    Attributes
    ----------
    sha256 : str
        Of what it computes.
    imports : set of str
        The dotted names that it imports, of a ``from`` statement with each name that is taken.
    files : set of Path
        The files that it names.
    """

    sha256: str
    imports: set[str]
    files: set[Path]


class Dependencies:
    """The dependencies of the scripts of a repository. Each module, and the data of a path, is read once.

    Parameters
    ----------
    root : Path
        Root of the repository, with the folders ``embedllm`` and ``data``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read = functools.cache(self._parse)
        self.data = functools.cache(self._data)
        stub = root / "embedllm" / "__init__.pyi"
        public = _imports(ast.parse(stub.read_bytes())) if stub.is_file() else ()
        self._lazy = {name.rpartition(".")[2]: f"embedllm.{name}" for name in public}

    def describe(self, script: Path) -> dict[str, str]:
        """Describe what a script depends on beside itself.

        Returns
        -------
        dict of str to str
            Path from the root to hash for each module and file, ``version of <distribution>`` to version.
        """
        modules = self.modules(script)
        hashes = {path: module.sha256 for path, module in modules.items() if path != script}
        hashes |= {file: sha256_of(file) for module in modules.values() for file in module.files}
        imported = {name.partition(".")[0] for module in modules.values() for name in module.imports} - {"embedllm"}
        found = {path.relative_to(self.root).as_posix(): hashes[path] for path in sorted(hashes)}
        return found | {f"version of {name}": version for name, version in versions(imported).items()}

    def modules(self, script: Path) -> dict[Path, Module]:
        """Return a script and all modules of the package that it imports, directly or not, by path."""
        found: dict[Path, Module] = {}
        waiting = [script]
        while waiting:
            if (path := waiting.pop()) not in found:
                found[path] = self._read(path)
                waiting += (each for name in found[path].imports for each in self._executed(name))
        return found

    def _data(self, path: Path) -> str:
        """Hash a file, or the files of a folder, as `digest` does."""
        return digest([path] if path.is_file() else path.rglob("*"), self.root)

    def _parse(self, path: Path) -> Module:
        tree = ast.parse(path.read_bytes(), path)
        titles = [ast.get_docstring(node) or "" for node in ast.walk(tree) if _draws(node)]
        tree = _WithoutTexts().visit(tree)
        content = "\n".join([ast.dump(tree), *(title.partition("\n")[0] for title in titles)])
        texts = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        names = {text.rpartition("/")[2] for text in texts if re.fullmatch(r"[\w./-]+\.\w+", text)}
        files = {folder / name for folder in (self.root / "data", path.parent) for name in names}
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        return Module(sha256, set(_imports(tree)), {file for file in files if file.is_file()})

    def _executed(self, name: str) -> Iterator[Path]:
        """Yield the files that the import of a dotted name executes: those of the module and of its parents."""
        first, *rest = name.split(".")
        if first != "embedllm":
            return
        for end in range(len(rest) + 1):
            path = self.root.joinpath(first, *rest[:end])
            yield from (file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file())
        # Through the package itself a script can reach all its public names.
        for lazy in rest[:1] if rest not in ([], ["*"]) else self._lazy:
            if lazy in self._lazy:
                yield from self._executed(self._lazy[lazy])


def digest(paths: Iterable[Path], base: Path) -> str:
    """Hash the names, relative to a folder, and the contents of files; folders among the paths count for nothing."""
    files = {os.path.relpath(path, base): sha256_of(path) for path in paths if path.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def versions(imported: set[str]) -> dict[str, str]:
    """Return the versions of Python, of what provides top-level modules, and of what that requires directly."""
    names = EXECUTING | {name for module in imported for name in _distributions().get(module, ())}
    required = {name for each in names for name in _required(each)}
    return {"Python": platform.python_version()} | {name: _version(name) for name in sorted(names | required)}


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@functools.cache
def _required(name: str) -> list[str]:
    texts = [text for text in metadata.requires(name) or () if "extra ==" not in text]
    return [found[0] for text in texts if (found := re.match(r"[\w.-]+", text))]


@functools.cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # required on other platforms only
        return "not installed"


class _WithoutTexts(ast.NodeTransformer):
    """Removes statements that are a text and nothing else, as docstrings are."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def _draws(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and any("figure_of" in ast.unparse(each) for each in node.decorator_list)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # The statement binds the first part, through which the program can reach more.
            yield from (part for alias in node.names for part in (alias.name, alias.name.partition(".")[0]))
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
