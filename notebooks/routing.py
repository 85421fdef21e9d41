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
# **Goal.** Send each question to the model that is most likely to answer it correctly, and measure the gain over the best
# single model.
#
# The paper's claim (Figure 4) is that routing by the model embeddings, learned from answers, beats the best single model.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = "auto"  # noise in training: MF's ridge penalty
n_neighbors: int = 131  # k of KNN
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
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
    plot_route_shares,
    plot_router_gains,
    plot_routers,
)
from embedllm.protocol.reported_values import report
from embedllm.protocol.routers import HighestScore, standard_policies
from embedllm.protocol.tally import difference_table, percent_table
from embedllm.studies.routing import (
    mean_route_shares,
    paper_routers,
    route_runs,
    route_speed,
    route_table,
    route_values,
    tally_routes,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## The formula
#
# The router of the paper sends question $q$ to the model with the highest predicted probability $s(m, q)$ of a correct
# answer; its accuracy is the share of correct answers $y$ that it obtains:
#
# $$\hat m(q) = \arg\max_m s(m, q), \qquad \text{accuracy} = \frac{1}{n} \sum_q y_{\hat m(q)\, q}.$$
#
# Here for the first run, over the models whose answer was observed:

# %%
predictors = {
    "MF": MatrixFactorization(dim=dim, alpha=alpha),
    "KNN": KNNCorrectness(n_neighbors=n_neighbors),
}
runs = list(fit_runs(matrix, predictors, seed, n_seeds))

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
# ## The routers
#
# - {term}`oracle`: a model that is correct, if there is one. It knows the answers.
# - `MF`, `KNN`: the model with the highest predicted probability of a correct answer.
# - {term}`best model per benchmark`: the model with the best training accuracy on the benchmark of the question, which
#   has to be known.
# - {term}`best single model`: the model with the best training accuracy, for every question.
# - `weighted random`: models drawn at random, as often as MF chooses them; `uniform random`: all models alike. Both are
#   exact expectations over the draws.
#
# Every router chooses among the models whose answer to the question was observed. Ties go to the name that comes first.
# Markers are means over the runs, bars two standard errors over questions to each side. All of them:

# %%
routes = list(route_runs(runs, standard_policies("MF", "KNN")))
tally = tally_routes(routes)
evaluation = route_table(tally)
plot_routers(evaluation)

# %% [markdown]
# Figure 4 of the paper compares three: MF, the best single model, which is chosen anew on each benchmark, and a model at
# random, as often as MF chooses it. The heights of its bars are not published as numbers.

# %%
plot_routers(paper_routers(evaluation, mf="MF"))

# %%
overall = evaluation.query("benchmark == 'overall'").set_index("router")
overall.drop(columns="benchmark").round(4)

# %% [markdown]
# Accuracy by benchmark, in percent:

# %%
percent_table(evaluation, "router")

# %% [markdown]
# ## The gain over the best single model
#
# Accuracy minus that of the best single model, with 95 % intervals. They are {term}`paired <paired bootstrap
# interval>`: questions are resampled with the routes of all routers, so that the difficulty of a question, which they
# share, cancels out. An interval that contains zero is no evidence for either sign.

# %%
gains = tally.differences("best single model")
plot_router_gains(gains)

# %% [markdown]
# Overall, in points:

# %%
gains.query("benchmark == 'overall'").drop(columns="benchmark").round(2)

# %% [markdown]
# MF by benchmark, in points:

# %%
difference_table(gains.query("router == 'MF'"), "router")

# %% [markdown]
# ## Which models are asked?
#
# Shares of the test questions, means over the runs. The page to [explore](../notebooks/explore) lists the routes of
# single questions.

# %%
plot_route_shares(mean_route_shares(routes, ["MF", "KNN"]), matrix.source)

# %% [markdown]
# ## Your own router
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
plot_routers(pd.concat([evaluation, route_table(own)]))

# %% [markdown]
# ## Speed
#
# Questions a second, choosing among all models for questions whose embeddings are precomputed, and how far memory rises
# meanwhile, measured when this page was built. The page on [cost](../notebooks/cost) compares with the authors' procedure
# and counts the arithmetic.

# %%
route_speed(runs[0], ["MF", "KNN"]).round(1)

# %% [markdown]
# ## Beside the paper
#
# Published values are of the paper's data, ours of the data named above, and the two can be compared only if `dataset` is
# `embedllm`. The routing time is of other hardware. The routing accuracy is one that LOCUS reports for EmbedLLM with 1,024
# training answers a model.

# %%
load_published().loc[["routing_seconds", "embedllm_routing_accuracy"]]

# %% [markdown]
# ## Reported values

# %%
report(route_values(tally, mf="MF", knn="KNN"), matrix.source)

# %% [markdown]
# **Recap.** On {glue:text}`route_questions:,.0f` test questions the MF router obtains {glue:text}`route_mf:.2f` % correct
# answers, the KNN router {glue:text}`route_knn:.2f` %, the best model per benchmark
# {glue:text}`route_best_of_benchmark:.2f` %, the best single model {glue:text}`route_single:.2f` %, and an oracle
# {glue:text}`route_oracle:.2f` %. MF minus best single model is {glue:text}`route_gain:+.2f` points (95 % interval
# {glue:text}`route_gain_low:+.2f` to {glue:text}`route_gain_high:+.2f`), MF minus KNN
# {glue:text}`route_mf_minus_knn:+.2f` points, and MF minus models drawn as often as it chooses them
# {glue:text}`route_mf_minus_weighted:+.2f` points.
