# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Model routing
#
# What is gained when each question goes to the model that is most likely to answer it correctly?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
The paper's [Figure 4](#routing-paper-routers): the MF router obtains {route_mf:.2f} % correct answers, the best single model
{route_single:.2f} %, and models drawn at random as often as MF chooses them {route_weighted:.2f} %. Ours: the best model per
benchmark obtains {route_best_of_benchmark:.2f} %. With 95 % intervals:

- MF minus the best single model: {route_gain_words};
- MF minus the best model per benchmark: {route_gain_benchmark_words}.
""")

# %% [markdown]
# **In the paper:** Figure 4, Section 5.2. **Published:** the time to route 3,000 questions; of the accuracies only a picture.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = "auto"  # noise in training: MF's ridge penalty
n_neighbors: int = 131  # k of KNN
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from embedllm import (
    KNNCorrectness,
    MatrixFactorization,
    fit_runs,
    load_dataset,
    load_published,
)
from embedllm.plots.routing import (
    plot_paper_routers,
    plot_route_shares,
    plot_router_gains,
    plot_routers,
)
from embedllm.predictors.ceiling import ceiling_of
from embedllm.protocol.reported_values import report
from embedllm.protocol.routers import (
    HighestScore,
    PredictedBest,
    standard_policies,
)
from embedllm.protocol.shared_fit import paper_training
from embedllm.protocol.tally import difference_table, percent_table
from embedllm.studies.routing import (
    mean_route_shares,
    paper_routers,
    route_runs,
    route_table,
    route_values,
    tally_routes,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Figure 4: three routers
#
# The paper compares its router with two others:
#
# - `MF`: the model with the highest predicted probability of a correct answer;
# - `best single model`: one model for every question, the one with the best training accuracy. On each benchmark, it
#   is chosen anew among the training questions of that benchmark;
# - `weighted random`: models drawn at random, as often as MF chooses them. This is an exact expectation over the draws.
#
# Accuracies are means over the runs. The heights of the paper's bars are not published as numbers.

# %%
predictors = {
    "MF": MatrixFactorization(dim=dim, alpha=alpha),
    "KNN": KNNCorrectness(n_neighbors=n_neighbors),
    **(ceiling := ceiling_of(dataset, scale, seed)),
}
policies = standard_policies("MF", "KNN")
policies |= {name: PredictedBest(name) for name in ceiling}
runs = list(fit_runs(matrix, predictors, seed, n_seeds))
routes = list(route_runs(runs, policies))
tally = tally_routes(routes)
evaluation = route_table(tally)
plot_paper_routers(paper_routers(evaluation, mf="MF"))

# %%
percent_table(paper_routers(evaluation, mf="MF"), "router")

# %% [markdown]
# ## The formula
#
# The router of the paper sends question $q$ to the model with the highest predicted probability $s(m, q)$ of a correct
# answer; its accuracy is the share of correct answers $y$ that it obtains:
#
# $$\begin{aligned}
# \hat m(q) &= \arg\max_m s(m, q), \\
# \text{accuracy} &= \frac{1}{n} \sum_q y_{\hat m(q)\, q}.
# \end{aligned}$$
#
# Here for the first run, over the models whose answer was observed:

# %%
test, s = runs[0].split.test, runs[0].probabilities["MF"]
asked = np.flatnonzero(test.observed.any(axis=0))  # questions
chosen = np.where(test.observed, s, -1.0).argmax(axis=0)
print(f"accuracy: {(test.labels[chosen[asked], asked] == 1).mean():.4f}")

# %% [markdown]
# With at least as many dimensions as models, MF truncates nothing: it is one logistic regression a model
# ([What EmbedLLM is](../notebooks/what_embedllm_is)).

# %%
used = runs[0].predictors["MF"].dim_
print(
    f"dim {dim} and {matrix.n_models} models: "
    + (
        "nothing is truncated"
        if dim >= matrix.n_models
        else "the first dimensions of the exact fit are kept"
    )
    + f"; {used} dimensions are in use"
)

# %% [markdown]
# ## Ours: more routers
#
# - `oracle`: a model that is correct, if there is one. It knows the answers, also those that are correct by chance,
#   so that no router that does not know them can be expected to reach it.
# - `best model per benchmark`: the model with the best training accuracy on the benchmark of the question, which
#   has to be known; MF is not told it.
# - `KNN`: as MF, by the predictions of the nearest questions ([KNN](../glossary)).
# - `SGD`: as MF, by the paper's training instead of the exact solution, **in the first run only**. The fit is that of the
#   pages on [forecasting](../notebooks/forecasting) and [communities](../notebooks/communities).
# - `uniform random`: each model with the same probability.
# - `ceiling`, on the simulated pool only: as MF, by the expected probability given the text, from the
#   ground truth. No router that reads the text can be expected to be better.
#
# Every router chooses among the models whose answer to the question was observed. Ties go to the name that comes first.
# Markers are means over the runs, bars two standard errors over questions to each side. SGD's markers are those of the
# first run: where the brackets show two numbers of questions, the runs differ in their test questions, and SGD is to be
# compared with MF by the paired difference below, not by the markers.

# %%
(sgd,) = fit_runs(matrix, {"SGD": paper_training()}, seed, n_seeds=1)
first = tally_routes(
    route_runs(
        [runs[0].with_those_of(sgd)],
        {name: PredictedBest(name) for name in ("MF", "SGD")},
    )
)
in_first = route_table(first)
everyone = pd.concat([in_first.query("router == 'SGD'"), evaluation])
plot_routers(everyone)

# %%
overall = everyone.query("benchmark == 'overall'").set_index("router")
overall.drop(columns="benchmark").round(4)

# %% [markdown]
# Accuracy by benchmark, in percent:

# %%
percent_table(everyone, "router")

# %% [markdown]
# ## Ours: the gain of MF
#
# Against the best single model, with 95 % intervals. They are [paired](../glossary): questions are
# resampled with the routes of all routers, so that the difficulty of a question, which they share, cancels out. An
# interval that contains zero is no evidence for either sign.

# %%
gains = tally.differences("best single model")
plot_router_gains(gains)

# %% [markdown]
# Overall, in points:

# %%
gains.query("benchmark == 'overall'").drop(columns="benchmark").round(2)

# %% [markdown]
# MF in points by benchmark: against the best single model, which is one model for all benchmarks here; against the best
# model per benchmark, which needs to know the benchmark of a question; and against the weighted random router, which asks
# the same models as often. The last is not what MF adds to a model that one could choose without it.

# %%
pd.concat(
    [
        difference_table(
            tally.differences(name).query("router == 'MF'"), "router"
        )
        for name in (
            "best single model",
            "best model per benchmark",
            "weighted random",
        )
    ],
    axis=1,
)

# %% [markdown]
# MF against the paper's training of it, in the first run:

# %%
difference_table(first.differences("SGD"), "router")

# %% [markdown]
# ## Ours: which models are asked?
#
# Shares of the test questions, means over the runs. The page to [explore](../notebooks/explore) lists the routes of
# single questions.

# %%
plot_route_shares(mean_route_shares(routes, ["MF", "KNN"]), matrix.source)

# %% [markdown]
# ## Ours: your own router
#
# A router is a class with `fit`, which gets the training data and the fitted predictors by name, and either `scores` (the
# model with the highest score is chosen) or `shares` (a probability for each model). This one averages MF and KNN, and
# enters the figure of this page like the others:


# %%
class MeanOfBoth(HighestScore):
    def fit(self, train, predictors):
        self.predictors_ = [predictors["MF"], predictors["KNN"]]
        return self

    def scores(self, matrix):  # (n_models, n_questions)
        mf, knn = (each.predict_matrix(matrix) for each in self.predictors_)
        return (mf + knn) / 2


own = tally_routes(route_runs(runs, {"mean of MF and KNN": MeanOfBoth()}))
plot_routers(pd.concat([everyone, route_table(own)]))

# %% [markdown]
# ## Beside the paper
#
# Published values are of the paper's data, ours of the data named above, and the two can be compared only if `dataset` is
# `embedllm`. The time to route 3,000 questions is beside ours on the page on [cost](../notebooks/cost). The routing
# accuracy is one that LOCUS reports for EmbedLLM with 1,024 training answers a model.

# %%
load_published().loc[["routing_seconds", "embedllm_routing_accuracy"]]

# %% [markdown]
# ## Reported values

# %% tags=["hide-output"]
values = route_values(tally, first)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values)
recap(
    """
**What we learned.** On {route_questions:,.0f} test questions the KNN router obtains {route_knn:.2f} % and the oracle, which
knows the answers, {route_oracle:.2f} %. In the first run, the paper's training of MF obtains {route_sgd:.2f} %. With 95 %
intervals:

- MF minus KNN: {route_mf_minus_knn_words};
- MF minus models drawn as often as it chooses them: {route_mf_minus_weighted_words};
- MF minus the paper's training of it, in the first run: {route_mf_minus_sgd_words}.
""",
    values,
)
