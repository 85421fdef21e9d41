"""What comes from others is what it says, and comes with its licence."""

from pathlib import Path

import pytest
import yaml

from embedllm._support.files import sha256_of

VENDOR = Path(__file__).parents[2] / "book" / "vendor"
ASSETS = yaml.safe_load((VENDOR / "vendored.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("asset", ASSETS, ids=lambda asset: asset["package"])
def test_asset_is_unchanged_and_has_a_licence(asset):
    for name, sha256 in asset["files"].items():
        assert sha256_of(VENDOR / name) == sha256, f"{name} is not what vendored.yml says: take it from its package"
    assert [name for name in asset["files"] if Path(name).name.startswith("LICENSE")]


def test_nothing_else_lies_there():
    known = {name for asset in ASSETS for name in asset["files"]} | {"vendored.yml"}
    assert {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()} == known
