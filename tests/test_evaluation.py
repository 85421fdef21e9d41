"""The report on a pool: its verdict follows the intervals, and its page needs no other file."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from embedllm.evaluation import (
    BASELINE,
    ROUTER,
    SHARES,
    SINGLE,
    compare,
    division,
    method_table,
    report_html,
    verdict,
)
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.baselines import BenchmarkMean
from embedllm.protocol.routers import UniformRandom
from embedllm.studies.baselines import OnShare


@pytest.fixture(scope="module")
def pool():
    """Two models, each good at one benchmark, which the embedding shows."""
    rng = np.random.default_rng(0)
    side = np.arange(400) % 2
    embeddings = np.eye(2)[side] + 0.1 * rng.standard_normal((400, 2))
    labels = rng.random((2, 400)) < np.array([0.2 + 0.6 * (side == 0), 0.2 + 0.6 * (side == 1)])
    questions = pd.DataFrame({"benchmark": np.array(["sums", "<b>reigns</b>"])[side]})
    return CorrectnessMatrix(
        pd.DataFrame(labels.astype(int), ["a", "<i>b</i>"]), questions, embeddings, source="my <u>pool</u>"
    )


@pytest.fixture(scope="module")
def comparison(pool):
    return compare(pool, seed=1, n_runs=2, sizes=True)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_router_is_compared_with_the_baselines(comparison):
    table = method_table(comparison)
    assert {ROUTER, BASELINE, SINGLE, "best model per benchmark"} <= set(table.index)
    assert not set(SHARES) & set(table.index)
    assert table.loc[SINGLE, "gain"] == 0
    assert table.loc[ROUTER, "gain_low"] > 0
    assert verdict(comparison).startswith("Yes: the router answers more")


@pytest.mark.parametrize(
    ("router", "per_benchmark", "begins"),
    [
        (0.0, 0.0, "Not shown"),
        (0.2, 0.2, "Yes"),
        (0.2, 0.4, "A router is better than one model for all questions, but"),
        (-0.2, 0.2, "No"),
    ],
)
def test_verdict_follows_the_intervals(router, per_benchmark, begins):
    noise = np.random.default_rng(0).normal(0, 0.01, 500)
    accuracies = pd.DataFrame({SINGLE: 0.5, ROUTER: 0.5 + router + noise})
    accuracies["best model per benchmark"] = 0.5 + per_benchmark - noise
    assert verdict(SimpleNamespace(routes=SimpleNamespace(resampled=lambda: accuracies))).startswith(begins)


def test_page_is_complete_and_names_are_text(pool, comparison):
    page = report_html(pool, comparison, seed=1)
    tags = Tags(page).found
    assert not {"b", "i", "u", "script", "link"} & {name for name, _ in tags}
    images = [attributes for name, attributes in tags if name == "img"]
    assert len(images) == 2
    for image in images:
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert image["alt"]
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "my &lt;u&gt;pool&lt;/u&gt;" in page
    assert verdict(comparison) in page
    for size in (80, 160, 320):
        assert f"<td>{size}</td>" in page


def test_random_divisions_in_words(pool, comparison):
    words = "Questions: 2 random divisions; fitted to 80 %, measured on 10 % (n = 40)"
    assert division(comparison) == words
    assert words in report_html(pool, comparison, seed=1)
    assert "1 random division;" in division(comparison._replace(runs=comparison.runs[:1]))


def test_division_of_the_source_is_one_run(pool):
    labels = pd.DataFrame(pool.labels, pool.models.index, pool.questions.index)
    questions = pool.questions.assign(split=np.repeat(["train", "val", "test"], [200, 100, 100]))
    divided = CorrectnessMatrix(labels, questions, pool.embeddings)
    comparison = compare(divided, seed=1, n_runs=3, sizes=True)
    (run,) = comparison.runs
    assert run.split.test.question_ids.tolist() == divided.question_ids[300:].tolist()
    words = "Questions: the division of the source; fitted to 50 %, measured on 25 % (n = 100)"
    assert division(comparison) == words
    assert words in report_html(divided, comparison, seed=1)
    with pytest.raises(ValueError, match="n_runs must be a positive whole number, got 0"):
        compare(divided, n_runs=0)


def test_groups_stay_in_one_part(pool):
    grouped = pool.subset()
    grouped.questions = grouped.questions.assign(passage=np.arange(400) // 40)
    (run,) = compare(grouped, n_runs=1, group_by="passage").runs
    assert not set(run.split.train.questions["passage"]) & set(run.split.test.questions["passage"])


class SideOfTheFirstAxis(CorrectnessPredictor):
    """Knows how the pool was made: the first model is good where the first number of the embedding is large."""

    def fit(self, matrix):
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):
        first = np.where(embeddings[:, 0] > 0.5, 0.8, 0.2)
        return np.column_stack([first, 1 - first]).astype(np.float32)


def test_further_predictors_and_routers_are_compared_too(pool, comparison):
    given = {"predictors": {"mine": SideOfTheFirstAxis()}, "routers": {"by chance": UniformRandom()}}
    with_mine = compare(pool, seed=1, n_runs=2, sizes=True, **given)
    table = method_table(with_mine)
    assert table.loc["mine", "log_loss"] < table.loc[BASELINE, "log_loss"] + 0.01
    assert table.loc["mine", "gain_low"] > 0
    assert abs(table.loc["by chance", "gain"]) < 10
    pd.testing.assert_frame_equal(table.drop(index=["mine", "by chance"]), method_table(comparison))
    page = report_html(pool, with_mine, seed=1)
    assert "<th>mine</th>" in page
    assert "<th>by chance</th>" in page


def test_further_names_are_new(pool):
    for given in ({"predictors": {ROUTER: BenchmarkMean()}}, {"routers": {SINGLE: UniformRandom()}}):
        with pytest.raises(ValueError, match=r"there is a predictor or router '.*' already: give yours another name"):
            compare(pool, **given)


def test_share_of_the_questions(pool):
    everything = BenchmarkMean().fit(pool)
    half = OnShare(BenchmarkMean(), 0.5).fit(pool)
    assert half.predictor_.model_names_.tolist() == everything.model_names_.tolist()
    asked = pool.embeddings[:3]
    assert not np.array_equal(half.predict_proba(asked), everything.predict_proba(asked))
    assert np.array_equal(OnShare(BenchmarkMean(), 1.0).fit(pool).predict_proba(asked), everything.predict_proba(asked))


def test_too_few_questions_are_refused_before_any_fit(pool):
    with pytest.raises(ValueError, match=r"nothing can be held out of .* 3 questions.*evaluate it with more questions"):
        compare(pool.subset(questions=pool.question_ids[:3]))
