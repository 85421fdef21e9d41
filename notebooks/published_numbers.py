# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the published numbers say
#
# **Goal.** Compare the published accuracies of the paper and of a later one with baselines that follow from published
# counts alone: how many of the 3,000 test questions each of the 112 models answers correctly on each benchmark. No data
# set is read.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Published values only. In forecasting, MF of Table 1 minus the majority label of each model and benchmark is
{published_mf_gain:+.1f} points, KNN minus it {published_knn_gain:+.1f}. If rows are scored instead of prompts, the differences
are {published_mf_gain_rows:+.1f} and {published_knn_gain_rows:+.1f}.

In routing, the best single model answers {published_single:.1f} % correctly and the best model per benchmark
{published_best_of_benchmark:.1f} %, both chosen on the test questions.
""")

# %% [markdown]
# The counts were computed from percentages with one decimal on the page of LOCUS
# ([arXiv:2601.21082](https://arxiv.org/abs/2601.21082)), which evaluates EmbedLLM on the same release; those of MMLU may be
# one off. Of several rows for a prompt it counts the last.
#
# **In the paper:** Table 1, Table 2. **Published:** accuracies and counts, all of this page.

# %% tags=["parameters", "hide-input"]
repeated: int = 469  # rows of a model in the test set that repeat a prompt

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
import pandas as pd
from embedllm.datasets.published_counts import load_published_counts
from embedllm.plots.published_numbers import (
    plot_published_forecasts,
    plot_published_routes,
)
from embedllm.protocol.reported_values import report
from embedllm.studies.published_numbers import (
    forecasting_numbers,
    number_values,
    published_models,
    routing_numbers,
    spread_of_models,
)
from IPython.display import display

counts = load_published_counts()
counts.correct.describe().loc[["mean", "min", "max"]].round(1)

# %% [markdown]
# ## Correctness forecasting
#
# A baseline that never reads a question predicts, for each model and benchmark, the label that is more frequent there:
#
# $$\text{baseline} = \frac{1}{112} \sum_m \sum_b \frac{n_b}{n}\, \max(a_{mb},\, 1 - a_{mb}),$$
#
# with $a_{mb}$ the accuracy of model $m$ on the $n_b$ test questions of benchmark $b$. The label is chosen on the test
# questions themselves, so that the baseline is slightly too high. The test set has more rows than prompts, and the paper does
# not say which it scores: hollow markers are the baselines of rows, if all that repeat a prompt are of GPQA.

# %%
forecasting = forecasting_numbers(counts, repeated)
plot_published_forecasts(forecasting)

# %% tags=["hide-cell"]
forecasting.round(2)

# %% [markdown]
# ## Routing
#
# The accuracies of EmbedLLM and LOCUS are those that LOCUS reports, with so many training answers a model; the paper shows
# its own as a picture. The best models are chosen on the test questions. The dotted line is the best single model. The
# accuracy of the oracle is a third party's, unverified.

# %%
routing = routing_numbers(counts)
plot_published_routes(routing)

# %% tags=["hide-cell"]
routing.round(1)

# %% [markdown]
# ## The accuracies of the models
#
# The ratio compares the variance between models with $p(1-p)/n$. It is about 1 for equally good models that answer
# independently questions of equal difficulty. Differences between models raise it; questions that are easy or hard for all,
# or answers in common, lower it. Many models with the same count may point to a common answer pattern or to a failed run,
# which the counts alone cannot tell apart.

# %%
spread = spread_of_models(counts)
spread.round(1)

# %% [markdown]
# The models of the paper's Table 2, by their published names, with the size (billions of parameters) and the
# specializations that the name states, and their accuracy on the 3,000 test prompts:

# %% tags=["hide-cell"]
with pd.option_context("display.max_rows", None):
    display(published_models(counts).round(1))

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = number_values(forecasting, routing)
report(values)

# %% tags=["remove-input"]
in_short.fill(values)
recap(
    """
**What we learned.** Without reading a question, the majority label of each model and benchmark forecasts
{published_baseline:.1f} % of the answers ({published_baseline_rows:.1f} % if rows are scored). A random model answers
{published_random:.1f} % of the questions correctly.
""",
    values,
)
