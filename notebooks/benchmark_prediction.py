# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Predicting accuracy on a held-out benchmark
#
# **Goal.** Hold out each benchmark in turn, and predict the accuracies of the models on it from their answers to the other
# benchmarks. The paper regresses accuracies on the model embeddings and finds significant rank correlations between
# predicted and actual accuracies on most benchmarks (Figure 5).

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = 0.05  # noise in training: MF's ridge penalty
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import MatrixFactorization, load_dataset, load_published
from embedllm.plots.benchmark_prediction import (
    plot_heldout,
    plot_rank_correlations,
)
from embedllm.protocol.reported_values import report
from embedllm.studies.benchmark_prediction import (
    heldout_values,
    predict_heldout,
    rank_correlations,
    summarize_correlations,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Hold out
#
# For each benchmark and seed, MF is fitted on the training questions of the other benchmarks. The accuracy of a model on
# the held-out benchmark is over all its observed answers there, since none of them was in the fit, and is predicted from
# the *other models* by ridge regression in ten folds of models. The penalty is chosen on the models of the other folds;
# it is needed because there are more dimensions than models. A model is left out if it has no answer to the benchmark, or
# none to another one; with fewer than four models the correlation is undefined.
#
# | predictor | features of a model |
# |---|---|
# | embeddings | $p_m$ of the exact fit: its distances are differences of logits |
# | model directions | $u_m$: its weights on the coordinates of a question embedding, each standardized |
# | mean accuracy | its mean accuracy on the training questions of the other benchmarks: no embedding, no regression |
#
# The second is the first in other coordinates, so that only the penalty tells them apart.

# %%
mf = MatrixFactorization(dim=dim, alpha=alpha)
predictions = predict_heldout(matrix, mf, seed, n_seeds)
plot_heldout(predictions)

# %% [markdown]
# Each point is a model, predicted from the embeddings of other models, mean over the seeds; on the line, predicted and
# actual accuracy are equal. A regression with a large penalty predicts close to the mean of all models, so that the cloud
# is flat. The same from the model directions:

# %%
plot_heldout(predictions, "model directions")

# %% [markdown]
# ## Compare ranks
#
# {term}`Kendall's tau` is 1 if each pair of models is predicted in the correct order, and 0 on average for a random order.
# Lines are 95 % intervals over resampled models; `overall` is the mean over the benchmarks.

# %%
summary = summarize_correlations(predictions)
plot_rank_correlations(summary)

# %% [markdown]
# Differences to the mean accuracy, with paired intervals:

# %%
differences = summary[summary["predictor"].str.contains("minus")]
differences.set_index(["data", "benchmark", "predictor"]).round(3)

# %% [markdown]
# P-values of the first seed, two-sided. Only a tau *above* 0 counts as significant.

# %%
correlations = rank_correlations(predictions)
correlations[correlations["seed"] == seed].pivot(
    index=["data", "benchmark"],
    columns="predictor",
    values=["tau", "p_value"],
).sort_values(("tau", "embeddings"), ascending=False).round(4)

# %% [markdown]
# ## Beside the paper
#
# The published value is of the paper's own data; ours are of the data named above. The three exceptions, as a secondary
# source names them, are counted below among the benchmarks of those names that the data have.

# %%
load_published().loc[["significant_benchmarks"]]

# %% [markdown]
# ## Reported values

# %%
report(heldout_values(predictions), matrix.source)

# %% [markdown]
# **Recap.** Of {glue:text}`heldout_benchmarks:.0f` held-out benchmarks, tau is significantly above 0 on
# {glue:text}`significant_embeddings:.1f` from the embeddings, on {glue:text}`significant_weights:.1f` from the model
# directions and on {glue:text}`significant_mean_accuracy:.1f` from the mean accuracy (means over the seeds). The mean tau is
# {glue:text}`tau_embeddings:.2f`, {glue:text}`tau_weights:.2f` and {glue:text}`tau_mean_accuracy:.2f`. Embeddings minus
# mean accuracy: {glue:text}`embeddings_minus_mean:+.2f` ({glue:text}`embeddings_minus_mean_low:+.2f` to
# {glue:text}`embeddings_minus_mean_high:+.2f`); model directions minus mean accuracy:
# {glue:text}`weights_minus_mean:+.2f` ({glue:text}`weights_minus_mean_low:+.2f` to
# {glue:text}`weights_minus_mean_high:+.2f`). A difference whose interval contains 0 is not shown by these models.
