# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A portfolio of few models
#
# A router must have access to every model that it may choose. How many models are enough to keep its accuracy, and which
# models are more alike than expected?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
With {portfolio_few:.0f} models, chosen on training questions, instead of all {portfolio_models:.0f}, the accuracy of the
router (matrix factorization, MF) on test questions changes by {portfolio_few_minus_all_words}. Ranges in parentheses are 95 %
intervals over questions; they leave out the differences between runs. Models of the data that are left out of the portfolios,
since they share too few answers with the others: {left_out}.

- Smallest number of models whose expected loss is at most half a point, by the probabilities that the router predicts (mean
  over the runs): {portfolio_fewest:.3g}. Change of the accuracy on test questions: {portfolio_fewest_minus_all_words}.
- Pairs of models flagged as more alike than expected, in the first run: {portfolio_flagged:.0f} of {portfolio_pairs:.0f} pairs
  of all models of the data.
  Change of the accuracy without one model of each flagged pair: {portfolio_drop_words}.
""")

# %% [markdown]
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.2  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import MatrixFactorization, fit_runs, load_dataset
from embedllm.plots.portfolio import plot_pairs, plot_portfolio
from embedllm.protocol.reported_values import report
from embedllm.studies.portfolio import Portfolio

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Which models to keep
#
# For each question $q$, a router that may choose among the models of a set $S$ takes the model $m$ with the highest predicted
# probability $p(m, q)$ of a correct answer. If these probabilities were exact, its accuracy would be
#
# $$F(S) = \frac{1}{|Q|} \sum_{q \in Q} \max_{m \in S} \; p(m, q).$$
#
# We call $F(S)$ the expected accuracy. $Q$ are the training questions. With the labels in place of $p$, $F$ would be the
# accuracy of an oracle, which knows the answers. The figure shows the accuracy of the router on test questions; the table after
# it shows $F$ on training questions.
#
# A further model never lowers $F$, and its gain is never larger for a set than for a subset of it ($F$ is monotone and
# submodular). The
# *greedy choice* starts with no model and adds, at each step, the model with the largest gain. It therefore reaches at least
# $1 - 1/e$, about 63 %, of the $F$ of the best set of the same size. The data give a bound that is at least as close: with
# the sets $S_0, S_1, \ldots$ of the greedy choice,
#
# $$F(\text{best } k \text{ models}) \le \min_j \Big[ F(S_j) + \text{the } k \text{ largest gains } F(S_j \cup \{m\}) - F(S_j)
# \Big].$$
#
# The router is that of [the paper](../notebooks/routing), with matrix factorization (MF). It is fitted once, on all models,
# and not again for each smaller set. `Portfolio` takes any other predictor too. Where answers are missing, only some models
# are in the portfolios: those with the most answers, as many as give the largest complete table of models and questions.

# %%
runs = fit_runs(matrix, {"MF": MatrixFactorization(dim=dim)}, seed, n_seeds)
portfolio = Portfolio(matrix, runs, router="MF")
plot_portfolio(portfolio.table(), portfolio.n_questions)

# %% [markdown]
# - `greedy choice`: as above;
# - `most accurate models`: by their accuracy on training questions;
# - `random models`: the mean over 20 random orders.
#
# The bands are paired 95 % intervals over test questions. Like all intervals of this page, they leave out the differences
# between runs and the draw of the random orders. The table has the first models of the greedy choice in the first run. For
# the first `k` of them, in percent: `expected`, the expected accuracy $F$; `at most`, the bound for the best set of `k`
# models; `reached`, the former as a share of the latter, so at least this share of the best set is reached.

# %% tags=["hide-cell"]
portfolio.choices().drop(columns="data").head(10).round(2)

# %% [markdown]
# ## Which models are more alike than expected
#
# The pairs are among all models of the data, those left out of the portfolios too. Two models agree on a question if both are
# correct or both are incorrect. A question can be harder or easier for all models than its text shows, and then any two
# models agree more often than if they were independent. The probability of a correct answer of model $m$ is therefore
# corrected by the answers of the other models:
#
# $$e(m, q) = p(m, q) + b_m \, d(m, q), \qquad d(m, q) = \operatorname*{mean}_{n \neq m} \left[ y(n, q) - p(n, q) \right].$$
#
# Here $y$ is 1 for a correct answer and 0 for an incorrect one, $p$ is the fitted probability of MF, and the slope $b_m$ is
# fitted by least squares. The *expected agreement* of two models is that of independent answers with the probabilities $e$
# and $e'$: the mean of $e\,e' + (1 - e)(1 - e')$. If the two are one model under two names, or one is derived from the other,
# their residuals $y - e$ should be correlated. A pair is flagged if, on the training questions that both answered (at least
# 100),
#
# - this correlation is more than 3.5 spreads above the median of all pairs. The spread combines the variation over pairs
#   (median absolute deviation, scaled to a standard deviation) with the sampling error of the pair;
# - and the distance of the two models is in the lowest quarter of all pairs. It is the root mean square difference of their
#   logits; where both answered all questions, it is the distance of their [embeddings](../notebooks/what_embedllm_is).
#
# The rule does not use the names of the models, so names can check it: some differ only in the provider or in the format of
# the weights, and some tell that two models are of one family. The rule was chosen on ZeroEval and MMLU-Pro, so this check is
# not independent there. On the simulated pool no model is derived from another, and families are drawn at random: every pair
# flagged there is an error.

# %%
pairs = portfolio.pairs
plot_pairs(pairs)

# %% [markdown]
# The pairs of the first run with the highest `outlier`, which is how many spreads the `correlation` is above the median.
# `agreement` and `expected` agreement are in percent; `gap` is the accuracy of the first model minus that of the other, in
# points:

# %% tags=["hide-cell"]
shown = pairs.drop(columns=["data", "same_weights"]).head(10)
shown = shown.set_index(["model", "other"])
percent = ["agreement", "expected", "gap"]
shown.assign(**100 * shown[percent]).round(
    dict.fromkeys(percent, 1)
    | {"correlation": 2, "outlier": 1, "distance": 2}
)

# %% [markdown]
# ## Reported values
#
# Of each flagged pair, the model that is less accurate on the common questions is dropped, unless one of the two is dropped
# already. For each question, the router then chooses among the remaining models that answered it, as on the page on
# [routing](../notebooks/routing).

# %% tags=["hide-output"]
values = portfolio.values()
report(values, matrix.source)

# %% tags=["remove-input"]
missing = sorted({*matrix.model_names} - {*portfolio.names})
named = f" ({', '.join(missing)})" if 0 < len(missing) <= 10 else ""
flagged = pairs.loc[pairs["flagged"], "same_family"]
in_short.fill(values, matrix.source, left_out=f"{len(missing)}{named}")
recap(
    """
**What we learned.**

- The expected accuracy of the greedy choice is at least {portfolio_reached_words} of that of the best set, for every size.
  That of its first model alone is {portfolio_first_words} of that of all models.
- Routing accuracy on test questions with {portfolio_few:.0f} models of the greedy choice, minus that with the
  {portfolio_few:.0f} most accurate ones: {portfolio_few_minus_accurate_words}; minus that with as many random ones:
  {portfolio_few_minus_random_words}. The intervals leave out the draw of the random orders and the differences between runs.
- Smallest number of models whose expected loss is at most half a point, minus the best single model:
  {portfolio_fewest_minus_single_words}.
- Flagged pairs whose two models are of one family: {family}; share of such pairs among all: {portfolio_family_base_words}.
- Pairs whose names differ only in the provider or the format of the weights: {portfolio_runs:.0f}; of these, flagged:
  {portfolio_runs_flagged_words}.
- Models dropped, at most one of each flagged pair: {portfolio_dropped:.0f}.
""",
    values,
    family=f"{flagged.sum()} of {len(flagged)}",
)
