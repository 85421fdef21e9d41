"""The examples in the docstrings of the public names."""

import doctest
import inspect

import pytest

import embedllm

CALLABLE = [name for name in embedllm.__all__ if callable(getattr(embedllm, name))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", CALLABLE)
def test_example_does_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tests = doctest.DocTestFinder().find(getattr(embedllm, name), name, globs={})
    if not any(test.examples for test in tests):
        pytest.skip("has no example yet")
    for test in tests:
        output: list[str] = []
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=output.append)
        assert not output, "".join(output)


@pytest.mark.parametrize("name", CALLABLE)
def test_public_name_is_described(name):
    public = getattr(embedllm, name)
    assert inspect.getdoc(public)
    assert not public.__name__.startswith("_")
