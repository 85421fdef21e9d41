"""Groups of models that share a size or a specialization, from the metadata of the models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

PAPER = ("7B", "13B", "70B", "code", "biomed", "physics")
"""The communities of the paper: three sizes; coding, bio/medical and physics models, by their tags here."""


class Community(NamedTuple):
    """Models that share a size or a specialization.

    Attributes
    ----------
    name : str
        Such as "7B", "<1B" or a tag.
    kind : "size" or "specialization"
    members : frozenset of str
        Names of its models.
    """

    name: str
    kind: str
    members: frozenset[str]


def find_communities(models: pd.DataFrame) -> list[Community]:
    """Group models by size and by specialization.

    Parameters
    ----------
    models : DataFrame indexed by model name
        `params_b` (billions of parameters, NaN if not known) and `tags` (joined by `;`); either may be missing. A size
        is rounded to whole billions, half up.

    Returns
    -------
    list of Community
        Sizes in ascending order, then tags in alphabetical order; among them those of the paper, though some may be
        empty.
    """
    billions = models["params_b"].astype(float) if "params_b" in models else pd.Series(dtype=float)
    billions = billions[np.isfinite(billions)]
    # Half up: NumPy rounds to the even number, which would put 6.5 among the 6B.
    sizes: dict[str, list[str]] = {}
    for model, rounded in np.floor(billions + 0.5).where(billions >= 1, 0.0).sort_values(kind="stable").items():
        sizes.setdefault(f"{rounded:.0f}B" if rounded else "<1B", []).append(str(model))
    tags: dict[str, list[str]] = {}
    for model, borne in tags_of(models).items():
        for tag in borne:
            tags.setdefault(tag, []).append(model)
    for name in PAPER:
        (sizes if name[0].isdigit() else tags).setdefault(name, [])
    by_size = sorted(sizes, key=lambda name: 0 if name == "<1B" else int(name[:-1]))
    return [
        *(Community(name, "size", frozenset(sizes[name])) for name in by_size),
        *(Community(name, "specialization", frozenset(tags[name])) for name in sorted(tags)),
    ]


def tags_of(models: pd.DataFrame) -> dict[str, list[str]]:
    """Return the tags of each model that has any."""
    texts = models["tags"].dropna().astype(str) if "tags" in models else pd.Series(dtype=str)
    return {str(model): sorted({tag.strip() for tag in text.split(";")} - {""}) for model, text in texts.items()}
