"""Records: complete, or refused; and of the same answers, or not used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from embedllm import CorrectnessMatrix, MatrixFactorization, load_dataset
from embedllm.protocol.recorded import answers_sha256, find_record, load_recorded_comparison
from embedllm.studies.benchmark_prediction import predict_heldout, recorded_heldout


def frame(**columns):
    return json.loads(pd.DataFrame(columns).to_json(orient="split", index=False))


def pool(data):
    about = {"date": "2026-01-01", "data": data, "n_models": 3, "n_questions": 9, "labels_sha256": "ab"}
    scores = frame(data=[data, data], log_loss=[0.5, 0.25])
    return about | {"scores": scores, "stability": frame(data=[data])}


def test_pools_are_put_together(tmp_path):
    path = tmp_path / "solvers.json"
    path.write_text(json.dumps({"one": pool("one"), "other": pool("other")}))
    recorded = load_recorded_comparison(path)
    assert recorded.pools["data"].tolist() == ["one", "other"]
    assert recorded.pools["n_models"].tolist() == [3, 3]
    assert recorded.scores["log_loss"].tolist() == [0.5, 0.25, 0.5, 0.25]


@pytest.mark.parametrize("missing", ["date", "scores", "stability"])
def test_incomplete_record_is_refused(tmp_path, missing):
    path = tmp_path / "solvers.json"
    content = {"one": pool("one")}
    del content["one"][missing]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"is not a complete record .*{missing}.*run tools/record_solvers"):
        load_recorded_comparison(path)


def test_truncated_record_is_refused(tmp_path):
    path = tmp_path / "solvers.json"
    path.write_text(json.dumps({"one": pool("one")})[:-20])
    with pytest.raises(ValueError, match="is not a complete record"):
        load_recorded_comparison(path)


def test_record_of_the_project_has_every_pool():
    recorded = load_recorded_comparison()
    assert set(recorded.pools["data"]) == set(recorded.scores["data"]) == set(recorded.stability["data"])
    assert set(recorded.scores["solver"]) == {"SGD", "exact", "exact, pool prior"}


class TestHash:
    def test_changes_with_each_part(self, make_matrix):
        matrix = make_matrix()
        hashes = {answers_sha256(matrix)}
        labels = matrix.labels.copy()
        labels[3, 5] = -1
        hashes.add(answers_sha256(matrix.with_labels(labels)))
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        for questions in (
            matrix.questions.assign(split="train"),
            matrix.questions.assign(split=["test"] + ["train"] * 39),
            matrix.questions.assign(benchmark="one"),
        ):
            hashes.add(answers_sha256(CorrectnessMatrix(frame, questions, matrix.embeddings)))
        renamed = frame.rename(index={"model-3": "other"})
        hashes.add(answers_sha256(CorrectnessMatrix(renamed, matrix.questions, matrix.embeddings)))
        assert len(hashes) == 6

    def test_does_not_change_with_the_rest(self, make_matrix):
        matrix = make_matrix()
        frame = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
        other = CorrectnessMatrix(frame, matrix.questions, matrix.embeddings + 1, source="a copy")
        assert answers_sha256(other) == answers_sha256(matrix)


@pytest.mark.parametrize("text", ['{"toy": {"sha256": "x"', '{"toy": {"data": "x"}}', "[]"])
def test_damaged_file_is_refused(tmp_path, toy, text):
    path = tmp_path / "records.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"records.json is not a complete record .*run tools/record_it.py again"):
        find_record("none.json", toy, path, "tools/record_it.py")


@pytest.mark.slow
def test_tool_records_what_the_page_reads(tmp_path, make_matrix, write_long_form):
    matrix = make_matrix(n_models=24, n_questions=90, n_benchmarks=3, missing=0.1)
    folders = [write_long_form(tmp_path / "pools" / name, matrix, seed=seed) for seed, name in enumerate("ab")]
    (tmp_path / "data").mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = []
    for pools in (["pools/a"], ["pools/b"], ["pools/a", "pools/b"]):
        command = [sys.executable, str(Path(__file__).parents[2] / "tools" / "record_sgd.py"), *pools]
        said.append(subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True))
    assert [run.stdout.splitlines()[0].partition(", ")[0] for run in said] == [
        "recorded pools/a", "recorded pools/b", "pools/a is recorded already",
    ]  # fmt: skip
    path = tmp_path / "data" / "sgd_heldout.json"
    read = load_dataset(folders[0])
    recorded, about = recorded_heldout(read, path)
    mf = MatrixFactorization(dim=232, alpha=0.05, solver="sgd")
    computed = predict_heldout(read, {"SGD": mf})
    expected = computed.splits[computed.splits["predictor"] == "SGD"].reset_index(drop=True)
    pd.testing.assert_frame_equal(recorded.splits, expected, check_exact=False, atol=1e-5, check_dtype=False)
    assert recorded.models["benchmark"].unique().tolist() == ["bench-0"]
    assert len(recorded.models) == 24
    assert about.loc[0, "settings"] == "dim 232, alpha 0.05, preset paper, seed 0"
    assert path.stat().st_size < 30_000
