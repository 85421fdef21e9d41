# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Real answers
#
# What do answers of real language models say about the paper's claims? Two public collections can be downloaded by anyone
# ([Data](../data)). They share only some models and benchmarks with the paper's data.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort

in_short = InShort(
    """
Accuracy of matrix factorization (MF) minus that of a baseline, in points, with 95 % intervals over questions. Above 0, MF
is better:

- forecasting, against the per-benchmark majority: {forecasting_baseline};
- forecasting, against KNN: {forecasting_knn};
- routing, against the best single model: {routing_single};
- routing, against the best model per benchmark: {routing_benchmark}.
"""
)

# %% [markdown]
# Each value is marked with the run that computed it: *recorded* on a date, with a hash of the labels, or *this build*.
# `make book DATASET=mmlu-pro` computes all pages on one of them, and `make compare DATASET=mmlu-pro` checks the record.
#
# **In the paper:** Table 1, Figure 4. **Published:** no values on these data.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # of the build, shown here if it is real
folder: str = ""  # of the reported values; by default, of this checkout

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-input"]
from pathlib import Path

from embedllm.plots.baselines import plot_baselines
from embedllm.plots.forecasting import plot_training_sizes
from embedllm.plots.real_answers import plot_gains
from embedllm.plots.routing import plot_routers
from embedllm.protocol.recorded import (
    EXECUTED,
    all_results,
    recorded_results,
)
from embedllm.studies.real_answers import (
    accuracy_table,
    gains_in_words,
    gains_table,
    pools_in_words,
    pools_table,
    real_results,
    tables_of,
)
from embedllm.studies.summary import claims_html, claims_table
from IPython.display import display
from myst_nb import glue

results = real_results(
    recorded_results()
    if dataset == "simulated"
    else all_results(Path(folder) if folder else EXECUTED)
)
pools_table(results).round(1)

# %% [markdown]
# ## What MF gains over baselines
#
# In points, with 95 % intervals over questions. Against KNN, by the protocol of the paper's Table 1: the dim of MF and the k of
# KNN are chosen on the validation questions. The accuracies in the table below are of one dim and one k.

# %% tags=["hide-input"]
gains = gains_table(results)
plot_gains(gains)

# %% tags=["remove-input"]
words = gains_in_words(gains)
in_short.fill([], **words)
for key, found in words.items():  # for other pages
    glue(f"real_{key}", found, display=False)
glue("real_pools", pools_in_words(results), display=False)

# %% tags=["hide-input"]
accuracy_table(results).round(2)

# %% [markdown]
# The per-benchmark majority baseline predicts for each model and benchmark the label that is more frequent in training. It
# is told the benchmark of a question, and never reads it. MF is not told the benchmark: where it is above this baseline, the
# text tells it more.
#
# ## Forecasting by number of training questions
#
# The protocol of the paper's Table 1 ([Correctness forecasting](../notebooks/forecasting)), a figure for each data set. The
# published accuracies are of other data, so they are not drawn.

# %% tags=["hide-input"]
for table in tables_of(results, "forecasting-training-sizes"):
    display(plot_training_sizes(table))

# %% [markdown]
# ## Routing
#
# All routers, overall and by benchmark ([Model routing](../notebooks/routing)). Means over the runs; SGD is fitted in the first run
# only, to be compared with MF there:

# %% tags=["hide-input"]
for table in tables_of(results, "routing-routers"):
    display(plot_routers(table))

# %% [markdown]
# ## Strong baselines
#
# MF beside simpler predictors and beside a stack of them, means over the runs ([Strong
# baselines](../notebooks/baselines)):

# %% tags=["hide-cell"]
for table in tables_of(results, "baselines-baselines"):
    display(plot_baselines(table, "benchmark mean", "best single model"))

# %% [markdown]
# ## The claims of the paper
#
# Verdicts follow by the rules of the [summary](../notebooks/summary).

# %% tags=["hide-cell"]
claims_html(claims_table(results))
