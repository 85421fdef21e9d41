# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The data
#
# **Goal.** Describe the [correctness matrix](../glossary) before anything is learned from it: benchmarks, numbers of questions,
# accuracies of the models, agreement between them, and the share of the matrix that was observed.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
{data_source}: {data_models:,.0f} models, {data_questions:,.0f} questions of {data_benchmarks:,.0f} benchmarks,
{data_observed:.1f} % of the entries observed. The models answer {data_worst:.1f} to {data_best:.1f} % correctly. All models
are correct on {data_all_right:.1f} % of the questions, none on {data_none_right:.1f} %.
""")

# %% [markdown]
# **In the paper:** Section 4. **Published:** numbers of models, questions and benchmarks.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
seed: int = 0  # of the simulated pool and the split

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import load_dataset, load_published
from embedllm.plots.dataset import (
    plot_accuracy,
    plot_agreement,
    plot_composition,
    plot_distributions,
)
from embedllm.protocol.reported_values import report
from embedllm.studies.dataset import (
    agreement_ceilings,
    anchor_table,
    coverage,
    dataset_values,
    histograms,
    model_table,
    pairwise_agreement,
    split_table,
)
from IPython.display import display

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# What is known of each model, and what was resolved while the data were read, such as duplicated rows with different labels
# (empty if nothing was):

# %% tags=["hide-cell"]
display(matrix.models.head())
matrix.report_

# %% [markdown]
# ## Benchmarks
#
# Left, the number of questions of each benchmark; right, the distribution of the models' accuracies on it (box:
# quartiles; whiskers: 1.5 times the interquartile range; points: models outside).

# %% tags=["hide-input"]
plot_composition(matrix)

# %% [markdown]
# ## Models
#
# Left, the accuracies of the models over their observed answers; right, the difficulty of the questions. A question at
# either end, which all models or none answer correctly, gives no information about which model to ask.

# %% tags=["hide-input"]
plot_distributions(histograms(matrix))

# %% [markdown]
# Accuracy over the observed answers of each model on each benchmark. A blank cell is a model without an observed answer
# there: an unobserved answer never counts as incorrect.

# %% tags=["hide-input"]
plot_accuracy(matrix)

# %% [markdown]
# ## Agreement between models
#
# Two models agree on a question if both are correct or both are incorrect. Left, the share of the questions observed for
# both on which they agree; right, Cohen's kappa: 0 is no more agreement than that of independent models of the same
# accuracies, 1 is complete. Models with similar errors are next to each other, by a clustering. A white cell off the diagonal
# is a pair without a question in common, or with only correct or only incorrect answers.

# %% tags=["hide-input"]
agreement = pairwise_agreement(matrix)
plot_agreement(agreement.pairs(), agreement.order(), matrix.source)

# %% [markdown]
# ## Missing entries
#
# Numbers of models that answered all, some and none of the questions of each benchmark; the models with the most missing
# answers; and the best models. Where answers are missing, models are compared on different questions, which their ranking
# does not correct for.

# %% tags=["hide-cell"]
models = model_table(matrix)
display(coverage(matrix).round(1))
display(models.nlargest(5, "missing (%)").round(3))
models.head(12).round(3)

# %% [markdown]
# ## The split
#
# Questions are divided, never models: the source's own split where there is one, otherwise 80/10/10 at random, with
# questions of the same text in one part. The last column counts those whose text is that of another question in the
# training part, so that a predictor can remember the answers; it is NaN where the data have no prompts.

# %% tags=["hide-input"]
parts = matrix.split(random_state=seed)
split_table(parts)

# %% [markdown]
# ## Beside the paper
#
# The paper counts a question once for each test set that contains it; its released files have 35,673 distinct prompts.

# %% tags=["hide-cell"]
load_published().loc[["models", "questions", "benchmarks", "split"]]

# %% [markdown]
# The simulated pool is anchored to what is published of the paper's ([data](../data)): some quantities are there by
# construction, some are tuned, some are free. A result that one of the first two decides is not evidence about the paper.
# MF and KNN are fitted on the page on [forecasting](../notebooks/forecasting).

# %% tags=["hide-cell"]
anchor_table(matrix, agreement).round(1) if dataset == "simulated" else None

# %% [markdown]
# ## Pairs that agree most
#
# The pairs that agree most beyond chance, and runs of one model. Two such runs, such as the same weights at two providers, do not agree on every question: what differs cannot be
# predicted from the question. If chance is all that differs, and the runs agree on a share $a$ of the questions, no
# forecast of one of them is correct on more than $(1 + \sqrt{2a - 1})/2$, the column `at most`. Below such pairs, if the
# data have any, are those of the most similar other models: they differ by more than chance, so that for them the column
# is no bound.

# %% tags=["hide-cell"]
display(agreement.pairs().head(10).round(3))
agreement_ceilings(agreement).round(3)

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
from myst_nb import glue

glue("data_source", matrix.source, display=False)
values = dataset_values(matrix, agreement)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source, data_source=matrix.source)
recap(
    """
**What we learned.** A pair of models agrees on {data_agreement:.1f} % of the questions that both answered, where
{data_expected:.1f} % would be expected from their accuracies (mean kappa {data_kappa:.2f}). Where all models are correct, or
none, it does not matter which one a router asks.
""",
    values,
)
