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
    KNNCorrectness,
    MatrixFactorization,
    evaluate_routers,
    load_dataset,
    route_shares,
    standard_routers,
)
from embedllm.forecasting import percent_table
from embedllm.plots import plot_route_shares, plot_routers

matrix = load_dataset(dataset, scale=scale, random_state=seed)
train, val, test = matrix.split(random_state=seed)
matrix

# %% [markdown]
# ## The routers
#
# - `oracle`: a model that is right, if there is one; no router can do better.
# - `MF`, `KNN`: the model with the highest predicted correctness.
# - `best of benchmark`: the model that was best in training on the benchmark of the question, which it has to be told.
# - `single best`: the model that was best in training, for every question.
# - `weighted random`: models drawn as often as MF chooses them; `uniform random`: all alike. Both are given as the
#   exact expectation over draws.
#
# Every router chooses among the models whose answer to the question was observed. Ties go to the name that comes first.
# The bars are two standard errors over questions to each side.

# %%
mf = MatrixFactorization(
    dim=dim, alpha=alpha, preset=preset, random_state=seed
).fit(train, validation=val)
knn = KNNCorrectness(n_neighbors).fit(train)
routers = standard_routers(train, mf, knn)
evaluation = evaluate_routers(routers, test)
plot_routers(evaluation)

# %%
overall = evaluation.query("benchmark == 'overall'").set_index("router")
overall.drop(columns="benchmark").round(4)

# %% [markdown]
# Accuracy by benchmark, in percent:

# %%
percent_table(evaluation, "router")

# %% [markdown]
# ## Who gets the questions?

# %%
shares = {name: route_shares(routers[name], test) for name in ("MF", "KNN")}
plot_route_shares(shares, test.source)

# %% tags=["remove-cell"]
from myst_nb import glue

percent = overall["accuracy"] * 100
glue(
    "route_questions", int(overall.loc["MF", "n_questions"]), display=False
)
glue("route_mf", float(percent["MF"]), display=False)
glue("route_knn", float(percent["KNN"]), display=False)
glue("route_single", float(percent["single best"]), display=False)
glue("route_oracle", float(percent["oracle"]), display=False)
glue("route_weighted", float(percent["weighted random"]), display=False)
glue(
    "route_gain",
    float(percent["MF"] - percent["single best"]),
    display=False,
)

# %% [markdown]
# **Recap.** On {glue:text}`route_questions:,d` test questions the MF router is right on {glue:text}`route_mf:.1f` %,
# the KNN router on {glue:text}`route_knn:.1f` %, the single best model on {glue:text}`route_single:.1f` % (MF minus
# single best: {glue:text}`route_gain:+.1f` points), and an oracle would be on {glue:text}`route_oracle:.1f` %.
