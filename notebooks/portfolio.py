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
# A router needs access to every model that it may choose. How few models keep its accuracy, and which models are nearly the same
# as others?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Models compared: {portfolio_models:.0f}. Fewest of them with which the router expects, by its own probabilities, at most half a
point less than with all (mean over the runs): {portfolio_fewest:.3g}. On test questions, with 95 % intervals:

- routing accuracy with these few minus that with all: {portfolio_fewest_minus_all_words}; minus that of the best single model:
  {portfolio_fewest_minus_single_words};
- with {portfolio_few:.0f} models minus all: {portfolio_few_minus_all_words}.

Pairs of models compared: {portfolio_pairs:.0f}; flagged as nearly the same: {portfolio_flagged:.0f}. Routing accuracy without one
of each flagged pair, minus that of all models: {portfolio_drop_words}.
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
# A router that may ask the models $S$ takes the model with the highest probability $p(m, q)$. It expects the accuracy
#
# $$F(S) = \frac{1}{|Q|} \sum_{q \in Q} \max_{m \in S} \; p(m, q).$$
#
# $Q$ are the training questions, and $p$ is the fitted probability, since this is what the router maximizes. Labels in its place
# would give the accuracy of an oracle, which knows the answers. Whether $F$ is reached, the test questions show. $F$ grows with $S$, and the gain of a model shrinks as $S$ grows
# ($F$ is monotone and submodular). Therefore the greedy choice, which adds the model with the largest gain time and again, expects
# at least $1 - 1/e$, about 63 %, of the best set of equal size. A closer bound comes from the data: for its sets $S_0, S_1,
# \ldots$,
#
# $$F(\text{best } k \text{ models}) \le \min_j \Big[ F(S_j) + \text{the } k \text{ largest gains } F(S_j \cup \{m\}) - F(S_j) \Big].$$
#
# The router is that of [the paper](../notebooks/routing), by matrix factorization (MF). It is fitted once, on all models, and then
# chooses among fewer: nothing is fitted again. `Portfolio` takes any other predictor too. Where entries are missing, those models
# are compared that make the largest table of models times questions without a gap.

# %%
runs = fit_runs(matrix, {"MF": MatrixFactorization(dim=dim)}, seed, n_seeds)
portfolio = Portfolio(matrix, runs, router="MF")
plot_portfolio(portfolio.table(), portfolio.n_questions)

# %% [markdown]
# - `greedy choice`: as above;
# - `most accurate models`: by their accuracy on training questions;
# - `random models`: the mean over 20 random orders.
#
# The bands are paired 95 % intervals over test questions. The first models of the greedy choice in the first run, with the expected
# accuracy of so many, the bound of the best set, and the share of it that is reached at least, in percent:

# %%
portfolio.choices().drop(columns="data").head(10).round(2)

# %% [markdown]
# ## Which models are nearly the same
#
# Two models agree on a question if both are correct or both are incorrect. All models agree more often than independent ones
# would, since a question is harder or easier for all of them than its text shows. What is expected of model $m$ is therefore
#
# $$e(m, q) = p(m, q) + b_m \, d(m, q), \qquad d(m, q) = \text{mean over the other models } n \text{ of } y(n, q) - p(n, q),$$
#
# with the labels $y$, the fitted probabilities $p$ of MF and a slope $b_m$ by least squares. The expected agreement of two models
# is that of independent answers, the mean of $e\,e' + (1 - e)(1 - e')$. Where one model is the other or derived from it, what is
# left of the two, $y - e$, is correlated. A pair is flagged if, on the training questions that both answered (at least 100),
#
# - this correlation is 3.5 spreads above the median of all pairs. The spread is that over the pairs (median absolute deviation,
#   scaled as a standard deviation) together with the sampling error of the pair;
# - and the distance is in the lowest quarter. It is the root mean square difference of the two models' logits; where both
#   answered all questions, it is the distance of their [embeddings](../notebooks/what_embedllm_is).
#
# Names of models are not used. They check the result: names that differ only in the provider or the format of the weights, and
# families. The rule was chosen with ZeroEval and MMLU-Pro in view, so that this check is not independent of it there. On the
# simulated pool, no model is derived from another and families are drawn at random: what is flagged there is an error.

# %%
pairs = portfolio.pairs
plot_pairs(pairs)

# %% [markdown]
# The most similar pairs of the first run, with shares in percent. `outlier` is in spreads, and `gap` the accuracy of the first
# model minus that of the other, in points:

# %% tags=["hide-input"]
shown = pairs.drop(columns=["data", "same_weights"]).head(10)
percent = ["agreement", "expected", "gap"]
shown.assign(**100 * shown[percent]).round(
    dict.fromkeys(percent, 1)
    | {"correlation": 2, "outlier": 1, "distance": 2}
)

# %% [markdown]
# ## Reported values
#
# Of each flagged pair, the model that is less accurate on the common questions is dropped, unless the other one is dropped
# already. The router then chooses among the models that were observed on a question, as on the page on
# [routing](../notebooks/routing).

# %% tags=["hide-output"]
values = portfolio.values()
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.**

- The accuracy that the greedy choice expects is at least {portfolio_reached_words} of that of the best set, for every size.
  One model alone expects {portfolio_first_words} of the accuracy of all.
- On test questions, {portfolio_few:.0f} models of the greedy choice minus the {portfolio_few:.0f} most accurate ones:
  {portfolio_few_minus_accurate_words}; minus as many random ones: {portfolio_few_minus_random_words}.
- Flagged pairs whose two models are of one family: {portfolio_family_words}; of all pairs: {portfolio_family_base_words}.
- Pairs of equal weights by their names: {portfolio_runs:.0f}; of these, flagged: {portfolio_runs_flagged_words}.
- Models dropped: {portfolio_dropped:.0f}.
""",
    values,
)
