"""The entries of ``CITATION.cff`` as BibTeX, which the book shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def read_citations(path: Path) -> str:
    """Return BibTeX of a work and of what it refers to.

    Parameters
    ----------
    path : Path
        A file in the Citation File Format.

    Returns
    -------
    str
        The references first: they are what the work is about.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If an entry lacks its title, its authors or its year.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} does not exist: write there how this work is to be cited")
    work = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return "\n\n".join(bibtex(entry) for entry in [*work.get("references", []), work])
    except KeyError as error:
        raise ValueError(f"{path.name}, an entry lacks {error}, which its BibTeX needs: add it") from error


def bibtex(entry: Mapping[str, Any]) -> str:
    """Write one entry as BibTeX: a paper at a conference, or software.

    Parameters
    ----------
    entry : mapping
        With the keys of the Citation File Format.

    Raises
    ------
    KeyError
        If a key that every entry needs is missing.
    """
    title, authors = entry["title"], [_name(author) for author in entry["authors"]]
    year = str(entry["year"] if "year" in entry else entry["date-released"])[:4]
    fields = {"title": f"{{{title}}}", "author": " and ".join(authors), "year": year}
    if conference := entry.get("conference"):
        fields["booktitle"] = conference["name"]
    fields["version"] = entry.get("version", "")
    numbers = [number["value"] for number in entry.get("identifiers", [])]
    fields["note"] = ", ".join(numbers)
    kind = "inproceedings" if conference else "software"
    word = "".join(letter for letter in title.partition(":")[0] if letter.isalnum()).lower()
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{word}{year},", *lines, "}"])


def _name(author: Mapping[str, str]) -> str:
    """A person as BibTeX sorts it; an organisation as it is written."""
    if "family-names" in author:
        return f"{author['family-names']}, {author.get('given-names', '')}".rstrip(", ")
    return f"{{{author['name']}}}"
