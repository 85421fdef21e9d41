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
# **Goal.** Look at single models and single questions: which models are similar, on which benchmarks is a model strong, and
# to which model do the routers send a question?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
On {correct:.1f} % of the {shown:,.0f} test questions shown, the model that matrix factorization (MF) chooses is correct; on
{hopeless:.1f} % no model is.

- [The models](#the-models): {models:,.0f}, each with the models nearest to it.
- [The routes](#the-routes): the choices of {routers:.0f} routers for {shown:,.0f} of {tested:,.0f} test questions.
""")

# %% [markdown]
# The map and the tables can be filtered, searched and sorted in the browser. Their data are part of this page; nothing is
# loaded from a server.
#
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = "auto"  # noise in training: MF's ridge penalty
n_neighbors: int = 131  # k of KNN
n_questions: int = 1500  # at most, in the table of routes; drawn at random
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
from embedllm.plots.explore import (
    explore_models,
    explore_routes,
    explore_strengths,
)
from embedllm.protocol.routers import standard_policies
from embedllm.studies.communities import map_models, measure_distances
from embedllm.studies.dataset import agreement_ceilings, pairwise_agreement
from embedllm.studies.explore import (
    map_table,
    profile_models,
    route_choices,
)

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
# A map as on the page on [communities](../notebooks/communities), with `alpha`, the noise in training, as set above. Models
# that are close find the same questions hard and the same questions easy; the axes, and the distances between groups, have no
# meaning. Larger markers are larger models. Point at a marker, or touch it, to see what is known of the model and its accuracy
# over all its observed answers. Models outside a filter stay as faint dots.

# %%
distances = measure_distances(first)["MF"]
models = map_table(
    matrix, map_models(distances, matrix.models, matrix.source)
)
explore_models(models)

# %% [markdown]
# The table has a row for each model. Search it by name:
#
# - *nearest models*: the three with the smallest distance, and the share of the common questions on which both are
#   correct or both incorrect. Where answers are missing, models that were run on the same benchmarks can be close for
#   that reason alone;
# - *stronger on*, *weaker on*: the benchmarks on which the accuracy of the model is above, or below, an additive fit (a
#   number for each model plus a number for each benchmark). Up to three of each, in points, and only significant ones: the
#   number of correct answers is unlikely under the accuracy of the fit, by a binomial test that is corrected for the number
#   of models and benchmarks (Holm's method), from at least 30 answers;
# - *runs of the same model*, if there are any: names that differ only in the provider or in the format of the weights.

# %% tags=["remove-input"]
import itables

itables.init_notebook_mode(all_interactive=False, connected=False)

# %%
agreement = pairwise_agreement(matrix)
runs = agreement_ceilings(agreement, n_nearest=0)
described = profile_models(matrix, distances, agreement.agreement, runs)
explore_strengths(models.join(described))

# %% [markdown]
# ## The routes
#
# One row for each test question of the sample: its id and, where the licence of the data allows it, how its text begins.
# Texts are shown for MMLU-Pro, for ZeroEval without MATH, and for your own data where the questions have a licence in the
# column `license`. The routers are some of those of the page on [routing](../notebooks/routing), in the first run. None of
# them knows the answers. Their columns show the model that is chosen, after ✓ if it is correct and after ✗ if it is not.
#
# - *MF is*: whether the model that MF chooses is correct; *MF predicts*: the predicted probability that it is;
# - *routers disagree*: if they do, how many different models they choose;
# - *models correct*: the share of the models that answered the question correctly. Where it is 0, no router could be
#   correct.
#
# The buttons in the head of a column sort and filter by it. For example, choose *incorrect* in *MF is* to see the questions on
# which MF's choice is incorrect. The search box searches all columns.

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
**What we learned.** Single rows are examples, not evidence. Averages with their uncertainty are on the pages on
[communities](communities.html) and [routing](routing.html).
""",
    [],
)
