"""Fixtures of the importers' tests."""

from pathlib import Path

import pytest
from import_helpers import vectors_of

from embedllm import load_dataset
from embedllm.datasets import importers
from embedllm.datasets.encoder import Encoder


@pytest.fixture
def encoded(monkeypatch) -> list:
    """Replace the encoder, and return the list of its calls."""
    calls = []

    def encode(texts, encoder, *, device):
        calls.append((list(texts), encoder, device))
        return vectors_of(texts)

    monkeypatch.setattr(importers, "encode_questions", encode)
    monkeypatch.setattr(importers, "find_encoder", lambda name: Encoder(str(name), Path(), "0" * 64))
    return calls


@pytest.fixture
def assert_imported(assert_same, encoded):
    """Return the check that an import gave a matrix, wrote it, and encoded each prompt in one call."""

    def check(matrix, expected, out):
        assert_same(matrix, expected)
        assert_same(load_dataset(out), expected)
        assert [call[0] for call in encoded] == [expected.questions["prompt"].tolist()]
        assert list(out.parent.glob(".*")) == []

    return check


@pytest.fixture
def assert_refused(tmp_path, encoded):
    """Return the check that an import fails with one line before anything is encoded or written."""

    def check(call, message):
        importer, source, options = call
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises((ValueError, OSError), match=message) as caught:
            importer(source, tmp_path / "out", **options)
        assert "\n" not in str(caught.value)
        assert encoded == []
        assert sorted(tmp_path.rglob("*")) == before

    return check
