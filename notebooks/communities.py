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
# **Goal.** See whether models of one size, or of one specialization, lie closer together than models do at random, though the
# fit is told neither, and find the models that are most like a given one.
#
# By a secondary summary, the paper compares, for three sizes (7B, 13B, 70B) and three specializations (coding, bio/medical,
# physics), the mean distance between embeddings within the community with that to other models, and finds it smaller.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float = 0.05  # noise on the question embeddings, in training only
preset: str = "fast"  # how MF is trained: "fast" or "paper"
model: str = (
    ""  # whose nearest models are listed; empty: the best in training
)
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # repetitions: of the split, if it is random, and of MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import load_dataset, load_published
from embedllm.plots.communities import plot_communities, plot_model_map
from embedllm.protocol.reported_values import report
from embedllm.protocol.runs import Settings
from embedllm.studies.communities import (
    choose_model,
    community_values,
    compare_communities,
    compare_each_repetition,
    map_models,
    measure_distances,
    nearest_models,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
settings = Settings(dim=dim, alpha=alpha, preset=preset)
matrix

# %% [markdown]
# ## Distances between what?
#
# The logit of model $m$ on a question with embedding $q$ is $u_m \cdot q + t_m$, where
# $u_m = W^\top ((c_1 - c_0) \odot p_m)$ is made of the model embedding $p_m$, the classifier $c$ and the projection $W$.
# Multiply one coordinate of all $p_m$ by 10 and divide it in the classifier by 10, and every prediction stays as it was,
# while the distances between the $p_m$ are others. More generally, any invertible matrix may be put between
# $(c_1 - c_0) \odot p_m$ and $W$. So the answers do not say how far apart two *embeddings* $p_m$ are; the fit's random
# start has its say, and where the fit had no need to move them, they are still where it put them.
#
# The {term}`directions <direction>` $u_m$ are the same in all these forms, because the predictions determine them, and
# their distance has a meaning: move a question by random noise of unit variance, and $\lVert u_m - u_n \rVert$ is the
# standard deviation of the change in the difference of two models' logits. Two models are near if they find the same
# questions harder and the same easier. How much a model knows whatever the question, $t_m$, is left out.
#
# For that reason, and not for the results below, this page draws its conclusions from directions; embeddings, as in the
# paper, are shown beside them. The distances of each fit are divided by their mean over all pairs of models and then
# averaged over the repetitions.

# %%
distances = measure_distances(matrix, settings, seed, n_seeds)

# %% [markdown]
# ## Closer than at random?
#
# {term}`Communities <community>` come from what is known of the models: every size, rounded to whole billions of
# parameters, and every tag that at least three models bear. The paper's six are always listed, *undefined* where there
# are fewer than three. The ratio is the mean distance of two members over that of a member and any other model; grey
# bars hold the middle 95 % of the ratios of 10,000 random communities of the same size, and p is the probability that a
# random one is as close (one-sided). At a threshold of 0.05, one in twenty communities would pass by chance, so a
# single one says little.

# %%
communities = compare_communities(distances, matrix.models)
plot_communities(communities)

# %%
communities.round(4)

# %% [markdown]
# Where cells are missing, the direction of a model rests on the questions that it answered: models that were run on the
# same benchmarks can come out alike for that reason alone.
#
# ## A map
#
# t-SNE of the distances between directions: it keeps near models together; how far apart groups lie, and the axes, mean
# nothing. Names are left out where there is no room; [in the browser](../notebooks/explore) all can be found.

# %%
positions = map_models(distances["direction"], matrix.models)
plot_model_map(positions)

# %% [markdown]
# ## Who is like whom?
#
# The models nearest to the one that the parameter `model` names, or to the best in training. A distance of 1 is the mean
# over all pairs of models; the spread is the standard deviation over the repetitions.

# %%
chosen = choose_model(matrix, model, seed)
chosen

# %%
nearest_models(distances["direction"], matrix.models, chosen).round(3)

# %% [markdown]
# ## Beside the paper
#
# As far as the summary goes, the claim is a ratio below 1 for each community, without a test.

# %%
load_published().loc[["community_distances"]]

# %% [markdown]
# ## The numbers of this page
#
# Here each repetition is tested on its own, and the counts are means over the repetitions, so that a community whose p
# is close to the threshold counts in part.

# %%
repeated = compare_each_repetition(distances, matrix.models)
report(community_values(repeated), matrix.source)

# %% [markdown]
# **Recap.** Of {glue:text}`communities_tested:.0f` communities, {glue:text}`direction_found:.1f` are closer than random
# ones with p below 0.05 by their directions (mean over the repetitions), and {glue:text}`embedding_found:.1f` by the
# embeddings themselves. Of the paper's six, {glue:text}`paper_communities:.0f` can be tested here: the ratio of the
# distances within and between is below 1 for {glue:text}`direction_paper_closer:.1f` of them by directions and for
# {glue:text}`embedding_paper_closer:.1f` by embeddings, with p below 0.05 for {glue:text}`direction_paper_found:.1f` and
# {glue:text}`embedding_paper_found:.1f`. The mean ratio over all communities is {glue:text}`direction_ratio:.3f` by
# directions and {glue:text}`embedding_ratio:.3f` by embeddings.
