"""The recorded run of the benchmarks, and the plain procedure that it was measured against."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import reference
from embedllm import KNNCorrectness, MatrixFactorization
from embedllm.router import best_two
from embedllm.studies.speed import (
    case_table,
    case_times,
    fitting_table,
    growth_table,
    load_run,
    machine_table,
    scaling_table,
    together_table,
)


def side(seconds, peak_mb, how=""):
    return {"seconds": seconds, "peak_mb": peak_mb, "how": how, "checks": {}}


@pytest.fixture
def run():
    cases = [
        ("fit", side([2.0, 1.0, 4.0], 500), side([300.0], 800, "a part"), {"ratio": 100, "seconds": 3}),
        ("slow", side([2.0], 500), side([300.0], 800), {"ratio": 151}),
        ("large", side([2.0], 500), side([300.0], 800), {"megabytes": 500}),
        ("read", side([2.0], 200), side([300.0], 800), {"ratio": 5, "memory_ratio": 4}),
    ]
    names = ("what", "ours", "theirs", "targets")
    return {
        "recorded": "2000-01-01",
        "machine": {"processor": "an abacus"},
        "data": "simulated pool",
        "repeats": 3,
        "cases": [dict(zip(names, case, strict=True)) | {"agree": ""} for case in cases],
        "fitting": [{"what": "fast", "seconds": 1.234, "val_loss": 0.5, "val_accuracy": 0.7}],
        "together": [{"processes": 1, "seconds": 1.0, "val_loss": 0.5}],
        "growth": [{"axis": "dim", "what": "fit", "questions": 1, "models": 1, "dim": 1, "seconds": 1, "peak_mb": 1}],
    }


class TestTables:
    def test_cases(self, run):
        table = case_table(run)
        assert table.loc["fit", "ours (s)"] == "2 (1 to 4)"
        assert table["ratio"].tolist() == [150] * 4
        assert table["targets"].tolist() == ["met", "missed", "missed", "met"]
        assert table["part of plain run"].tolist() == ["a part", "all", "all", "all"]

    def test_others(self, run):
        assert machine_table(run).loc["processor"].item() == "an abacus"
        assert fitting_table(run).loc["fast", "seconds"] == 1.23
        assert together_table(run).loc[1, "val_loss"] == 0.5
        assert growth_table(run)["data"].tolist() == ["random data, recorded 2000-01-01 on an abacus"]
        assert case_times(run).loc["fit", ["ours", "plain"]].tolist() == [2, 300]

    def test_scaling_by_hand(self):
        # A question of width 10 and 3 models, dim 2: 2 x 20 forward and again for the weights, 3 x 12 for the product.
        table = scaling_table(n_models=3, n_questions=10**12, dim=2, width=10, block=10)["amount"]
        assert table["embeddings, float32 (GB)"] == "40,000"
        assert table["labels, int8 (GB)"] == "3,000"
        assert table["arithmetic of a pass (TFLOPs)"] == f"{2 * 40 + 3 * 12}"
        assert table["steps of a pass"] == "100,000,000,000"

    def test_the_recorded_run_is_complete(self):
        run = load_run()
        assert not case_table(run).isna().any(axis=None)
        assert {"questions", "models", "dim"} == set(growth_table(run)["axis"])


class TestReading:
    def test_another_file(self, run, tmp_path):
        (tmp_path / "run.json").write_text(json.dumps(run))
        assert load_run(tmp_path / "run.json") == run

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is not JSON"),
            ("[]", "it lacks cases, data, fitting"),
            ('{"machine": {}}', "it lacks cases, data, fitting"),
        ],
    )
    def test_damaged_file_is_named(self, tmp_path, content, message):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            load_run(tmp_path / "run.json")

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="python -m benchmarks --record FILE writes one"):
            load_run(tmp_path / "run.json")


class TestReference:
    """The plain procedure computes the same as the package, so that a ratio compares like with like."""

    @pytest.fixture
    def fitted(self, toy_with_holes):
        return MatrixFactorization(dim=5).fit(toy_with_holes)

    @pytest.fixture
    def plain(self, fitted, toy_with_holes):
        model = reference.PairModel(toy_with_holes.embeddings, 6, dim=5)
        p, w, b, c, a = fitted.parameters_
        state = {"P.weight": p, "text_proj.weight": w, "text_proj.bias": b, "classifier.weight": c}
        model.load_state_dict(state | {"classifier.bias": a, "Q.weight": model.Q.weight})
        return model

    def test_routes(self, fitted, plain, toy_with_holes):
        chosen = reference.route(plain, torch.arange(toy_with_holes.n_questions))
        assert chosen == fitted.predict_proba(toy_with_holes.embeddings).argmax(axis=1).tolist()
        assert chosen == best_two(fitted, toy_with_holes.embeddings)[0][:, 0].tolist()

    def test_loss_over_all_pairs(self, fitted, plain, toy_with_holes):
        pairs = reference.Pairs(toy_with_holes.labels)
        plain.eval()
        found = torch.nn.functional.cross_entropy(plain(pairs.models, pairs.questions), pairs.labels)
        logits = fitted.coef_ @ toy_with_holes.embeddings.T + fitted.intercept_[:, None]
        signed = np.where(toy_with_holes.labels == 1, -logits, logits)[toy_with_holes.observed]
        assert found.item() == pytest.approx(np.logaddexp(0, signed).mean(), abs=1e-5)

    def test_every_step_takes_its_pairs(self, toy_with_holes, monkeypatch):
        monkeypatch.setattr(reference, "BATCH", 50)
        model = reference.PairModel(toy_with_holes.embeddings, 6, dim=5)
        before = model.P.weight.detach().clone()
        steps = list(reference.step_seconds(model, toy_with_holes.labels, warm_up=0))
        assert len(steps) == reference.n_steps(toy_with_holes.labels) / reference.EPOCHS
        assert not torch.equal(before, model.P.weight)

    def test_neighbours(self, toy_with_holes):
        proba = KNNCorrectness(5).fit(toy_with_holes).predict_proba(toy_with_holes.embeddings)
        for m, labels in enumerate(toy_with_holes.labels):
            plain = reference.knn_proba(toy_with_holes.embeddings, labels, toy_with_holes.embeddings, 5)
            np.testing.assert_allclose(proba[:, m], plain, atol=1e-6)


def test_random_growth_data_is_what_it_says():
    from benchmarks.growth import points, random_matrix

    matrix = random_matrix(20, 3)
    assert (matrix.n_questions, matrix.n_models) == (20, 3)
    assert matrix.observed.all()
    table = pd.DataFrame(points())
    assert set(table["axis"]) == {"questions", "models", "dim"}
    assert table.groupby(["axis", "what"]).size().min() >= 4
