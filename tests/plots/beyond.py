"""The call that draws each figure of the pages beyond the paper, on made-up results."""

from itertools import product

import numpy as np
import pandas as pd

from embedllm.plots.new_models import plot_asking, plot_benchmark_errors, plot_new_models
from embedllm.plots.portfolio import plot_pairs, plot_portfolio
from embedllm.plots.prices import plot_frontiers
from embedllm.plots.selective_routing import plot_kept, plot_reliability_of_choices
from embedllm.plots.sensitivity import plot_divisions, plot_encodings


def beyond_figures(pool):
    """By the name of its function."""
    return {
        "plot_frontiers": lambda: plot_frontiers(*_made_up_frontiers(pool)),
        **_new_model_figures(pool),
        **_portfolio_figures(pool),
        **_sensitivity_figures(pool),
        **_selective_figures(pool),
    }


def _new_model_figures(pool):
    """Those of the page on new models, on made-up results."""
    keys = [
        *product(("pool prior", "ridge, no pool"), ("random", "stratified"), (8, 64)),
        ("all answers", "random", 900),
    ]
    table = pd.DataFrame(keys, columns=["method", "asking", "n"]).assign(data=pool.source)
    for name, value in (("accuracy", 70.0), ("log_loss", 0.5)):
        table[name] = value + 0.01 * np.arange(len(table))
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - 0.1, table[name] + 0.1
    errors = pd.DataFrame(list(product(("predictions", "subset mean"), (8, 64))), columns=["estimate", "n"])
    errors = errors.assign(data=pool.source, error=[9.0, 5.0, 20.0, 6.0], low=4.0, high=21.0)
    return {
        "plot_new_models": lambda: plot_new_models(table[table["asking"] == "random"]),
        "plot_asking": lambda: plot_asking(table[table["method"] != "ridge, no pool"]),
        "plot_benchmark_errors": lambda: plot_benchmark_errors(errors),
    }


def _portfolio_figures(pool):
    """Those of the page on portfolios, on made-up results."""
    keys = product(("greedy choice", "most accurate models", "random models"), range(1, pool.n_models + 1))
    table = pd.DataFrame(list(keys), columns=["models", "k"]).assign(data=pool.source, low=-2.0, high=1.0)
    table = table.assign(accuracy=50 + table["k"], minus=table["k"] - float(pool.n_models))
    one, two = np.triu_indices(pool.n_models, k=1)
    pairs = pd.DataFrame({"data": pool.source, "model": pool.model_names[one], "other": pool.model_names[two]})
    number = np.arange(len(pairs))
    pairs = pairs.assign(distance=1 + number / 10, correlation=0.5 - number / 50, flagged=number < 3)
    return {
        "plot_portfolio": lambda: plot_portfolio(table, 200),
        "plot_pairs": lambda: plot_pairs(pairs.assign(same_family=number % 5 == 1)),
    }


def _made_up_frontiers(pool):
    """Settings and gains as `Frontiers` has them, on made-up results."""
    methods = {"stack": [1, 2, 4], "my own": [1, 3], "oracle": [1, 2], "random mixture": [1, 3, 5]}
    methods |= {"single models": [1, 2, 3, 5], "best single model": [5]}
    rows = [(name, str(k), cost, 40.0 + 5 * cost) for name, costs in methods.items() for k, cost in enumerate(costs)]
    facts = {"data": pool.source, "unit": "US dollars"}
    table = pd.DataFrame(rows, columns=["method", "setting", "cost", "accuracy"]).assign(**facts)
    gains = pd.DataFrame(list(product(("stack", "my own", "oracle"), (1, 3, 5))), columns=["method", "cost"])
    ends = {"points": 2.0, "low": [np.nan, 1.0, 1.0] * 3, "high": [np.nan, 3.0, 3.0] * 3}
    return table, gains.assign(**facts, **ends)


def _sensitivity_figures(pool):
    """Those of the page on the encoder and the division, on made-up results."""
    table = pd.DataFrame(list(product(("one", "two", "three"), ("MF", "my own"))), columns=["encoding", "predictor"])
    table = table.assign(
        data=pool.source, n_questions=200, rule=table["encoding"], leaks=5.0, difference="MF minus KNN"
    )
    for kind in ("loss", "routing", "accuracy"):
        table[f"{kind}_minus"] = [0.0, 0.0, 1.0, 2.0, -1.0, 0.5]
        table[f"{kind}_low"], table[f"{kind}_high"] = table[f"{kind}_minus"] - 1, table[f"{kind}_minus"] + 1
    rules = table.assign(gap=1.0, interval_0=[np.nan, np.nan, 0, 0, 0, 0], interval_1=2.0)
    return {
        "plot_encodings": lambda: plot_encodings(table, "one"),
        "plot_divisions": lambda: plot_divisions(rules, "one"),
    }


def _selective_figures(pool):
    """Those of the page on selective routing, on made-up results."""
    curves = pd.DataFrame(product(("stack", "oracle order"), (50.0, 100.0)), columns=["method", "kept"])
    ends = {
        f"{column}_{end}": [60.0, 50.0, np.nan, np.nan] for column in ("accuracy", "gain") for end in ("low", "high")
    }
    curves = curves.assign(data=pool.source, n_questions=40, accuracy=70.0, gain=[1, 0, np.nan, np.nan], **ends)
    fifths = pd.DataFrame(product(("MF", "stack"), range(1, 6)), columns=["method", "fifth"]).assign(data=pool.source)
    numbers = {f"{column}{end}": 5.0 for column in ("excess", "accuracy") for end in ("", "_low", "_high")}
    fifths = fifths.assign(at=fifths["fifth"] / 5, n_questions=8, **numbers)
    return {
        "plot_kept": lambda: plot_kept(curves, "stack"),
        "plot_reliability_of_choices": lambda: plot_reliability_of_choices(fifths, fifths),
    }
