# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Prices
#
# Models cost different amounts. How much accuracy does a router obtain for its cost, and how much cost does it save?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
At the accuracy of the best single model, the default router costs {price_saved_words} less. By definition the saving is not
negative. Ranges in parentheses are 95 % intervals.

- Accuracy at the cost of the best single model, minus that of this model: {price_equal_words}. Where this
  is 0 without a range, the router always chooses this model.
- Accuracy averaged over all costs between that of the cheapest model ({price_low_words}) and of the best single model
  ({price_high_words}), router minus random mixture of models: {price_gain_words}.

Cost of a question: {cost}. Models compared: {price_models:.0f}; left out, since their cost is unknown: {price_unknown:.0f}.
Highest accuracy of a model on the questions that it answered: {best} among all models of the data, {best_compared} among those
compared. In this evaluation the stack gets the benchmark of each question. `Router.route` does not, so its
results can differ.
""")

# %% [markdown]
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.2  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 2  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import (
    MatrixFactorization,
    StackedCorrectness,
    fit_runs,
    load_dataset,
)
from embedllm.plots.prices import plot_frontiers
from embedllm.predictors.ceiling import ceiling_of
from embedllm.protocol.reported_values import report
from embedllm.studies.prices import Frontiers, most_accurate, price_pool

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## What a question costs
#
# If the data record a cost for each answer, in US dollars or tokens, we use it. Otherwise the size of a model, in billions of
# parameters, is a proxy. The computation for a token grows with size, although a mixture of experts uses only some of its
# parameters. Size tells neither the length of the answers nor the margin of a provider. A model of unknown size is left out,
# since an unknown price is not zero. Where answers are missing, only some of the other models are compared: those with the
# most answers, as many as give the largest complete table of models and questions.

# %%
pool = price_pool(matrix)
print(pool)

# %% [markdown]
# `price_pool(matrix, prices)` takes a table of prices instead, such as `{"model A": 0.002}` in any unit. A model that the
# table lacks is an error, or gets the default that you name.
#
# ## A router that knows prices
#
# With the [tradeoff](../glossary) $t$, a router sends the question $q$ to the model
#
# $$\hat m(q) = \arg\max_m \; p(m, q) - t \cdot \text{price}(m).$$
#
# Here $p(m, q)$ is the predicted probability that model $m$ answers correctly. With $t = 0$ it is the router of
# [the paper](../notebooks/routing), and with a very large $t$ it always takes the cheapest model. All values between give its
# [frontier](../glossary): accuracy over cost. `price(m)` is the mean cost on the training questions, since the cost of a new
# question is not known beforehand; the figure shows the cost on the test questions. In use,
# `router.route(questions, prices=prices, tradeoff=t)` does the same, and `max_cost` sets a limit
# ([Bring your own models](../own-models)).
#
# - `stack`, `MF`: routers with the default predictor, which the box above reports, and with the paper's
#   ([Strong baselines](../notebooks/baselines)). As there, the stack is told the benchmark of a question;
# - `random mixture`: one of two models, drawn at random with fixed probabilities. The two are chosen on training questions, as
#   neighbours on the convex hull of costs and accuracies;
# - `weighted random`: models drawn at random, as often as the stack chooses them. What the stack gains over it comes from its
#   choice of a model for each question;
# - `oracle`: the cheapest model that is correct. It knows the answers;
# - `ceiling`, on the simulated pool only: as the stack, with the expected probability of a correct answer given the text.
#
# The best single model and the mixtures are chosen on training questions, so single models can lie above the mixture on test
# questions. The bands are paired 95 % intervals. Above the cost of its most expensive setting (the tradeoff or mixture that
# costs most), the accuracy of a method is taken as constant.

# %%
predictors = {
    "MF": MatrixFactorization(dim=dim),
    "stack": StackedCorrectness(),
    **ceiling_of(dataset, scale, seed),
}
runs = fit_runs(pool.matrix, predictors, seed, n_seeds)
frontiers = Frontiers(pool, runs, "stack")
plot_frontiers(frontiers.table(), frontiers.gains())

# %% [markdown]
# ## The frontiers in four numbers
#
# - `area`: mean accuracy between the cost of the cheapest model and that of the best single model (the area below the frontier
#   divided by the difference of the two costs), in percent;
# - `gain`: the same minus that of the random mixture, in points;
# - `saved`: the share of the cost of the best single model that is not needed for its accuracy, in percent. It is 0 where
#   the method does not reach this accuracy for less;
# - `equal`: accuracy at the cost of the best single model, minus that of this model, in points.
#
# Each has a 95 % interval over questions, paired between methods; there is none where all resamples give the same.

# %%
summary = frontiers.summary().drop(columns=["data", "unit"])
summary.set_index("method").T.round(2).astype(object).fillna("")

# %% [markdown]
# ## Reported values

# %% tags=["hide-output"]
values = frontiers.values()
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(
    values,
    matrix.source,
    cost=pool.cost,
    best=most_accurate(matrix),
    best_compared=most_accurate(
        matrix.subset(models=pool.matrix.model_names)
    ),
)
recap(
    """
**What we learned.** Mean accuracy between the costs of the cheapest and of the best single model:

- the stack: {price_area_words};
- random mixtures of single models: {price_area_mixture_words};
- the oracle, which knows the answers: {price_area_oracle_words}.

Models left out, since they share too few answers with the others: {price_incomplete:.0f}.
""",
    values,
)
