"""What a notebook depends on: on a small package, and on this one."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedllm.book.dependencies import Dependencies, digest
from embedllm.book.execution import COLLECTING

ROOT = Path(__file__).parents[2]
NAMES = {path.stem for path in (ROOT / "notebooks").glob("*.py") if not path.stem.startswith("_")}

FILES = {
    "notebooks/one.py": "from embedllm import Forest\n",
    "embedllm/__init__.py": "",
    "embedllm/__init__.pyi": "from .woods.forest import Forest as Forest\nfrom .woods.shrub import Shrub as Shrub\n",
    "embedllm/woods/__init__.py": "SEASON = 'spring'\n",
    "embedllm/woods/forest.py": "from embedllm.woods import tree\n\nclass Forest:\n    trees = [tree.height]\n",
    "embedllm/woods/tree.py": "def height():\n    from embedllm.soil import DEPTH\n\n    return DEPTH\n",
    "embedllm/woods/shrub.py": "",
    "embedllm/soil.py": "import numpy as np\n\nDEPTH, TABLE, STYLE = np.ones(3), 'data/soils.csv', 'brown.mplstyle'\n",
    "embedllm/brown.mplstyle": "",
    "embedllm/green.mplstyle": "",
    "data/soils.csv": "",
    "data/rocks.csv": "",
}


@pytest.fixture
def root(tmp_path):
    for path, text in FILES.items():
        write(tmp_path, path, text)
    return tmp_path


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def used(root):
    """Return the files that the notebook of the small repository depends on."""
    found = Dependencies(root).describe(root / "notebooks" / "one.py")
    return {path for path in found if not path.startswith("version of")}


ALL_USED = {
    "embedllm/__init__.py",
    "embedllm/woods/__init__.py",
    "embedllm/woods/forest.py",
    "embedllm/woods/tree.py",
    "embedllm/soil.py",
    "embedllm/brown.mplstyle",
    "data/soils.csv",
}


def test_imports_are_followed_and_nothing_else(root):
    """Through lazy names and parents, and inside functions; a file belongs to the module that names it."""
    assert used(root) == ALL_USED


@pytest.mark.parametrize(
    ("statement", "also"),
    [
        ("import embedllm", {"embedllm/woods/shrub.py"}),
        ("from embedllm import *", {"embedllm/woods/shrub.py"}),
        ("import embedllm.soil", {"embedllm/woods/shrub.py"}),
        ("from embedllm import Forest as Wood", set()),
        ("from embedllm.woods.forest import Forest", set()),
        ("from embedllm.woods import forest", set()),
        ("import embedllm.woods.forest as wood", {"embedllm/woods/shrub.py"}),
        ("if True:\n    def wood():\n        from embedllm import Forest", set()),
    ],
)
def test_every_form_of_import(root, statement, also):
    write(root, "notebooks/one.py", statement + "\n")
    assert used(root) == ALL_USED | also


def test_a_script_without_the_package_needs_only_what_runs_it(root):
    write(root, "notebooks/one.py", "1 + 1\n")
    found = Dependencies(root).describe(root / "notebooks" / "one.py")
    assert {"version of Python", "version of ipykernel", "version of papermill"} <= set(found)
    assert not {"version of numpy", "version of torch"} & set(found)


def test_versions_are_those_of_what_is_imported_and_of_what_that_requires(root):
    import numpy
    import scipy

    write(root, "embedllm/soil.py", "from sklearn import svm\n")
    found = Dependencies(root).describe(root / "notebooks" / "one.py")
    assert found["version of numpy"] == numpy.__version__
    assert found["version of scipy"] == scipy.__version__
    assert "version of scikit-learn" in found
    assert "version of torch" not in found


MODULE = '''\
"""A module."""

# A comment.
HEIGHT = 3
"""What a tree measures."""


class Tree:
    """A plant."""

    def grow(self):
        """Grow."""
        return HEIGHT


@figure_of()
def plot(table):
    """Heights of trees.

    At noon.
    """
'''


def hashed(root, text):
    write(root, "embedllm/soil.py", text)
    return Dependencies(root).describe(root / "notebooks" / "one.py")["embedllm/soil.py"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A module.", "One module."),
        ("# A comment.\n", ""),
        ('"""What a tree measures."""\n', ""),
        ("A plant.", "A tall plant."),
        ('        """Grow."""\n', ""),
        ("At noon.", "At night."),
        ("HEIGHT = 3", "HEIGHT  =  3  # m"),
        ("return HEIGHT", "return (\n            HEIGHT\n        )"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(root, old, new):
    assert old in MODULE
    assert hashed(root, MODULE.replace(old, new)) == hashed(root, MODULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("HEIGHT = 3", "HEIGHT = 4"), ("Heights of trees.", "Heights of shrubs."), ("return HEIGHT", "return 'HEIGHT'")],
)
def test_what_is_computed_or_shown_changes_the_hash(root, old, new):
    assert old in MODULE
    assert hashed(root, MODULE.replace(old, new)) != hashed(root, MODULE)


def stamps(root):
    """What each notebook of a copy of this repository depends on; the sources say it, nothing is executed."""
    dependencies = Dependencies(root)
    return {name: dependencies.describe(root / "notebooks" / f"{name}.py") for name in NAMES}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for folder in ("embedllm", "notebooks", "data"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "cache"))
    return root, stamps(root)


CODE = ("import annotations", "import annotations\n\nunused = 1")
DOCSTRING = ('"""', '"""Really: ')


@pytest.mark.parametrize(
    ("path", "edit", "stale"),
    [
        ("plots/routing.py", ("figsize", "dpi=90, figsize"), {"routing", "real_answers"}),
        ("plots/companion.mplstyle", ("font", "# a comment\nfont"), NAMES - {"summary"}),
        ("datasets/formats/lm_eval.py", DOCSTRING, set()),
        ("datasets/formats/lm_eval.py", CODE, set()),
        ("datasets/formats/long.py", DOCSTRING, set()),
        ("book/execution.py", CODE, set()),
        ("router.py", CODE, set()),
        ("predictors/mf.py", CODE, NAMES - COLLECTING - {"dataset", "speed", "tuning", "published_numbers"}),
        ("datasets/simulate.py", CODE, NAMES - COLLECTING - {"speed", "published_numbers"}),
        ("matrix.py", CODE, NAMES),
        ("../data/benchmarks.json", ("{", "{ "), {"speed"}),
        ("../data/expected/simulated.json", ("{", "{ "), set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_change_in_this_package_makes_stale_what_depends_on_it(copy, path, edit, stale):
    root, before = copy
    file = root / "embedllm" / path
    text = file.read_text()
    assert edit[0] in text
    file.write_text(text.replace(*edit, 1))
    try:
        after = stamps(root)
    finally:
        file.write_text(text)
    assert {name for name in NAMES if after[name] != before[name]} == stale


@pytest.mark.slow
def test_what_python_loads_is_among_the_dependencies():
    scripts = [ROOT / "notebooks" / f"{name}.py" for name in NAMES]
    trees = [ast.parse(script.read_text()) for script in scripts]
    statements = [node for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    loaded = (
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('embedllm.') and m.__file__), sep='\\n')"
    )
    code = "\n".join([*map(ast.unparse, statements), "import sys", loaded])
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {Path(line) for line in run.stdout.splitlines() if Path(line).is_relative_to(ROOT / "embedllm")}
    assert len(found) > len(NAMES)
    assert found <= {path for script in scripts for path in Dependencies(ROOT).modules(script)}


@pytest.mark.parametrize("path", sorted((ROOT / "embedllm").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_imported_by_a_computed_name(path):
    """So that the syntax tree tells all that a module depends on."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "write the whole name of the module"
        words = {getattr(node, key, None) for key in ("id", "attr", "name")}
        assert not words & {"import_module", "__import__", "runpy", "find_spec"}
        # `eval` and `exec` import as builtins; an attribute of that name (the header of a log has one) does not.
        assert not (isinstance(node, ast.Name) and node.id in ("eval", "exec"))
        assert "lazy_loader" not in words or path == ROOT / "embedllm" / "__init__.py"


def test_each_file_of_the_data_belongs_to_a_module(copy):
    """A file whose name a module computes belongs to none."""
    root, before = copy
    files = {f"data/{path.name}" for path in (root / "data").iterdir() if path.suffix in (".json", ".yml", ".csv")}
    assert files == {path for stamp in before.values() for path in stamp if path.startswith("data/")}


def test_digest_depends_on_names_and_bytes_only(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("x", "y"):
            (tmp_path / folder / name).write_text(name)
    files = {folder: list((tmp_path / folder).iterdir()) for folder in ("a", "b")}
    same = digest(files["a"], tmp_path / "a")
    assert digest(reversed(files["b"]), tmp_path / "b") == same
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "z")
    assert digest((tmp_path / "b").iterdir(), tmp_path / "b") != same
