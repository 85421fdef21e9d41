"""Files that `torch.save` wrote: tensors, and no other object."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedllm._support.files import check_archive

if TYPE_CHECKING:
    import torch


def load_tensors(path: Path) -> Any:
    """Return what a file holds: a tensor, or a dictionary of them.

    Raises
    ------
    OSError, Malformed
        As `embedllm._support.files.check_archive` does.
    ValueError
        If it is damaged, or holds other objects.
    """
    import torch  # takes seconds, and most readers do without

    check_archive(path)
    try:
        if zipfile.is_zipfile(path):  # all but files of before PyTorch 1.6; torch.load leaves checksums unread
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"{damaged} differs from its checksum")
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # neither reader keeps to a few classes of errors
        raise ValueError("it is damaged, or holds objects other than tensors, which are never loaded") from error


def dense(value: object, ndim: int) -> torch.Tensor | None:
    """Return a tensor in float32, or None if it is none of floating-point numbers, each of them in the file."""
    import torch

    if (
        isinstance(value, torch.Tensor)
        and (value.layout is torch.strided and not value.is_nested and value.device.type == "cpu")  # not "meta"
        and (value.ndim == ndim and value.is_floating_point())
        and value.nbytes <= value.untyped_storage().nbytes()  # not one number for millions
    ):
        return value.detach().float().contiguous()
    return None
