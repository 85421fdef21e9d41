"""The recorded run of the benchmarks, and the plain procedure that it was measured against."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import reference
from benchmarks.__main__ import main
from benchmarks.growth import points, random_matrix, sgd_seconds
from embedllm import PRESETS, KNNCorrectness, MatrixFactorization
from embedllm.predictors.ranking import best_models, pool_logits
from embedllm.studies.speed import (
    case_table,
    case_times,
    fitting_table,
    gpu_table,
    growth_table,
    load_run,
    machine_table,
    scaling_table,
    together_table,
)


def side(seconds, peak_mb, how=""):
    return {"seconds": seconds, "peak_mb": peak_mb, "how": how, "checks": {}}


def fit(what, seconds, targets, **more):
    scores = {"val_loss": 0.5, "val_accuracy": 0.7}
    return {"what": what, "seconds": seconds, "targets": targets, "peak_mb": 500, **scores, **more}


@pytest.fixture
def run():
    cases = [
        ("fit", side([2.0, 1.0, 4.0], 500), side([300.0], 800, "a part"), {"ratio": 100, "seconds": 3}),
        ("slow", side([2.0], 500), side([300.0], 800), {"ratio": 151}),
        ("large", side([2.0], 500), side([300.0], 800), {"megabytes": 500}),
        ("read", side([2.0], 200), side([300.0], 800), {"ratio": 5, "memory_ratio": 4}),
        ("no target", side([2.0], 200), side([300.0], 800), {}),
    ]
    names = ("what", "ours", "theirs", "targets")
    return {
        "recorded": "2000-01-01",
        "machine": {"processor": "an abacus"},
        "data": "simulated pool",
        "repeats": 3,
        "cases": [dict(zip(names, case, strict=True)) | {"agree": ""} for case in cases],
        "fitting": [
            fit("exact", [2.0, 1.0, 4.0], {"seconds": 2}, n_iter=4, product_flops=10**9, objective=0.5),
            fit("chosen", [1.234], {"val_loss": 0.49}),
            fit("SGD", [1.234], {}),
        ],
        "together": [{"processes": 1, "seconds": 1.0, "objective": 0.5}],
        "growth": [{"axis": "dim", "what": "fit", "questions": 1, "models": 1, "dim": 1, "seconds": 1, "peak_mb": 1}],
    }


class TestTables:
    def test_cases(self, run):
        table = case_table(run)
        assert table.loc["fit", "ours (s)"] == "2 (1 to 4)"
        assert table["ratio"].tolist() == ["150.0, extrapolated", *["150.0"] * 4]
        assert table["targets"].tolist() == ["met", "missed", "missed", "met", ""]
        assert table["part of plain run"].tolist() == ["a part", *["all"] * 4]

    def test_others(self, run):
        assert machine_table(run).loc["processor"].item() == "an abacus"
        assert together_table(run).loc[1, "objective"] == 0.5
        assert growth_table(run)["data"].tolist() == ["random data, recorded 2000-01-01 on an abacus"]
        assert case_times(run).loc["fit", ["ours", "plain", "extrapolated"]].tolist() == [2, 300, True]

    def test_fits(self, run):
        table = fitting_table(run)
        assert table["seconds"].tolist() == [2, 1.23, 1.23]
        assert table["iterations"].tolist() == ["4", "", ""]
        assert table["targets"].tolist() == ["met", "missed", ""]

    def test_gpu(self, run):
        assert gpu_table(run).empty
        row = {"what": "fit", "how": "once", "seconds": 0.12345, "gpu_mb": 700.4}
        measured = run | {"gpu": {"recorded": "2000-01-02", "data": "", "machine": {"GPU": "a chip"}, "rows": [row]}}
        assert gpu_table(measured).loc["fit"].tolist() == ["0.123", "once", 700]
        assert machine_table(measured).loc["GPU", "the run on a GPU"] == "a chip"

    def test_scaling_by_hand(self, run):
        # 5 x 2 products of 10^9 FLOPs in 2 s are 5 GFLOP/s; here each has 2 x 10 x 3 x 10^12, 600 TFLOPs for all ten.
        table = scaling_table(run, n_models=3, n_questions=10**12, width=10)["amount"]
        assert table["embeddings, float32 (GB)"] == "40,000"
        assert table["labels, int8 (GB)"] == "3,000"
        assert table["arithmetic of a product (TFLOPs)"] == "60"
        assert table["GFLOP/s of the recorded run"] == "5"
        assert table["hours on one machine like that, extrapolated"] == f"{600e12 / 5e9 / 3600:.3g}"

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
        return MatrixFactorization(dim=5, solver="sgd", preset=replace(PRESETS["paper"], epochs=5)).fit(toy_with_holes)

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
        assert (
            chosen == best_models(pool_logits(fitted, toy_with_holes.embeddings), fitted.model_names_, 1)[:, 0].tolist()
        )

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

    def test_logistic_regressions(self, toy_with_holes):
        exact = MatrixFactorization(dim=6, alpha=0.3, tol=1e-5).fit(toy_with_holes)
        data = toy_with_holes.embeddings, toy_with_holes.labels, 0.3
        reached = reference.objective(exact.coef_, exact.intercept_, *data)
        assert exact.history_["objective"].iloc[-1] == pytest.approx(reached, abs=1e-6)
        assert reference.objective(*reference.logistic_regressions(*data), *data) == pytest.approx(reached, abs=1e-5)

    def test_neighbours(self, toy_with_holes):
        proba = KNNCorrectness(5).fit(toy_with_holes).predict_proba(toy_with_holes.embeddings)
        for m, labels in enumerate(toy_with_holes.labels):
            plain = reference.knn_proba(toy_with_holes.embeddings, labels, toy_with_holes.embeddings, 5)
            np.testing.assert_allclose(proba[:, m], plain, atol=1e-6)


class TestGrowth:
    def test_random_data_are_what_they_say(self):
        matrix = random_matrix(20, 3)
        assert (matrix.n_questions, matrix.n_models) == (20, 3)
        assert matrix.observed.all()
        table = pd.DataFrame(points())
        assert set(table["axis"]) == {"questions", "models", "dim"}
        assert table.groupby(["axis", "what"]).size().min() >= 4

    def test_part_of_sgd(self):
        # 400 questions x 8 models: 256 questions a step, two steps an epoch, and 50 epochs.
        seconds, done, total = sgd_seconds(random_matrix(400, 8), 1, dim=2)
        assert seconds > 0
        assert (done, total) == (1, 100)


def test_the_run_on_a_gpu_can_be_tried_on_the_cpu(tmp_path, monkeypatch, capsys, run):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(run))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--gpu", "--dry-run", "--record", str(file)])
    assert main() == 0
    measured = load_run(file)
    assert measured["cases"] == run["cases"]  # kept
    table = gpu_table(measured)
    assert table.index.str.startswith("exact fit").any()
    assert "extrapolated from 5 steps" in table["how"].tolist()
    assert "exact fit" in capsys.readouterr().out
