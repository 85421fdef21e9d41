"""The recorded comparison of the solvers: complete, or refused."""

import json

import pandas as pd
import pytest

from embedllm.protocol.recorded import load_recorded_comparison


def frame(**columns):
    return json.loads(pd.DataFrame(columns).to_json(orient="split", index=False))


def pool(data):
    about = {"date": "2026-01-01", "data": data, "n_models": 3, "n_questions": 9, "labels_sha256": "ab"}
    scores = frame(data=[data, data], log_loss=[0.5, 0.25])
    return about | {"scores": scores, "curves": frame(data=[data]), "stability": frame(data=[data])}


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
