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
# Are models of one size, or of one specialization, closer to each other than to other models, although the fit uses
# neither?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
We follow the protocol of the paper's [Figure 6](#communities-raw-distances). Of its six communities,
the number with at least three members here is {paper_communities:.0f}. Number of these whose members are closer to each other
than to other models:

- by SGD's vectors: {sgd_paper_closer_words};
- ours, in the exact coordinates: {exact_paper_closer_words}.

Ours: of all {communities_tested:.0f} communities with at least three members, the number that is closer than random ones of
their size in the exact coordinates, corrected for the number of tests: {exact_found_words}.
""")

# %% [markdown]
# **In the paper:** Figure 6. **Published:** the claim in words, and a picture.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = 0.05  # noise in training: MF's ridge penalty
model: str = (
    ""  # whose nearest models are listed; by default, the best model
)
seed: int = 0  # of the simulated pool, and of the run

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import (
    MatrixFactorization,
    fit_runs,
    load_dataset,
    load_published,
)
from embedllm.plots.communities import (
    plot_communities,
    plot_model_map,
    plot_raw_distances,
)
from embedllm.protocol.reported_values import report
from embedllm.protocol.shared_fit import paper_training
from embedllm.studies.communities import (
    choose_model,
    community_values,
    compare_communities,
    map_models,
    measure_distances,
    nearest_models,
)
from IPython.display import display

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Figure 6: within a community and to other models
#
# The paper compares, for three sizes (7B, 13B, 70B) and three specializations (coding, bio/medical, physics), the mean L2
# distance $|p_m - p_n|$ of two members with that of a member and another model. The vectors are those of the paper's
# training: SGD with 232 dimensions and noise 0.05, fitted once for this page and those on
# [forecasting](../notebooks/forecasting) and [routing](../notebooks/routing). [Communities](../glossary) come from
# the metadata of the models. All distances of this page are those of the first run.

# %% tags=["hide-input"]
estimators = {
    "SGD": paper_training(),
    "exact": MatrixFactorization(dim=dim, alpha=alpha),
}
run = next(fit_runs(matrix, estimators, seed, 1))
distances = measure_distances(run)
communities = compare_communities(distances, matrix.models, matrix.source)
plot_raw_distances(communities.query("space == 'SGD' and paper"))

# %% [markdown]
# A community needs three members, and a data set three such communities: with fewer, what is reported of them below is
# *not testable*. The claim of the paper is in words: the heights of its bars are not published as numbers.

# %% tags=["hide-cell"]
load_published().loc[["community_distances"]]

# %% [markdown]
# ## Ours: two kinds of distances
#
# Multiply one coordinate of all $p_m$ by 10 and divide it in the classifier by 10: every prediction stays the same, while
# the distances change. More generally, any invertible matrix may be put between the embeddings and the projection. So the
# answers do not determine the distances of Figure 6; they also depend on the random start of the fit:
# [What EmbedLLM is](../notebooks/what_embedllm_is) shows how far they agree between seeds.
#
# In the exact coordinates, the distance of two models has a meaning. With all dimensions it is the standard deviation over the
# training questions of the difference of their logits, with fewer an approximation: two models are near if they find the same
# questions harder and the same questions easier. How good a model is whatever the question, its mean logit, is left out:
# distances are smaller than the root mean square ones on [What EmbedLLM is](../notebooks/what_embedllm_is) and
# [portfolios](../notebooks/portfolio).
#
# ## Ours: closer than at random?
#
# Every size, rounded to whole billions of parameters, and every tag that at least three models have; the paper's six are
# always listed, *undefined* where they have fewer than three members. The ratio is the mean distance of two members over
# that of a member and a model outside; 95 % of 10,000 random communities of the same size lie in the grey bars. p is the
# probability that a random community is at least as close (one-sided, and so is the bar), corrected by Holm's method for the
# number of communities: if none differed from random ones, one or more would have p below 0.05 in at most one of twenty
# data sets. The paper has neither a test nor these coordinates.

# %% tags=["hide-input"]
plot_communities(communities)

# %% tags=["hide-cell"]
communities.round(4)

# %% [markdown]
# Where answers are missing, the fit of a model depends on the questions that it answered: models that were run on
# the same benchmarks can be close for that reason alone.
#
# ## Ours: a map
#
# t-SNE of the exact distances: it tries to keep near models near; the distances between groups, and the axes, have no
# meaning. Names are left out where there is no room; [Explore models and routes](../notebooks/explore) shows all.

# %% tags=["hide-input"]
positions = map_models(distances["exact"], matrix.models, matrix.source)
plot_model_map(positions)

# %% [markdown]
# ## Ours: nearest models
#
# The models nearest to the one that the parameter `model` names, or to the best model in training. Distances are in
# the exact coordinates, in logits, without the mean logit.

# %% tags=["hide-cell"]
chosen = choose_model(run.split.train, model)
display(chosen)
nearest_models(
    distances["exact"], matrix.models, chosen, matrix.source
).round(3)

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = community_values(communities)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.** A ratio of the distances within and between below 1 does not yet mean closer than random communities of
the same size. The mean ratio, and the numbers that are closer than random (corrected p below 0.05):

| communities | SGD's vectors | exact coordinates |
|---|---|---|
| all, mean ratio | {sgd_ratio_words} | {exact_ratio_words} |
| all, closer than random | {sgd_found_words} | {exact_found_words} |
| of the paper, closer than random | {sgd_paper_found_words} | {exact_paper_found_words} |
""",
    values,
)
