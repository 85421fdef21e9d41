# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Communities of models
#
# **Goal.** Test whether models of one size, or of one specialization, are closer to each other than random models, although
# the fit uses neither, and find the models that are most similar to a given one.
#
# The paper (Figure 6) compares, for three sizes (7B, 13B, 70B) and three specializations (coding, bio/medical, physics),
# the mean distance between embeddings within the community with that to other models, and finds it smaller.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = 0.05  # noise in training: MF's ridge penalty
epochs: int = 50  # of SGD
model: str = (
    ""  # whose nearest models are listed; by default, the best model
)
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from dataclasses import replace

from embedllm import (
    PRESETS,
    MatrixFactorization,
    load_dataset,
    load_published,
)
from embedllm.plots.communities import plot_communities, plot_model_map
from embedllm.protocol.reported_values import report
from embedllm.studies.communities import (
    choose_model,
    community_values,
    compare_communities,
    compare_each_seed,
    map_models,
    measure_distances,
    nearest_models,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Which distances?
#
# The paper compares the embeddings $p_m$ that SGD trains. Multiply one coordinate of all $p_m$ by 10 and divide it in the
# classifier by 10: every prediction stays the same, while the distances change. More generally, any invertible matrix may
# be put between the embeddings and the projection. So the answers do not determine these distances; they also depend on
# the random start of the fit: [What EmbedLLM is](../notebooks/what_embedllm_is) shows how far they agree between seeds.
#
# In the coordinates of the exact fit, the distance of two models has a meaning
# ([What EmbedLLM is](../notebooks/what_embedllm_is)). With all dimensions it is the standard deviation over the training
# questions of the difference of their logits, with fewer an approximation: two models are near if they find the same questions harder and the same questions easier.
# How good a model is whatever the question, its mean logit, is left out.
#
# Distances are divided by their mean over all pairs of models and averaged over the runs. SGD is fitted once, for the
# first seed, with the paper's optimizer and noise; the paper has 232 dimensions and 50 epochs.

# %%
estimators = {
    "SGD": MatrixFactorization(
        dim=dim,
        solver="sgd",
        preset=replace(PRESETS["paper"], epochs=epochs),
    ),
    "exact": MatrixFactorization(dim=dim, alpha=alpha),
}
distances = measure_distances(matrix, estimators, seed, n_seeds)

# %% [markdown]
# ## Closer than at random?
#
# {term}`Communities <community>` come from the metadata of the models: every size, rounded to whole billions of parameters,
# and every tag that at least three models have. The paper's six are always listed, *undefined* where they have fewer than
# three members. The ratio is the mean distance of two members over that of a member and a model outside; grey bars are the
# central 95 % of the ratios of 10,000 random communities of the same size, and p is the probability that a random one is
# as close (one-sided). At a threshold of 0.05, one in twenty communities would pass by chance, so a single one is weak
# evidence.

# %%
communities = compare_communities(distances, matrix.models)
plot_communities(communities)

# %%
communities.round(4)

# %% [markdown]
# Where answers are missing, the fit of a model depends on the questions that it answered: models that were run on
# the same benchmarks can be close for that reason alone.
#
# ## A map
#
# t-SNE of the exact distances: it tries to keep near models near; the distances between groups, and the axes, have no
# meaning. Names are left out where there is no room; the page to [explore](../notebooks/explore) shows all.

# %%
positions = map_models(distances["exact"], matrix.models)
plot_model_map(positions)

# %% [markdown]
# ## Nearest models
#
# The models nearest to the one that the parameter `model` names, or to the best model in training. A distance of 1 is the
# mean over all pairs of models; the spread is the standard deviation over the runs.

# %%
chosen = choose_model(matrix, model, seed)
chosen

# %%
nearest_models(distances["exact"], matrix.models, chosen).round(3)

# %% [markdown]
# ## Beside the paper
#
# The claim is a ratio below 1 for each community, without a test.

# %%
load_published().loc[["community_distances"]]

# %% [markdown]
# ## Reported values
#
# Here each run is tested on its own, and the counts are means over the runs, so that a community with a p close to the
# threshold counts in part.

# %%
by_seed = compare_each_seed(distances, matrix.models)
report(community_values(by_seed), matrix.source)

# %% [markdown]
# **Recap.** Of {glue:text}`communities_tested:.0f` communities, {glue:text}`exact_found:.1f` are closer than random
# ones with p below 0.05 in the exact coordinates (mean over the runs), and {glue:text}`sgd_found:.0f` by SGD's embeddings.
# Of the paper's six, {glue:text}`paper_communities:.0f` can be tested here: the ratio of the distances within and between
# is below 1 for {glue:text}`sgd_paper_closer:.0f` of them by SGD's embeddings and for {glue:text}`exact_paper_closer:.1f`
# in the exact coordinates, with p below 0.05 for {glue:text}`sgd_paper_found:.0f` and
# {glue:text}`exact_paper_found:.1f`. The mean ratio over all communities is {glue:text}`sgd_ratio:.3f` and
# {glue:text}`exact_ratio:.3f`.
