# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Routing questions to models
#
# **Goal.** Send each question to the model most likely to answer it rightly, and measure what that gains over always
# asking the best single model.
#
# The paper's claim is that the vectors learned from answers route better than the best single model does.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float = 0.05  # noise on the question embeddings, in training only
n_neighbors: int = 131  # k of KNN
preset: str = "fast"  # how MF is trained: "fast" or "paper"
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # repetitions: of the split, if it is random, and of MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import load_dataset, load_published
from embedllm.plots.routing import (
    plot_route_shares,
    plot_router_gains,
    plot_routers,
)
from embedllm.protocol.reported_values import report
from embedllm.protocol.runs import Settings, fit_repetitions
from embedllm.protocol.tally import difference_table
from embedllm.studies.forecasting import percent_table
from embedllm.studies.routing import (
    mean_route_shares,
    route_speed,
    route_table,
    route_values,
    tally_route_repetitions,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
settings = Settings(dim, alpha, n_neighbors, preset)
matrix

# %% [markdown]
# ## The routers
#
# - {term}`oracle`: a model that is right, if there is one; no router can do better.
# - `MF`, `KNN`: the model with the highest predicted correctness.
# - {term}`best model per benchmark`: the model that was best in training on the benchmark of the question, which it has to be
#   told.
# - {term}`best single model`: the model that was best in training, for every question.
# - `weighted random`: models drawn as often as MF chooses them; `uniform random`: all alike. Both are given as the
#   exact expectation over draws.
#
# Every router chooses among the models whose answer to the question was observed. Ties go to the name that comes first.
# Markers are means over the repetitions, bars two standard errors over questions to each side.

# %%
fits = list(fit_repetitions(matrix, settings, seed, n_seeds))
tally = tally_route_repetitions(fits)
evaluation = route_table(tally)
plot_routers(evaluation)

# %%
overall = evaluation.query("benchmark == 'overall'").set_index("router")
overall.drop(columns="benchmark").round(4)

# %% [markdown]
# Accuracy by benchmark, in percent:

# %%
percent_table(evaluation, "router")

# %% [markdown]
# ## What does it gain?
#
# Accuracy minus that of the best single model, with 95 % intervals. They are {term}`paired <paired bootstrap
# interval>`: questions are resampled with the routes of all, so that what makes a question easy for all models cancels
# out. An interval that holds zero is no evidence for either side.

# %%
gains = tally.differences("best single model")
plot_router_gains(gains)

# %% [markdown]
# Overall, in points:

# %%
gains.query("benchmark == 'overall'").drop(columns="benchmark").round(2)

# %% [markdown]
# MF by benchmark, in points:

# %%
difference_table(gains.query("router == 'MF'"), "router")

# %% [markdown]
# ## Who gets the questions?
#
# Shares of the test questions, means over the repetitions. [In the browser](../notebooks/explore) the routes of single
# questions can be looked through.

# %%
plot_route_shares(mean_route_shares(fits), matrix.source)

# %% [markdown]
# ## How fast is it?
#
# Questions a second, choosing among all models for questions whose embeddings are at hand, and how far memory rises
# meanwhile, measured when this page was built. The page on [cost](../notebooks/cost) has the authors' procedure and the
# arithmetic beside it.

# %%
route_speed(fits[0]).round(1)

# %% [markdown]
# ## Beside the paper
#
# The paper's routing time is on its own data and hardware. The routing accuracies were published by others, on another
# selection of the data (1,024 samples a model), and are comparable with ours in order of magnitude at best.

# %%
load_published().loc[["routing_seconds", "embedllm_routing_accuracy"]]

# %% [markdown]
# ## The numbers of this page

# %%
report(route_values(tally), matrix.source)

# %% [markdown]
# **Recap.** On {glue:text}`route_questions:,.0f` test questions the MF router is right on {glue:text}`route_mf:.2f` %,
# the KNN router on {glue:text}`route_knn:.2f` %, the best model of each benchmark on
# {glue:text}`route_best_of_benchmark:.2f` %, the best single model on {glue:text}`route_single:.2f` %, and an oracle
# would be on {glue:text}`route_oracle:.2f` %. MF minus best single model is {glue:text}`route_gain:+.2f` points (95 % interval
# {glue:text}`route_gain_low:+.2f` to {glue:text}`route_gain_high:+.2f`), MF minus KNN
# {glue:text}`route_mf_minus_knn:+.2f` points. What MF gains by reading the question is the distance to models drawn as
# often as it chooses them: {glue:text}`route_mf_minus_weighted:+.2f` points.
