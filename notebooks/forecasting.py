# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Forecasting correctness
#
# **Goal.** Predict, for questions never seen in training, which model answers which rightly: matrix factorization (MF)
# against the nearest questions (KNN), above the floor of a predictor that does not read the question.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float = 0.05  # noise on the question embeddings, in training only
n_neighbors: int = 131  # k of KNN
preset: str = "fast"  # how MF is trained: "fast" or "paper"
seed: int = 0  # of the simulated pool, the split and MF

# %% tags=["remove-input"]
from embedllm.parameters import check_parameters

check_parameters()

# %%
from embedllm import (
    BenchmarkMean,
    KNNCorrectness,
    MatrixFactorization,
    evaluate_forecasts,
    load_dataset,
    load_published,
)
from embedllm.forecasting import percent_table
from embedllm.plots import plot_forecasts, plot_history

matrix = load_dataset(dataset, scale=scale, random_state=seed)
train, val, test = matrix.split(random_state=seed)
matrix

# %% [markdown]
# ## Fit
#
# MF watches the validation questions and does not learn from them. Its training loss is higher because of the noise on
# the question embeddings, which is on in training only.

# %%
mf = MatrixFactorization(
    dim=dim, alpha=alpha, preset=preset, random_state=seed
).fit(train, validation=val)
plot_history(mf.history_, train.source)

# %% [markdown]
# ## Compare
#
# `benchmark mean` predicts the training accuracy of the model on the benchmark of the question: thresholded, the
# majority label of each (model, benchmark). A predictor earns its keep by what it adds to this floor.

# %%
predictors = {
    "MF": mf,
    "KNN": KNNCorrectness(n_neighbors).fit(train),
    "benchmark mean": BenchmarkMean().fit(train),
}
forecasts = evaluate_forecasts(predictors, test)
plot_forecasts(forecasts)

# %%
overall = forecasts.query("benchmark == 'overall'").set_index("predictor")
overall.drop(columns="benchmark").round(4)

# %% [markdown]
# The standard error is over questions, since answers to one question are right or wrong together. On a small benchmark
# it is wide: read the bars (two standard errors to each side) before ranking the methods there. Accuracy by benchmark, in percent:

# %%
percent_table(forecasts, "predictor")

# %% [markdown]
# ## Beside the paper
#
# The published figures are of the paper's own data; ours are of the data named above, and the two are comparable only
# if `dataset` is `embedllm`.

# %%
load_published().loc[["mf_accuracy", "knn_accuracy"]]

# %% tags=["remove-cell"]
from myst_nb import glue

mf_accuracy, knn_accuracy, floor_accuracy = (
    float(overall.loc[name, "accuracy"] * 100) for name in predictors
)
accuracy = forecasts.pivot(
    index="benchmark", columns="predictor", values="accuracy"
).loc[test.benchmark_names]
above_floor = int((accuracy["MF"] > accuracy["benchmark mean"]).sum())
glue("above_floor", above_floor, display=False)
glue("forecast_benchmarks", len(accuracy), display=False)
glue("mf_accuracy", mf_accuracy, display=False)
glue("knn_accuracy", knn_accuracy, display=False)
glue("floor_accuracy", floor_accuracy, display=False)
glue("mf_minus_knn", mf_accuracy - knn_accuracy, display=False)
glue(
    "forecast_answers", int(overall.loc["MF", "n_observed"]), display=False
)

# %% [markdown]
# **Recap.** Over {glue:text}`forecast_answers:,d` test answers MF forecasts {glue:text}`mf_accuracy:.2f` % rightly, KNN
# {glue:text}`knn_accuracy:.2f` % (MF minus KNN: {glue:text}`mf_minus_knn:+.2f` points), and the floor is
# {glue:text}`floor_accuracy:.2f` %. MF is above the floor on {glue:text}`above_floor:d` of
# {glue:text}`forecast_benchmarks:d` benchmarks.
