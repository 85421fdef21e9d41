"""Costs: formulas against PyTorch's own count, and the tables of the page."""

import platform

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from embedllm import KNNCorrectness, MatrixFactorization, TrainingPreset
from embedllm.predictors._answers import Answers
from embedllm.predictors.exact import Problem
from embedllm.predictors.sgd import init_parameters
from embedllm.protocol.flops import count_flops, initial_parameters, pair_logits
from embedllm.studies.cost import (
    PAPER_SHAPE,
    cost_values,
    describe_machine,
    measure_costs,
    measured_values,
    paper_conventions,
    parameter_table,
    routing_flops,
    shape_of,
    training_flops,
)

MF, KNN = MatrixFactorization(dim=5, alpha=0.1), KNNCorrectness(3)


@pytest.fixture(scope="module")
def parts(toy_with_holes):
    return toy_with_holes.split(random_state=0)


@pytest.fixture(scope="module")
def costs(parts):
    return measure_costs(parts.train, parts.test, MF, KNN)


class TestParameters:
    def test_are_those_of_a_fit(self, toy):
        table = parameter_table(toy, MF)
        brief = TrainingPreset(pairs_per_step=64, epochs=1, learning_rate=0.01, weight_decay=0)
        mf = MatrixFactorization(dim=5, solver="sgd", preset=brief).fit(toy)
        assert table.loc["all trained", "parameters"] == sum(value.numel() for value in mf.parameters_)
        assert table["parameters"].tolist()[:5] == [value.numel() for value in mf.parameters_]
        assert table.loc["Q.weight (authors' checkpoint)", "parameters"] == 40 * 12
        assert not table.loc["Q.weight (authors' checkpoint)", "trained"]
        assert table.loc["text_proj.weight", "shape"] == "5 x 12"
        np.testing.assert_allclose(table["MB"], 4e-6 * table["parameters"])

    def test_the_papers_by_hand(self):
        trained = 112 * 232 + 232 * 768 + 232 + 2 * 232 + 2
        assert trained == 204_858
        assert sum(value.numel() for value in init_parameters(*PAPER_SHAPE, torch.Generator())) == trained


class TestFlops:
    def test_a_whole_fit_by_sgd(self, parts):
        """All products of a whole fit; the formula uses the numbers of questions and epochs only."""
        mf = MatrixFactorization(dim=5, solver="sgd", preset="paper")
        counted = count_flops(lambda: mf.fit(parts.train))
        # After the last step the fit multiplies its parameters out: a product of each model with the projection.
        n_models, width, dim = shape_of(parts.train, mf)
        counted -= 2 * n_models * dim * width
        expected = training_flops(parts.train, clone(MF).fit(parts.train)).loc["by block"]
        assert counted == pytest.approx(1e12 * expected["TFLOPs"], abs=2 * n_models * dim)
        assert expected["epochs"] == len(mf.history_)

    def test_passes_of_the_exact_fit(self, parts):
        answers = Answers(parts.train, sorted(parts.train.model_names), torch.device("cpu"))
        problem = Problem(answers)
        mf = clone(MF).fit(parts.train)
        counted = count_flops(lambda: problem.objective(problem.start, problem.ridge(0.1)))
        # Beside the products of the pass: the logit at the mean question, and the penalty.
        n_models, width, _ = shape_of(parts.train, mf)
        counted -= 2 * n_models * (width + (width + 1) ** 2)
        expected = training_flops(parts.train, mf).loc["exact"]
        assert counted * (mf.n_iter_ + 1) == pytest.approx(1e12 * expected["TFLOPs"], rel=1e-3)

    def test_training_table(self, parts):
        table = training_flops(parts.train, clone(MF).fit(parts.train))
        np.testing.assert_allclose(table["TFLOPs"], table["counted TFLOPs"])
        assert table.loc["by pair", "pairs"] == parts.train.observed.sum() < 6 * parts.train.n_questions
        # A pair: project forward and its gradient, classify forward and two gradients.
        each = 2 * (2 * 12 * 5) + 3 * (2 * 5 * 2)
        assert table.loc["by pair", "TFLOPs"] == pytest.approx(each * 50 * parts.train.observed.sum() / 1e12)
        block = 2 * (2 * 12 * 5) + 3 * (2 * 5 * 6)
        assert table.loc["by block", "TFLOPs"] == pytest.approx(block * 50 * parts.train.n_questions / 1e12)
        assert table["data"].tolist() == ["the paper's", *["own data"] * 3]

    def test_conventions(self):
        table = paper_conventions()
        weights = 768 * 232 + 232 * 2
        passes = 20_000 * 112 * 50
        assert table.loc["forward, multiply-adds", "TFLOPs"] == pytest.approx(passes * weights / 1e12)
        assert table.loc["three times forward", "TFLOPs"] == pytest.approx(passes * weights * 6 / 1e12)
        needed = 4 * 768 * 232 + 6 * 232 * 2
        assert table.loc["forward and the gradients needed", "TFLOPs"] == pytest.approx(passes * needed / 1e12)
        # What the page says of them: none is the published figure, and the last is the nearest.
        off = (table["TFLOPs"] / 107.71 - 1).abs()
        assert off.min() > 0.1
        assert off.idxmin() == "three times forward"
        assert table.loc["three times forward", "questions for the published"] == 17_945
        for row in table.itertuples():
            assert row.TFLOPs * row[3] / 20_000 == pytest.approx(107.71, rel=1e-4)

    def test_routing(self, parts):
        mf = clone(MF).fit(parts.train)
        table = routing_flops(parts.train, mf)["MFLOPs"]
        # PyTorch's count of the products.
        vector, everyone = parts.test.embeddings[:1], torch.arange(6)
        assert 1e6 * table["MF"] == count_flops(lambda: mf.predict_proba(vector)) == 2 * 12 * 6
        pairs = torch.tensor(vector).expand(6, -1)
        parameters = initial_parameters(shape_of(parts.train, mf))
        assert 1e6 * table["MF, by pair"] == count_flops(lambda: pair_logits(parameters, pairs, everyone))
        assert 1e6 * table["KNN"] == 2 * 12 * parts.train.n_questions


class TestCosts:
    def test_table(self, parts, costs):
        table = costs
        assert table.index.is_unique
        assert (table["seconds"] > 0).all()
        assert (table["data"] == parts.train.source).all()
        assert table.loc["mf_fit", "questions"] == parts.train.n_questions
        assert (table.loc[table["what"] != "fit", "questions"] == parts.test.n_questions).all()
        np.testing.assert_allclose(table["ms a question"], 1000 * table["seconds"] / table["questions"])
        np.testing.assert_allclose(table["s for 3,000"], 3 * table["ms a question"])

    def test_slow_routers_take_some_of_the_questions(self, toy, make_matrix):
        many = make_matrix(n_questions=130, seed=1)
        table = measure_costs(toy, many, MF, KNN)
        single = table[table["what"] == "route one at a time"].set_index("method")["questions"]
        assert single.to_dict() == {"MF": 130, "MF, by pair": 100, "KNN": 100}

    def test_quoted_as_floats(self, costs):
        quoted = measured_values(costs)
        assert quoted["mf_fit_seconds"] == costs.loc["mf_fit", "seconds"]
        assert quoted["mf_batch_for_3000"] == costs.loc["mf_batch", "s for 3,000"]
        assert {"knn_batch_ms", "mf_fit_mb"} <= set(quoted)
        assert all(type(value) is float for value in quoted.values())

    def test_machine_is_not_named(self):
        table = describe_machine()
        assert table.loc["PyTorch"].item() == torch.__version__
        assert platform.node() not in table["this machine"].tolist()
        assert not table["this machine"].str.contains("/").any()


def test_values(toy_with_holes, parts):
    train, mf = parts.train, clone(MF).fit(parts.train)
    tables = parameter_table(toy_with_holes, mf), paper_conventions(), training_flops(train, mf)
    found = {each.key: each.value for each in cost_values(*tables, routing_flops(train, mf))}
    assert found["flop_gap"] == 0
    assert found["paper_needed"] == pytest.approx(80.13, abs=0.01)
    assert found["paper_thrice"] == pytest.approx(120.05, abs=0.01)
    assert found["block_saving"] == pytest.approx(found["pair_training"] / found["block_training"])
    assert not pd.Series(found).isna().any()
