"""A threshold above all scores of a model makes each of its answers incorrect: a warning says so."""

import json
import warnings

import pytest
from import_helpers import csv_bytes, put, sample, write_samples

from embedllm.datasets.importers import import_every_eval_ever, import_lm_eval, import_wide

MESSAGE = r"threshold {} is above all scores of 1 of 2 models, .* is incorrect: b \(highest 0\.{}\); is it on the"


pytestmark = pytest.mark.usefixtures("encoded")


def table(folder, *rows):
    put(folder / "t.csv", csv_bytes(rows, ["prompt", "benchmark", "a", "b"]))
    return folder / "t.csv"


def test_table(tmp_path):
    path = table(tmp_path, ["p", "x", 90, 0.7], ["q", "x", 60, 0.8], ["r", "x", 10, "false"], ["s", "x", 3, ""])
    with pytest.warns(UserWarning, match=MESSAGE.format(70, 8)):
        matrix = import_wide(path, tmp_path / "out", threshold=70)
    assert matrix.labels.tolist() == [[1, 0, 0, 0], [0, 0, 0, -1]]


@pytest.mark.parametrize("scores", [(0.9, 0), (0.9, "false"), (0.9, 0.5), ("true", 0.5)])
def test_no_warning(tmp_path, scores):
    with warnings.catch_warnings(action="error"):
        import_wide(table(tmp_path, ["p", "x", *scores]), tmp_path / "out", threshold=0.5)


def test_lm_eval(tmp_path):
    for model, best in (("a", 0.9), ("b", 0.4)):
        write_samples(tmp_path / "logs", model, "t", [sample(0, acc=best), sample(1, acc=0.1)])
    with pytest.warns(UserWarning, match=MESSAGE.format(r"0\.5", 4)):
        matrix = import_lm_eval(tmp_path / "logs", tmp_path / "out", threshold=0.5)
    assert matrix.labels.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("errors", ["not observed", "incorrect"])
def test_every_eval_ever(tmp_path, errors):
    lines = [
        {
            "evaluation_id": f"t/{model}/1",
            "model_id": model,
            "evaluation_name": "t",
            "sample_id": str(number),
            "input": {"raw": f"{number}?"},
            "evaluation": {"score": score, "is_correct": False},
            "error": error,
        }
        for model, best in (("a", 0.9), ("b", 0.4))
        for number, (score, error) in enumerate([(best, None), (0.1, None), ("none", "timeout")])
    ]
    put(tmp_path / "in" / "u_samples.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.warns(UserWarning, match=MESSAGE.format(r"0\.5", 4)):
        matrix = import_every_eval_ever(tmp_path / "in", tmp_path / "out", threshold=0.5, errors=errors)
    assert matrix.labels[:, :2].tolist() == [[1, 0], [0, 0]]
