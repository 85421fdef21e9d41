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
alpha: float = 0.05  # noise on the question embeddings, in training only
preset: str = "fast"  # how MF is trained: "fast" or "paper"
model: str = (
    ""  # whose nearest models are listed; by default, the best model
)
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: each with its random split, if any, and fit of MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import MatrixFactorization, load_dataset, load_published
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
mf = MatrixFactorization(dim=dim, alpha=alpha, preset=preset)
matrix

# %% [markdown]
# ## Which distances?
#
# The logit of model $m$ on a question with embedding $q$ is $u_m \cdot q + t_m$, where
# $u_m = W^\top ((c_1 - c_0) \odot p_m)$ is made of the model embedding $p_m$, the classifier $c$ and the projection $W$.
# Multiply one coordinate of all $p_m$ by 10 and divide it in the classifier by 10: every prediction stays the same, while
# the distances between the $p_m$ change. More generally, any invertible matrix may be put between $(c_1 - c_0) \odot p_m$
# and $W$. So the answers do not determine the distances between *embeddings* $p_m$; these also depend on the random start
# of the fit, and coordinates that the fit did not need to change are still at their start.
#
# The *model directions* $u_m$ are the same in all these forms, because the predictions determine them, and their distance
# has a meaning: add random noise of unit variance to a question, and $\lVert u_m - u_n \rVert$ is the standard deviation
# of the change in the difference of two models' logits. Two models are near if they find the same questions harder and the
# same questions easier. The constant $t_m$, how good a model is whatever the question, is left out.
#
# For that reason, and not for the results below, this page draws its conclusions from directions; embeddings, as in the
# paper, are shown beside them. The distances of each fit are divided by their mean over all pairs of models and then
# averaged over the runs.

# %%
distances = measure_distances(matrix, mf, seed, n_seeds)

# %% [markdown]
# ## Closer than at random?
#
# {term}`Communities <community>` come from the metadata of the models: every size, rounded to whole billions of parameters,
# and every tag that at least three models have. The paper's six are always listed, *undefined* where they have fewer than
# three members. The ratio is the mean distance of two members over that of a member and any other model; grey bars are the
# central 95 % of the ratios of 10,000 random communities of the same size, and p is the probability that a random one is
# as close (one-sided). At a threshold of 0.05, one in twenty communities would pass by chance, so a single one is weak
# evidence.

# %%
communities = compare_communities(distances, matrix.models)
plot_communities(communities)

# %%
communities.round(4)

# %% [markdown]
# Where answers are missing, the direction of a model depends on the questions that it answered: models that were run on
# the same benchmarks can be close for that reason alone.
#
# ## A map
#
# t-SNE of the distances between directions: near models stay near; the distances between groups, and the axes, have no
# meaning. Names are left out where there is no room; the page to [explore](../notebooks/explore) shows all.

# %%
positions = map_models(distances["direction"], matrix.models)
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
nearest_models(distances["direction"], matrix.models, chosen).round(3)

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
# **Recap.** Of {glue:text}`communities_tested:.0f` communities, {glue:text}`direction_found:.1f` are closer than random
# ones with p below 0.05 by their directions (mean over the runs), and {glue:text}`embedding_found:.1f` by the
# embeddings themselves. Of the paper's six, {glue:text}`paper_communities:.0f` can be tested here: the ratio of the
# distances within and between is below 1 for {glue:text}`direction_paper_closer:.1f` of them by directions and for
# {glue:text}`embedding_paper_closer:.1f` by embeddings, with p below 0.05 for {glue:text}`direction_paper_found:.1f` and
# {glue:text}`embedding_paper_found:.1f`. The mean ratio over all communities is {glue:text}`direction_ratio:.3f` by
# directions and {glue:text}`embedding_ratio:.3f` by embeddings.
