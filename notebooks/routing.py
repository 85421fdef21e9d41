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
By the protocol of the paper's [Figure 4](#routing-paper-routers): the MF router obtains {route_mf:.2f} % correct answers, the best single model
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

# %% tags=["hide-cell"]
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
from IPython.display import display

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Figure 4: three routers
#
# MF against the best single model and against models drawn at random as often as MF chooses them (`weighted random`), by the
# exact expectation over the draws. In the bars by benchmark, `best single model` is the one that is best on that benchmark in
# training; elsewhere on this page it is one fixed model. Accuracies, and the counts in labels, are means over the runs. The
# heights of the paper's bars are not published.

# %% tags=["hide-input"]
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

# %% [markdown]
# ## The formula
#
# Question $q$ goes to the model with the highest predicted probability $s(m, q)$ of a correct answer; the accuracy is the
# share of correct answers $y$:
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
# ## Ours: more routers
#
# - `oracle`: picks a correct model wherever there is one; some are correct by chance.
# - `best model per benchmark`: the best in training on the benchmark of the question, which MF is not told.
# - `KNN` and `SGD`: as MF, by the [nearest questions](../glossary), and by the paper's training, in the first run only:
#   compare it with MF there.
# - `uniform random`: each model alike. `ceiling` (simulated pool): as MF, by the expected probability given the text.
#
# Every router chooses among the models whose answer was observed; ties go to the first name. Markers are means over the
# runs, bars two standard errors over questions to each side.

# %% tags=["hide-input"]
(sgd,) = fit_runs(matrix, {"SGD": paper_training()}, seed, n_seeds=1)
first = tally_routes(
    route_runs(
        [runs[0].with_those_of(sgd)],
        {name: PredictedBest(name) for name in ("MF", "SGD")},
    )
)
in_first = route_table(first)
named = in_first.assign(router=in_first["router"] + ", first run")
everyone = pd.concat([named, evaluation])
plot_routers(everyone)

# %% [markdown]
# ## Ours: the gain of MF
#
# Against the best single model, with [paired](../glossary) 95 % intervals: the difficulty of a question, which the routers
# share, cancels out.

# %% tags=["hide-input"]
gains = tally.differences("best single model")
plot_router_gains(gains)

# %% [markdown]
# ## Tables, and the models asked
#
# Folded here: accuracies; differences in points (with n in place of an interval for fewer than 30 questions, or the same
# difference on all); the shares of the test questions that models receive. A gain over `weighted random` does not show that MF
# is better than one fixed model: that router needs MF's choices too. [Explore models and routes](../notebooks/explore) lists
# the routes of single questions.

# %% tags=["hide-cell"]
overall = everyone.query("benchmark == 'overall'").set_index("router")
display(overall.drop(columns="benchmark").round(4))
display(percent_table(everyone, "router"))
display(percent_table(paper_routers(evaluation, mf="MF"), "router"))
in_points = gains.query("benchmark == 'overall'")
display(in_points.drop(columns="benchmark").round(2))
display(
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
)
display(difference_table(first.differences("SGD"), "router"))
display(
    plot_route_shares(
        mean_route_shares(routes, ["MF", "KNN"]), matrix.source
    )
)
print(
    f"dim {dim} and {matrix.n_models} models: "
    + (
        "nothing is truncated"
        if dim >= matrix.n_models
        else "the first dimensions of the exact fit are kept"
    )
    + f"; {runs[0].predictors['MF'].dim_} dimensions are in use"
)

# %% [markdown]
# ## Ours: your own router
#
# A router is a class with `fit`, which gets the training data and the fitted predictors by name, and either `scores` (the
# highest is chosen) or `shares` (a probability for each model). This one, in the figure like the others, averages two:


# %% tags=["hide-output"]
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
# Published values and ours are comparable only if `dataset` is `embedllm`. The time to route is on the page on [cost](../notebooks/cost).
# LOCUS reports the routing accuracy, for EmbedLLM with 1,024 training answers a model.

# %% tags=["hide-cell"]
load_published().loc[["routing_seconds", "embedllm_routing_accuracy"]]

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = route_values(tally, first)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.** On {route_questions:,.0f} test questions a run, the KNN router obtains {route_knn:.2f} % and the oracle, which
knows the answers, {route_oracle:.2f} %. In the first run, the paper's training of MF obtains {route_sgd:.2f} %. With 95 %
intervals:

- MF minus KNN: {route_mf_minus_knn_words};
- MF minus models drawn as often as it chooses them: {route_mf_minus_weighted_words};
- MF minus the paper's training of it, in the first run: {route_mf_minus_sgd_words}.
""",
    values,
)
