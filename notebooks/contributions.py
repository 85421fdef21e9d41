# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Contributions of benchmarks
#
# **Goal.** Fit without the questions of each benchmark in turn and measure how the predictions for the others change.
# The paper (Figure 7) finds that MMLU contributes most, that the benchmarks of mathematics contribute to each other, and
# that the other benchmarks hurt GPQA.

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
from embedllm.plots.contributions import plot_contributions
from embedllm.protocol.reported_values import report
from embedllm.studies.contributions import (
    contribution_values,
    measure_contributions,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Leave-one-benchmark-out
#
# For each seed, MF is fitted on all training questions and on those without each benchmark. A cell is the accuracy without
# the benchmark of its row minus the accuracy with it, on the test questions of its column: *below 0, the benchmark of the
# row {term}`contributes <contribution>`*; above 0, the predictions are better without it.

# %%
mf = MatrixFactorization(dim=dim, alpha=alpha)
contributions = measure_contributions(matrix, mf, seed, n_seeds)
plot_contributions(contributions.table("accuracy"))

# %% [markdown]
# Forecasting accuracy in points, mean over the seeds. A star marks a 95 % interval, over resampled test questions, that
# excludes 0; one cell in twenty would have a star by chance, and none has one with fewer than ten test questions. The
# diagonal shows a benchmark without any of its own questions in training.
#
# ## Difficulty of the benchmark, and ranking of the models
#
# Accuracy changes for two reasons: because the *level* of a benchmark, how hard its questions are for all models, is
# predicted differently, and because the *models* are ranked differently. A benchmark of unusual difficulty can bias the
# levels of others, whatever it teaches about the models. So the same once more, for what a router needs: of all pairs of
# models, one of which answers a question correctly and one incorrectly, the share that is predicted in this order. The
# level of the question has no effect on it.

# %%
plot_contributions(contributions.table("pairwise ranking accuracy"))

# %% [markdown]
# ## Largest contributions
#
# Mean change on the other benchmarks, in points, with 95 % intervals; the lowest in accuracy, which is the largest
# contribution, first.

# %%
contributions.ranking().round(2)

# %% [markdown]
# ## Beside the paper
#
# The published statement is of the paper's own data; ours are of the data named above. Benchmarks of mathematics are
# recognized by their names; a benchmark is easy if its accuracy is above the median of the benchmarks; the hardest
# benchmark, in the place of GPQA, is that of the lowest accuracy.

# %%
load_published().loc[["contributions"]]

# %% [markdown]
# ## Reported values

# %%
report(contribution_values(contributions), matrix.source)

# %% [markdown]
# **Recap.** What a benchmark contributes is the loss without it. Without itself, a benchmark loses
# {glue:text}`own_loss:.2f` points in accuracy and {glue:text}`own_loss_order:.2f` in the pairwise ranking accuracy. Each claim of the
# paper holds, by either measure, where the whole interval of its value is above 0:
#
# | claim | value | accuracy | pairwise ranking accuracy |
# |---|---|---|---|
# | MMLU contributes most | loss on the others without it, minus the largest without another | {glue:text}`mmlu_lead:+.2f` ({glue:text}`mmlu_lead_low:+.2f` to {glue:text}`mmlu_lead_high:+.2f`) | {glue:text}`mmlu_lead_order:+.2f` ({glue:text}`mmlu_lead_order_low:+.2f` to {glue:text}`mmlu_lead_order_high:+.2f`) |
# | | its rank | {glue:text}`mmlu_rank:.1f` | {glue:text}`mmlu_rank_order:.1f` |
# | the maths benchmarks contribute to each other | loss on other maths without one, minus the loss on the rest | {glue:text}`maths_lead:+.2f` ({glue:text}`maths_lead_low:+.2f` to {glue:text}`maths_lead_high:+.2f`) | {glue:text}`maths_lead_order:+.2f` ({glue:text}`maths_lead_order_low:+.2f` to {glue:text}`maths_lead_order_high:+.2f`) |
# | easy benchmarks hurt the hardest | gain on it without an easy one | {glue:text}`easy_gain:+.2f` ({glue:text}`easy_gain_low:+.2f` to {glue:text}`easy_gain_high:+.2f`) | {glue:text}`easy_gain_order:+.2f` ({glue:text}`easy_gain_order_low:+.2f` to {glue:text}`easy_gain_order_high:+.2f`) |
#
# Points, with 95 % intervals over the test questions; `nan` where the data have no such benchmarks.
