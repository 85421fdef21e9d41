# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Explore models and routes
#
# **Goal.** Look at single models and single questions: which models are alike, and where do the routers send a question?
#
# The map and the table work in the browser: filter, search and sort them. All that they show came with this page; they
# ask no server for anything.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float = 0.05  # noise on the question embeddings, in training only
n_neighbors: int = 131  # k of KNN
preset: str = "fast"  # how MF is trained: "fast" or "paper"
n_questions: int = 500  # test questions in the table, drawn at random
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # repetitions: of the split, if it is random, and of MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import load_dataset
from embedllm.protocol.runs import Settings, fit_repetitions
from embedllm.studies.communities import map_models, measure_distances
from embedllm.studies.explore import (
    explore_models,
    explore_routes,
    map_table,
    route_choices,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
settings = Settings(dim, alpha, n_neighbors, preset)
matrix

# %% [markdown]
# ## The models
#
# The map of the page on [communities](../notebooks/communities): near models find the same questions harder and the
# same easier; how far apart groups lie, and the axes, mean nothing. Larger markers are larger models. Point at a
# marker, or touch it, to see what is known of the model and its accuracy over all its observed answers. A filter leaves
# the other models as faint dots, and names those that are left once they are few.

# %%
distances = measure_distances(matrix, settings, seed, n_seeds)
positions = map_models(distances["direction"], matrix.models)
explore_models(map_table(matrix, positions))

# %% [markdown]
# ## The routes
#
# For each test question of the sample a row for each router: the model that it chooses, the probability that this model
# is right as the router sees it, and whether it was. The routers are those of the page on
# [routing](../notebooks/routing) that choose by a prediction, fitted in the first repetition; for `best single model` the
# prediction is its accuracy in training. *Models right* is the share of the models that answered the question rightly:
# where it is 0, no router could be right.
#
# The buttons in the head of a column sort and filter by it; the search box looks through all columns.

# %%
first = next(fit_repetitions(matrix, settings, seed, 1))
choices = route_choices(first, n_questions)
explore_routes(choices, first.split.test.n_questions)

# %% [markdown]
# **Recap.** Single rows are anecdotes: what holds on average, with its uncertainty, is on the pages on
# [communities](../notebooks/communities) and [routing](../notebooks/routing).
