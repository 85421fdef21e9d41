"""Named data sets."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from embedllm.datasets.duplicates import Duplicates, check_duplicates
from embedllm.datasets.formats.long import read_long_form
from embedllm.datasets.hub import fetch
from embedllm.datasets.model_names import describe_models
from embedllm.datasets.simulate import simulate_pool
from embedllm.matrix import CorrectnessMatrix

NAMED = ("simulated", "embedllm")


def dataset_folder(name_or_path: str | os.PathLike[str]) -> Path | None:
    """Return the folder that a data set's name stands for, or None for a named data set.

    Raises
    ------
    ValueError
        If the name is empty.
    """
    if not str(name_or_path):
        raise ValueError(f"the name of a data set is empty: use one of {NAMED} or a folder")
    return None if name_or_path in NAMED else Path(name_or_path)


def load_dataset(
    name_or_path: str | os.PathLike[str] = "simulated",
    *,
    scale: float = 1.0,
    random_state: int = 0,
    duplicates: Duplicates = "majority",
) -> CorrectnessMatrix:
    """Load a correctness matrix.

    Parameters
    ----------
    name_or_path : str or path
        "simulated": the simulated pool, made on the spot. "embedllm": the paper's release from the Hugging Face Hub
        (3.4 GB on the first use, then cached), with sizes and specializations as the names of its models say. Anything
        else: a folder in the authors' long form (`embedllm.datasets.formats.long`).
    scale, random_state : float, int
        Size and seed of the simulated pool; without effect on answers that were observed.
    duplicates : "majority", "any", "last", "rows" or "error"
        What counts where a (model, question) has several rows, as in `read_long_form`; the simulated pool has none.

    Raises
    ------
    FileNotFoundError
        If there is neither a data set nor a folder of that name, or a file of it is missing.
    ConnectionError
        If the paper's release is neither cached nor can be downloaded.
    ValueError
        If a file is damaged, or is not the one that was downloaded first, or there is no such rule for duplicates.
    """
    folder = dataset_folder(name_or_path)
    check_duplicates(duplicates)
    if name_or_path == "simulated":
        return simulate_pool(scale=scale, random_state=random_state)[0]
    if folder is None:
        entry = _catalogue()["embedllm"]
        repository, revision = entry["repository"], entry["revision"]
        folder = fetch(repository, revision, entry["files"])
        matrix = read_long_form(folder, source=f"{repository}, revision {revision}", duplicates=duplicates)
        matrix.models = describe_models(matrix.model_names)
        return matrix
    if not folder.is_dir():
        raise FileNotFoundError(f"no data set {str(name_or_path)!r}: use 'simulated', 'embedllm' or an existing folder")
    return read_long_form(folder, duplicates=duplicates)


def _catalogue() -> dict[str, Any]:
    return yaml.safe_load(resources.files("embedllm.data").joinpath("sources.yml").read_text(encoding="utf-8"))
