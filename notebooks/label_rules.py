# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How much of it is the rule for labels?
#
# **Goal.** Repeat the forecasting experiment under every published rule for a (model, question) with several labels, and
# for one with none, and see how much of the difference between MF and KNN belongs to the rule.
#
# An eighth of the rows of the paper's release repeat a (model, question), some with the other label. The authors' scripts
# take such rows in three different ways: KNN counts a success if *any* row is one, MF learns from *all rows*, the router
# keeps the *last*; cells without a row become wrong answers. So the methods are compared on different labels. This book
# takes the *majority* for all of them, and leaves ties and missing cells out ([What differs](../differences)). The
# hyperparameters are the paper's.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
missing: float = 0.1  # share of its cells hidden; no effect on others
dim: int = 232  # size of a model embedding
alpha: float = 0.05  # noise on the question embeddings, in training only
n_neighbors: int = 131  # k of KNN
preset: str = "fast"  # how MF is trained: "fast" or "paper"
seed: int = 0  # of the simulated pool, what is planted, the split and MF
n_seeds: int = 2  # repetitions, from this seed on

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import load_dataset, load_published
from embedllm.plots.label_rules import plot_protocols
from embedllm.protocol.reported_values import report
from embedllm.protocol.runs import Settings
from embedllm.studies.label_rules import (
    compare_protocols,
    cross_rules,
    label_rule_values,
    read_every_way,
    score_readings,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
readings = read_every_way(
    dataset, matrix, missing=missing, random_state=seed
)
readings.matrix

# %% [markdown]
# ## The same rows, read in every way
#
# The simulated pool has one answer for each cell. Repeats are planted in it as the look-alike of the release has them
# ({func}`~embedllm.datasets.lookalike.draw_answers`): their number is the release's; that they sit on few questions of one
# benchmark is inferred; and the share of them with the other label, {data}`~embedllm.datasets.lookalike.CONFLICTS`, is **made
# up**, as the release was never seen. Cells are hidden at random, a share that is made up as well. On observed answers,
# nothing is planted.
#
# `rows` has a column for each row, the second and further ones on copies of the question. A reading that is the *same
# as* another shares its fits; where no row is a repeat, the four rules are one.

# %%
readings.table().round(2)

# %% [markdown]
# ## Train and score under each
#
# Each line trains MF, KNN and the floor on one reading; `authors' mixture` trains KNN on `any` and MF (and the floor) on
# `rows`, with missing cells as wrong. Each is scored on the labels of its own reading, as the rule's user would; on the
# majority labels, each observed cell once, so that only what was learned differs; and on every row, so that a cell with
# fifteen rows counts fifteen times. Bars: 95 % intervals over the test questions, resampled together for both methods.

# %%
settings = Settings(
    dim=dim, alpha=alpha, n_neighbors=n_neighbors, preset=preset
)
scores = score_readings(readings, settings, seed, n_seeds)
comparison = compare_protocols(scores)
plot_protocols(comparison)

# %%
comparison.drop(columns="runs").round(2)

# %% [markdown]
# MF minus KNN (points), for each rule in training and each in scoring, missing cells left out. Down a column, what a rule
# does to the fits; along a row, what it does to the scores.

# %%
cross_rules(scores).round(2)

# %% [markdown]
# ## Beside the paper
#
# By the authors' scripts, the published accuracies come from the mixture: MF's from one rule and KNN's from another.

# %%
load_published().loc[["mf_accuracy", "knn_accuracy"]]

# %% [markdown]
# ## The numbers of this page

# %%
report(label_rule_values(readings, comparison), matrix.source)

# %% [markdown]
# **Recap.** {glue:text}`repeated_rows:,.0f` rows repeat a (model, question); {glue:text}`conflicting_cells:,.0f` cells
# have both labels, {glue:text}`tied_cells:,.0f` of them tied, and {glue:text}`missing_cells:.1f` % of the cells have no
# row. MF minus KNN is {glue:text}`gap_majority:+.2f` points under `majority` (95 % interval
# {glue:text}`gap_majority_low:+.2f` to {glue:text}`gap_majority_high:+.2f`), {glue:text}`gap_any:+.2f` under `any`,
# {glue:text}`gap_rows:+.2f` under `rows` and {glue:text}`gap_last:+.2f` under `last`: a range of
# {glue:text}`gap_range:.2f` points, or of {glue:text}`gap_range_training:.2f` if all are scored on the majority labels.
# Missing cells as wrong change it by {glue:text}`missing_effect:+.2f` points, scoring rows instead of cells by
# {glue:text}`rows_effect:+.2f`, and the authors' mixture by {glue:text}`authors_effect:+.2f`, to
# {glue:text}`gap_authors:+.2f`.
