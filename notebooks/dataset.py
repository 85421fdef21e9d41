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
# **Goal.** See what the correctness matrix holds before anything is learned from it: which benchmarks, how many
# questions, how good the models are, and how much of the matrix was observed.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
seed: int = 0  # of the simulated pool

# %% tags=["remove-input"]
from embedllm.parameters import check_parameters

check_parameters()

# %%
from embedllm import load_dataset
from embedllm.plots import plot_accuracy, plot_composition

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# Each question has a benchmark and an embedding, each model a name and what is known of it:

# %%
matrix.models.head()

# %% [markdown]
# What was resolved while the data were read, such as repeated rows with different labels (empty if nothing was):

# %%
matrix.report_

# %% [markdown]
# ## Benchmarks
#
# Left, the questions of each benchmark; right, the spread of the models' accuracies on it (box: quartiles, whiskers:
# 1.5 times the box, points: models beyond).

# %%
plot_composition(matrix)

# %% [markdown]
# ## Models
#
# Accuracy over the observed answers of each model on each benchmark. A blank cell is a model without an observed answer
# there: not observed is never counted as wrong.

# %%
plot_accuracy(matrix)

# %%
accuracy = matrix.accuracy(by="model").sort_values(
    "accuracy", ascending=False
)
accuracy.round(4)

# %% [markdown]
# ## The split
#
# Questions are divided, never models: the source's own split where there is one, otherwise 80/10/10 at random.

# %%
parts = matrix.split(random_state=seed)
for name, part in parts._asdict().items():
    print(f"{name}: {part.n_questions:,} questions")

# %% tags=["remove-cell"]
from myst_nb import glue

glue("data_source", matrix.source, display=False)
glue("data_models", matrix.n_models, display=False)
glue("data_questions", matrix.n_questions, display=False)
glue("data_benchmarks", len(matrix.benchmark_names), display=False)
glue("data_train", parts.train.n_questions, display=False)
glue("data_test", parts.test.n_questions, display=False)
glue("data_worst", float(accuracy["accuracy"].min() * 100), display=False)
glue("data_best", float(accuracy["accuracy"].max() * 100), display=False)
glue("data_observed", float(matrix.observed.mean() * 100), display=False)

# %% [markdown]
# **Recap.** {glue:text}`data_source`: {glue:text}`data_models:,d` models, {glue:text}`data_questions:,d` questions of
# {glue:text}`data_benchmarks:d` benchmarks, {glue:text}`data_observed:.1f` % of the cells observed; single models are
# right on {glue:text}`data_worst:.1f` to {glue:text}`data_best:.1f` % of their questions.
