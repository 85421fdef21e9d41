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
# **Goal.** Look at single models and single questions: which models are alike, and to which model do the routers send a
# question?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
[The map](#the-models) has {models:,.0f} models, [the table](#the-routes) the choices of {routers:.0f} routers for
{shown:,.0f} of {tested:,.0f} test questions, drawn at random. On {correct:.1f} % of them the model that MF chooses is correct; on
{hopeless:.1f} % no model is.
""")

# %% [markdown]
# The map and the table can be filtered, searched and sorted in the browser. They hold all their data; nothing is loaded
# from a server.
#
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = "auto"  # noise in training: MF's ridge penalty
n_neighbors: int = 131  # k of KNN
n_questions: int = 500  # test questions in the table, drawn at random
seed: int = 0  # of the simulated pool, and of the run

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-input"]
from embedllm import (
    KNNCorrectness,
    MatrixFactorization,
    fit_runs,
    load_dataset,
)
from embedllm.plots.explore import explore_models, explore_routes
from embedllm.protocol.routers import standard_policies
from embedllm.studies.communities import map_models, measure_distances
from embedllm.studies.explore import map_table, route_choices

matrix = load_dataset(dataset, scale=scale, random_state=seed)
predictors = {
    "MF": MatrixFactorization(dim=dim, alpha=alpha),
    "KNN": KNNCorrectness(n_neighbors=n_neighbors),
}
first = next(fit_runs(matrix, predictors, seed, 1))
matrix

# %% [markdown]
# ## The models
#
# A map as on the page on [communities](../notebooks/communities), with alpha as it is set above: near models find the same questions harder and the same
# questions easier; the distances between groups, and the axes, have no meaning. Larger markers are larger models. Point
# at a marker, or touch it, for what is known of the model and its accuracy over all its observed answers. Models outside
# a filter stay as faint dots.

# %%
positions = map_models(
    measure_distances(first)["MF"], matrix.models, matrix.source
)
explore_models(map_table(matrix, positions))

# %% [markdown]
# ## The routes
#
# One row for each test question of the sample and each router: the model that it chooses, the predicted probability that
# this model is correct, and whether it was. The routers are those of the page on [routing](../notebooks/routing) that
# choose by a prediction, in the first run; for `best single model` the prediction is its training accuracy. *Models
# correct* is the share of the models that answered the question correctly: where it is 0, no router could be correct.
#
# The buttons in the head of a column sort and filter by it; the search box searches all columns.

# %%
policies = standard_policies("MF", "KNN")
names = ["MF", "KNN", "best model per benchmark", "best single model"]
routers = {name: policies[name] for name in names}
choices = route_choices(first, routers, n_questions)
explore_routes(choices, first.split.test.n_questions)

# %% tags=["remove-input"]
of_mf = choices.query("router == 'MF'")
in_short.fill(
    [],
    matrix.source,
    models=matrix.n_models,
    routers=len(routers),
    shown=len(of_mf),
    tested=first.split.test.n_questions,
    correct=100 * of_mf["correct"].mean(),
    hopeless=100 * (of_mf["models_correct"] == 0).mean(),
)
recap(
    """
**What we learned.** Single rows are examples. Averages with their uncertainty are on the pages on
[communities](communities.html) and [routing](routing.html).
""",
    [],
)
