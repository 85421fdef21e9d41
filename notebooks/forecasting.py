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
# **Goal.** Predict, for questions never seen in training, which model answers which rightly: {term}`matrix
# factorization` (MF) against the nearest questions ({term}`KNN`), above the {term}`floor` of a predictor that does not
# read the question.
#
# The paper reports more right forecasts for MF than for KNN, and how both gain from more training questions.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float = 0.05  # noise on the question embeddings, in training only
n_neighbors: int = 131  # k of KNN
preset: str = "fast"  # how MF is trained: "fast" or "paper"
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 5  # repetitions: of the split, if it is random, and of MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import load_dataset, load_published
from embedllm.plots.forecasting import (
    plot_forecasts,
    plot_history,
    plot_reliability,
    plot_training_sizes,
)
from embedllm.protocol.calibration import (
    pool_repetitions,
    reliability_repetitions,
)
from embedllm.protocol.reported_values import report
from embedllm.protocol.runs import Settings, fit_repetitions
from embedllm.protocol.tally import difference_table
from embedllm.studies.forecasting import (
    forecast_table,
    forecast_values,
    percent_table,
    tally_repetitions,
)
from embedllm.studies.learning_curve import learning_curve, size_table

matrix = load_dataset(dataset, scale=scale, random_state=seed)
settings = Settings(dim, alpha, n_neighbors, preset)
matrix

# %% [markdown]
# ## Fit
#
# Each repetition has a seed of its own, which draws the division of the questions, if the source brings none, and all
# that is random in the training of MF. MF watches the validation questions and does not learn from them. Its training
# loss (here of the first repetition) is higher because of the noise on the question embeddings, which is on in training
# only.

# %%
fits = list(fit_repetitions(matrix, settings, seed, n_seeds))
plot_history(fits[0].predictors["MF"].predictor.history_, matrix.source)

# %% [markdown]
# ## Compare
#
# `benchmark mean` predicts the training accuracy of the model on the benchmark of the question: thresholded, the
# majority label of each (model, benchmark). A predictor earns its keep by what it adds to this floor.
#
# Markers are means over the repetitions, bars two standard errors to each side. The standard error is over questions,
# since answers to one question are right or wrong together, in all repetitions; on a small benchmark it is wide.

# %%
tally = tally_repetitions(fits)
forecasts = forecast_table(tally)
plot_forecasts(forecasts)

# %%
overall = forecasts.query("benchmark == 'overall'").set_index("predictor")
overall.drop(columns="benchmark").round(4)

# %% [markdown]
# Accuracy by benchmark, in percent:

# %%
percent_table(forecasts, "predictor")

# %% [markdown]
# What the others add to the floor, in points, with 95 % intervals. They are paired: questions are resampled with the
# answers of both, so that what makes a question easy for both cancels out.

# %%
difference_table(tally.differences("benchmark mean"), "predictor")

# %% [markdown]
# And to KNN:

# %%
difference_table(
    tally.differences("KNN").query("predictor == 'MF'"), "predictor"
)

# %% [markdown]
# ## How many questions does it take?
#
# Each repetition draws the smaller training sets from the larger ones. The last point are the fits above. For KNN, k
# falls with the cube root of the number of questions: with the k of all questions, it would look worse on few of them
# than it is. Lines are means, bands the range over the seeds.

# %%
curve = learning_curve(fits, settings)
plot_training_sizes(curve)

# %% [markdown]
# Accuracy by number of training questions, mean over the seeds, in percent:

# %%
size_table(curve)

# %% [markdown]
# ## Are the probabilities right?
#
# Accuracy only asks on which side of one half a probability is. {term}`Log loss <log loss>` and {term}`Brier score`, in
# the table above, judge the probability itself, and the diagram shows it: of the answers that were given a probability
# of 70 %, are 70 % right? Left, below the diagonal, right answers are rarer than predicted, and above it more frequent;
# right, how often such probabilities are predicted.

# %%
bins = reliability_repetitions(fits)
plot_reliability(pool_repetitions(bins))

# %% [markdown]
# ## Beside the paper
#
# The published figures are of the paper's own data; ours are of the data named above, and the two are comparable only
# if `dataset` is `embedllm`.

# %%
load_published().loc[["mf_accuracy", "knn_accuracy"]]

# %% [markdown]
# ## The numbers of this page

# %%
report(forecast_values(tally, bins, curve), matrix.source)

# %% [markdown]
# **Recap.** Over {glue:text}`forecast_answers:,.0f` test answers MF forecasts {glue:text}`mf_accuracy:.2f` % rightly, KNN
# {glue:text}`knn_accuracy:.2f` %, and the floor is {glue:text}`floor_accuracy:.2f` %. MF minus KNN is
# {glue:text}`mf_minus_knn:+.2f` points (95 % interval {glue:text}`mf_minus_knn_low:+.2f` to
# {glue:text}`mf_minus_knn_high:+.2f`), and {glue:text}`mf_minus_knn_smallest:+.2f` points when both are fitted on
# {glue:text}`smallest_size:,.0f` questions. MF is above the floor on {glue:text}`above_floor:.1f` of
# {glue:text}`forecast_benchmarks:.1f` benchmarks (mean over the seeds). The expected calibration error is
# {glue:text}`mf_ece:.2f` points for MF and {glue:text}`knn_ece:.2f` for KNN.
