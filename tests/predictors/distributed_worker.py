"""What a process of a group does in `test_distributed`: fit on its questions of a matrix, and write what came of it."""

import json
import sys
from pathlib import Path

import torch

from embedllm import CorrectnessMatrix, MatrixFactorization
from embedllm.predictors.distributed import own_share, process_group, rank

FITS = {
    "sgd": {"dim": 5, "solver": "sgd", "device": "cpu"},
    "exact": {"dim": 5, "device": "cpu"},
    "pool prior": {"prior": "pool", "device": "cpu"},
    "without validation": {"device": "cpu"},
}
"""Hyperparameters of the fits."""


def main(folder: Path) -> None:
    train, validation = (CorrectnessMatrix.load(folder / f"{name}.npz") for name in ("train", "validation"))
    with process_group("cpu"):
        number, n_processes = rank()
        for name, settings in FITS.items():
            held_out = own_share(validation) if name != "without validation" else None
            model = MatrixFactorization(**settings).fit(own_share(train), held_out)
            model.save(folder / f"{name} {number}.safetensors")
        torch.save(torch.tensor([own_share(train).n_questions, n_processes]), folder / f"{number}.pt")
        errors = []
        for refused in (
            lambda: MatrixFactorization(dim=5 + number, device="cpu").fit(own_share(train)),
            lambda: MatrixFactorization(dim=5, device="cpu").fit(
                train.subset(models=train.model_names[number:]), validation
            ),
            lambda: MatrixFactorization(dim=5, device="cpu").fit(train, validation if number else None),
            lambda: own_share(train.subset(questions=train.question_ids[:2])),
        ):
            try:
                refused()
            except ValueError as error:
                errors.append(str(error))
        (folder / f"{number}.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
