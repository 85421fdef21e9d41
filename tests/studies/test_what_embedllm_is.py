"""What the factorization is: each step of the argument against a slow computation, and the comparison with SGD."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import t as student

from embedllm import PRESETS, MatrixFactorization
from embedllm.studies.what_embedllm_is import (
    distance_table,
    noise_penalty_table,
    optimum_from_random_starts,
    paired_differences,
    recorded_in_words,
    solver_values,
    truncation_table,
)

# The tool that compares the solvers on several pools.
RECORDER = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "record_solvers.py"))


@pytest.fixture(scope="module")
def parts(make_matrix):
    return make_matrix(n_models=8, n_questions=300, missing=0.2).split(random_state=1)


@pytest.fixture(scope="module")
def mf(parts):
    return MatrixFactorization(dim=8, alpha=0.5, tol=1e-5, device="cpu").fit(parts.train)


@pytest.fixture(scope="module")
def sgd():
    return MatrixFactorization(solver="sgd", preset=replace(PRESETS["paper"], epochs=2), device="cpu")


def test_truncation_is_compared_with_all_dimensions(mf, parts):
    table = truncation_table(mf, parts.test, [1, 3, 8])
    whole, cut = (mf.truncated(dim).predict_matrix(parts.test) for dim in (8, 1))
    assert table.loc[8, "largest_difference"] == 0
    assert table.loc[1, "largest_difference"] == pytest.approx(np.abs(whole - cut).max())
    assert table["explained"].is_monotonic_increasing and table.loc[8, "explained"] == pytest.approx(1)
    assert table.loc[8, "accuracy"] == pytest.approx(mf.score(parts.test))


def test_noise_on_the_questions_raises_the_loss_by_the_second_order_term(mf, parts):
    table = noise_penalty_table(mf, parts.train, [0.02, 0.2])
    # The noise itself, on the questions, for the smaller alpha's tenfold: drawn cell by cell.
    rng, train = np.random.default_rng(0), parts.train
    order = [list(mf.model_names_).index(name) for name in train.model_names]
    u, t = mf.coef_[order].astype(float), mf.intercept_[order].astype(float)
    z, rises = u @ train.embeddings.T + t[:, None], []
    for _ in range(400):
        moved = u @ (train.embeddings + 0.2 * rng.standard_normal(train.embeddings.shape)).T + t[:, None]
        loss = np.logaddexp(0, moved) - train.labels * moved - np.logaddexp(0, z) + train.labels * z
        rises.append(loss[train.observed].mean())
    assert table.loc[0.2, "noise"] == pytest.approx(np.mean(rises), rel=0.1)
    s = expit(z)
    by_hand = (0.02**2 / 2 * (u**2).sum(axis=1)[:, None] * s * (1 - s))[train.observed].mean()
    assert table.loc[0.02, "ridge"] == pytest.approx(by_hand)
    assert table.loc[0.02, "noise"] == pytest.approx(by_hand, rel=0.05)


def test_random_starts_end_at_one_optimum(parts):
    table = optimum_from_random_starts(parts.train, parts.test, 0.5, tol=1e-5)
    assert (table["at_start"] > 0.1).all()
    assert (table["at_end"] < 1e-3).all()


def test_distances_are_computed_pair_by_pair(mf, parts):
    table = distance_table(mf, parts.train)
    assert len(table) == 8 * 7 // 2
    order = [list(mf.model_names_).index(name) for name in parts.train.model_names]
    z = mf.coef_[order].astype(float) @ parts.train.embeddings.T + mf.intercept_[order, None]
    assert table["logits"].iloc[0] == pytest.approx(np.sqrt(((z[0] - z[1]) ** 2).mean()))
    np.testing.assert_allclose(table["embedding"], table["logits"], atol=1e-5)


@pytest.fixture(scope="module")
def comparison(make_matrix, sgd):
    matrix = make_matrix(n_models=6, n_questions=120)
    return matrix, RECORDER["compare_solvers"](matrix, sgd, dims=(2, 6), n_seeds=2)


def test_comparison_has_every_solver_dim_and_split(comparison):
    matrix, scores = comparison
    counts = scores.groupby(["solver", "tuned"]).size()
    assert counts.to_dict() == {
        ("SGD", False): 4,
        ("SGD", True): 4,
        ("exact", False): 4,
        ("exact", True): 4,
        ("exact, pool prior", True): 4,
    }
    assert set(scores.loc[~scores["tuned"], "alpha"]) == {0.05}
    assert set(scores.loc[scores["tuned"] & (scores["solver"] == "SGD"), "alpha"]) <= set(RECORDER["ALPHAS"])
    train, _, test = matrix.split(random_state=1)
    exact = MatrixFactorization(dim=2, alpha=0.05, device="cpu").fit(train)
    row = scores.query("solver == 'exact' and not tuned and dim == 2 and seed == 1").iloc[0]
    assert row["accuracy"] == pytest.approx(exact.score(test))
    full = scores[(scores["dim"] == 6) & ~scores["tuned"]].groupby("solver")["objective"].mean()
    assert full["exact"] < full["SGD"]


def test_differences_are_paired_over_the_splits():
    rows = [
        ("pool", seed, solver, 4, True, loss)
        for seed, losses in enumerate([(0.5, 0.4), (0.6, 0.45), (0.7, 0.65)])
        for solver, loss in zip(("SGD", "exact"), losses, strict=True)
    ]
    scores = pd.DataFrame(rows, columns=["data", "seed", "solver", "dim", "tuned", "log_loss"])
    row = paired_differences(scores).loc[("pool", "exact", 4)]
    differences = np.array([-0.1, -0.15, -0.05])
    # Of each split, 10 % of the questions are for testing and 80 % for training.
    margin = student.ppf(0.975, 2) * differences.std(ddof=1) * np.sqrt(1 / 3 + 10 / 80)
    assert row["difference"] == pytest.approx(-0.1)
    assert (row["low"], row["high"]) == pytest.approx((-0.1 - margin, -0.1 + margin))
    assert row["splits"] == 3
    assert row["verdict"] == "not clear"  # from -0.268 to 0.068


def test_overlap_of_the_splits_can_undo_a_verdict():
    # Five differences of mean -0.1 and standard deviation 0.07: plain Student's t gives -0.187 to -0.013.
    differences = -0.1 + 0.07 * np.array([-1, -1, 0, 1, 1])
    rows = [
        ("pool", seed, solver, 4, True, loss)
        for seed, difference in enumerate(differences)
        for solver, loss in (("SGD", 0.5), ("exact", 0.5 + difference))
    ]
    scores = pd.DataFrame(rows, columns=["data", "seed", "solver", "dim", "tuned", "log_loss"])
    row = paired_differences(scores).loc[("pool", "exact", 4)]
    plain = student.ppf(0.975, 4) * differences.std(ddof=1) / np.sqrt(5)
    assert row["difference"] + plain < 0 < row["high"]
    assert row["verdict"] == "not clear"


@pytest.mark.parametrize(("value", "verdict"), [(0.4, "better than SGD"), (0.6, "worse than SGD")])
def test_verdict_says_which_way_is_better(value, verdict):
    rows = [
        ("pool", seed, solver, 4, True, loss)
        for seed in range(3)
        for solver, loss in (("SGD", 0.5), ("exact", value + seed / 1000))
    ]
    scores = pd.DataFrame(rows, columns=["data", "seed", "solver", "dim", "tuned", "log_loss"])
    assert paired_differences(scores)["verdict"].tolist() == [verdict]


def test_record_in_words():
    rows = [
        ("pool", seed, solver, dim, tuned, loss + seed / 1000, seconds)
        for seed in range(3)
        for solver, loss, seconds in (("SGD", 0.5, 12.0), ("exact", 0.4, 0.75))
        for dim in (4, 8)
        for tuned in (True, False)
    ]
    columns = ["data", "seed", "solver", "dim", "tuned", "log_loss", "seconds"]
    stability = pd.DataFrame(
        [
            ("pool", "SGD", "seeds", 0.031, 0.3),
            ("pool", "exact", "seeds", 0.0, 0.0),
            ("pool", "SGD", "bootstrap samples", 0.05, 0.25),
            ("pool", "exact", "bootstrap samples", 0.06, 0.5),
        ],
        columns=["data", "solver", "between", "forecasts", "routes"],
    )
    assert recorded_in_words(pd.DataFrame(rows, columns=columns), stability) == {
        "seconds": "pool 0.8 s (SGD 12 s)",
        "loss": "pool -0.1000 (-0.1000 to -0.1000), better than SGD",
        "seeds": "pool 0.0 % (SGD 3.1 %)",
        "samples": "pool 50.0 % (SGD 25.0 %)",
    }


def test_exact_fit_does_not_change_between_seeds_and_sgd_does(make_matrix, sgd):
    matrix = make_matrix(n_models=6, n_questions=120)
    estimators = {"SGD": sgd, "exact": MatrixFactorization(alpha=0.5, device="cpu")}
    table = RECORDER["stability"](matrix, estimators, n_fits=2).set_index(["solver", "between"])
    assert table.loc[("exact", "seeds"), ["forecasts", "routes"]].tolist() == [0, 0]
    assert table.loc[("exact", "seeds"), "distances"] == pytest.approx(1)
    assert table.loc[("SGD", "seeds"), "routes"] > 0
    assert 0 < table.loc[("exact", "bootstrap samples"), "forecasts"] < 0.5


def test_reported_values(mf, parts):
    noise = pd.DataFrame({"noise": [2.0, 3.0], "ridge": [2.0, 4.0]}, [0.1, 0.2])
    starts = pd.DataFrame({"at_end": [1e-4, 2e-4]})
    values = {value.key: value.runs[0] for value in solver_values(noise, starts, distance_table(mf, parts.train))}
    assert values["noise_ratio"] == 0.75
    assert values["start_difference"] == 2e-4
