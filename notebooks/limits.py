# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Limits of the method
#
# **Goal.** Find where [matrix factorization](../glossary) (MF) is more accurate than [KNN](../glossary) and where it is not, and
# whether it finds the truth, on pools whose ground truth is known. **Everything on this page is simulated and says nothing about
# the paper.**

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Forecasting accuracy on simulated pools, in points with 95 % intervals over questions. MF minus KNN:

- where the text shows a linear structure: {limits_forecast_linear_mf_minus_knn_words};
- where it shows a nonlinear one: {limits_forecast_nonlinear_mf_minus_knn_words};
- where it shows nothing beyond the benchmark: {limits_forecast_none_mf_minus_knn_words}.

MF minus the per-benchmark majority baseline, in the same order: {limits_forecast_linear_mf_minus_baseline_words},
{limits_forecast_nonlinear_mf_minus_baseline_words} and {limits_forecast_none_mf_minus_baseline_words}.

Each structure is one simulated pool. MF's penalty is chosen on validation questions; the k of KNN is fixed.
""")

# %% [markdown]
# Three pools of the [same simulator](../data) have the same models, accuracies and benchmarks. They differ in what the text
# of a question shows beyond its benchmark:
#
# | structure | what the text shows |
# |---|---|
# | `linear` | a linear function of the topic for each model, which is MF's own form |
# | `nonlinear` | cosines of the topic: questions near each other share them, and no linear function follows them |
# | `none` | nothing: a negative control |
#
# In all three, a part of the difficulty is hidden from the text. The **ceiling** predicts $E[p \mid \text{text}]$, the true
# probability with the hidden part integrated out: no predictor and no router that reads the text can be expected to be
# better.
#
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
scale: float = 0.3  # share of the simulated pools
dim: int = 112  # size of a model embedding
n_neighbors: int = 51  # k of KNN
seed: int = 0  # of the simulated pools

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-input"]
from embedllm import (
    BenchmarkMean,
    KNNCorrectness,
    MatrixFactorization,
    fit_runs,
    load_dataset,
)
from embedllm.plots.limits import plot_recovery, plot_structures
from embedllm.predictors.ceiling import ceiling_of
from embedllm.protocol.reported_values import report
from embedllm.protocol.routers import BestModelPerBenchmark, PredictedBest
from embedllm.studies.forecasting import (
    nested_subsets,
    tally_runs,
    training_sizes,
)
from embedllm.studies.limits import (
    limit_values,
    recovery,
    structure_table,
)
from embedllm.studies.routing import route_runs, tally_routes

predictors = {
    "benchmark mean": BenchmarkMean(),
    "KNN": KNNCorrectness(n_neighbors=n_neighbors),
    "MF": MatrixFactorization(dim=dim, alpha="auto"),
}
runs = {}
for structure in ("linear", "nonlinear", "none"):
    matrix = load_dataset(
        "simulated", scale=scale, random_state=seed, structure=structure
    )
    ceiling = ceiling_of("simulated", scale, seed, structure)
    runs[structure] = list(fit_runs(matrix, predictors | ceiling, seed, 1))

# %% [markdown]
# ## Correctness forecasting
#
# Bars are 95 % intervals over questions; the dashed line is the per-benchmark majority baseline, `benchmark mean`, which is
# told the benchmark. KNN and MF are not.

# %%
forecasts = {name: tally_runs(each) for name, each in runs.items()}
forecast_table = structure_table(forecasts, "benchmark mean")
plot_structures(forecast_table, "answers predicted correctly")

# %% [markdown]
# Accuracy in percent, and points above the baseline with paired intervals:

# %% tags=["hide-cell"]
forecast_table.round(1)

# %% [markdown]
# ## Routing
#
# Each question goes to the model with the highest prediction. The dashed line is the best model per benchmark.

# %% tags=["hide-input"]
routers = {"best model per benchmark": BestModelPerBenchmark()}
routers |= {name: PredictedBest(name) for name in ("KNN", "MF", "ceiling")}
routes = {
    name: tally_routes(route_runs(each, routers))
    for name, each in runs.items()
}
route_table = structure_table(routes, "best model per benchmark")
plot_structures(route_table, "questions answered correctly")

# %% tags=["hide-cell"]
route_table.round(1)

# %% [markdown]
# ## Does MF find the truth?
#
# On the pool of linear structure, the logits of the fit are compared with the true ones given the text, both less their
# mean over the models and over each benchmark: what remains is what the text shows of a model beyond the benchmark. The $d$
# directions over the models in which it varies most span a space, in the truth and in the fit. The left panel has the mean of
# the principal angles between the two: 0° is the same space, 90° one that shares no direction. The more directions, the smaller
# the angle of random spaces, so that different $d$ are not compared. The right panel correlates,
# over all pairs of models, the root-mean-square difference of their fitted logits with that of the true ones.

# %% tags=["hide-input"]
(linear,) = runs["linear"]
train, truth = linear.split.train, linear.predictors["ceiling"]
sizes = training_sizes(train.n_questions)
recovered = recovery(
    predictors["MF"],
    nested_subsets(train, sizes, seed),
    linear.split.val,
    truth,
)
plot_recovery(recovered)

# %% tags=["hide-cell"]
recovered.round(2)

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = limit_values(forecasts, routes, recovered)
report(values)

# %% tags=["remove-input"]
in_short.fill(values)
recap(
    """
**What we learned**, on simulated pools only. In routing, MF minus KNN is {limits_route_linear_mf_minus_knn_words} on the
linear structure, {limits_route_nonlinear_mf_minus_knn_words} on the nonlinear one and {limits_route_none_mf_minus_knn_words}
where the text shows nothing. On the linear structure, fitted distances between models correlate with the true ones at
{limits_correlation:.2f}, and the mean angle between the true and the fitted space of dimension 4 is {limits_angle_4:.0f}°.
""",
    values,
)
