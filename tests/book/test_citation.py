"""CITATION.cff as BibTeX."""

from pathlib import Path

import pytest

from embedllm.book.citation import bibtex, read_citations

ROOT = Path(__file__).parents[2]


def test_paper_comes_before_the_companion():
    text = read_citations(ROOT / "CITATION.cff")
    paper, companion = text.split("\n\n")
    assert paper.splitlines()[:2] == [
        "@inproceedings{embedllm2025,",
        "  title = {{EmbedLLM: Learning Compact Representations of Large Language Models}},",
    ]
    assert "booktitle = {International Conference on Learning Representations}" in paper
    assert "note = {arXiv:2410.02223}" in paper
    assert companion.startswith("@software{embedllmreproduced2026,")
    assert "author = {{The EmbedLLM companion contributors}}" in companion
    assert text.count("{") == text.count("}")


def test_persons_are_written_family_name_first():
    authors = [{"family-names": "Bird", "given-names": "Ada"}, {"family-names": "Fox"}]
    assert "author = {Bird, Ada and Fox}" in bibtex({"title": "On trees", "authors": authors, "year": 1999})


def test_entry_that_lacks_something_is_named(tmp_path):
    path = tmp_path / "CITATION.cff"
    with pytest.raises(FileNotFoundError, match=r"CITATION\.cff does not exist"):
        read_citations(path)
    path.write_text("title: On trees\nyear: 1999\n")
    with pytest.raises(ValueError, match=r"CITATION\.cff, an entry lacks 'authors', which its BibTeX needs"):
        read_citations(path)
