# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # New models without retraining
#
# A new model comes out. How many of its answers are needed to predict the others, if a pool of models is known and stays as
# it is?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
A new model is placed in the pool from a few of its answers, with a prior learned from the other models. Its forecasting
accuracy, minus that of a fit to all its training answers without the pool:

- from 64 random answers: {new_prior_64_minus_all_words};
- from 128: {new_prior_128_minus_all_words}.

Of six methods, one of which (the mean of the pool) gets no answers, the prior has the lowest mean log loss at
{new_prior_best:.0f} of {new_sizes:.0f} numbers of answers; at {clear} of these, the 95 % interval of its
lead over the next method is above 0. Error of
the estimated accuracy on a benchmark, from 64 answers: {new_error_predictions_words} with the prior,
{new_error_post_stratified_words} by post-stratification, {new_error_subset_mean_words} by the mean of the answers there.

Intervals (95 %) are over models, each of which answers random questions of its own in each division of the models.
""")

# %% [markdown]
# **In the paper:** Section 7 names retraining for new models as a limit; the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.2  # share of the simulated pool; no effect on others
seed: int = 0  # of the simulated pool, the split, what is new and asked

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
import torch
from embedllm import load_dataset
from embedllm.plots.new_models import (
    plot_asking,
    plot_benchmark_errors,
    plot_new_models,
)
from embedllm.predictors.placement import PoolPrior, ask, place_model
from embedllm.protocol.placing import Material
from embedllm.protocol.reported_values import report
from embedllm.studies.new_models import (
    ALL_ALONE,
    PRIOR,
    best_table,
    curve_table,
    error_table,
    learning_curves,
    new_model_values,
    target_table,
)
from IPython.display import display

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## The prior of the pool
#
# A model is a vector $u$: the logit of a correct answer to the question $x$ is $u \cdot x$
# ([What EmbedLLM is](../notebooks/what_embedllm_is)). The vectors $U$ of the pool say which vectors are likely for the next
# model:
#
# $$\begin{aligned}
# u &= \bar u + \sqrt\tau\,(B z + e), & B &= (U - \bar u) / \sqrt{n_\text{models}}, \\
# z &\sim N(0, I), & e &\sim N(0, \rho S).
# \end{aligned}$$
#
# $Bz$ is what the models of the pool differ in; $e$ is what is the new model's own, with $S$ the variances that the pool has
# in the leading directions of the questions. The strengths $\tau$ and $\rho$ are chosen on folds of the pool's models. With
# few answers, $u$ stays uncertain: by Laplace's approximation its logits have a variance $v$, and
#
# $$p(\text{correct}) \approx \sigma\!\left(u \cdot x / \sqrt{1 + \pi v / 8}\right).$$
#
# Here for the last model of the data, from 64 of its answers:

# %%
material = Material(matrix.split(random_state=seed), seed)
questions, labels = material.x, material.y
prior = PoolPrior.learn(
    weights=material.weights[:, :-1], own=material.own, tau=1.0, rho=0.1
)
order = torch.randperm(
    len(questions["train"]), generator=torch.Generator().manual_seed(seed)
)
answers = ask(labels["train"][:, -1:], order.numpy(), 64)
placed = place_model(prior, questions["train"], answers)

p, y = placed.logits(questions["test"]).sigmoid(), labels["test"][:, -1:]
correct = ((p > 0.5) == (y == 1))[y >= 0].double().mean()
share = y[y >= 0].double().mean().item()
print(f"{matrix.model_names[-1]}: {correct:.1%} predicted correctly")
print(f"Always its more frequent label there: {max(share, 1 - share):.1%}")

# %% [markdown]
# For a router, `router.add_model("new-model", {"What is 7 times 8?": True, ...})` does the same, and the router is then saved
# and loaded with the new model (`embedllm.router`).
#
# ## A quarter of the models are new
#
# The models are divided at random into quarters, three times. Each quarter is new in turn, the rest is the pool: every model
# is new three times. Its first $n$ answers are to training questions in a random order of its own, and all methods get the
# same. They are scored on the test questions. Strengths are chosen on validation answers of models of the pool: for each $n$, but $\tau$ and
# $\rho$ of the prior once, from 64 answers. The alpha of the vectors $U$ is chosen once for all models, new ones included.
#
# - `pool prior`: as above;
# - `ridge, no pool`: logistic regression on the question alone, in its 256 leading directions;
# - `frozen decoder`: the paper's own $p_m$, with all else of the factorization as the pool has it: $u$ lies in the span of the
#   pool's vectors, with a ridge penalty. At the optimum this is what training $p_m$ alone can reach;
# - `cluster table`: the accuracy in each of 32 k-means clusters of the questions, shrunk toward the model's overall accuracy
#   by added answers;
# - `nearest pool model`: the forecasts of the pool model whose labels agree most often with the $n$ answers;
# - `mean of the pool`: the mean of the pool's logits, without answers of the new model;
# - `all answers, no pool` and `all answers and pool`: from all training answers of the new model.
#
# Bands are 95 % intervals over models.

# %%
quarter, benchmarks = learning_curves(material, n_groups=4, seed=seed)
table = curve_table(quarter)
plot_new_models(table[table["asking"] == "random"])

# %% [markdown]
# Accuracy in percent, then log loss in nats:

# %% tags=["hide-cell"]
shown = table[table["asking"] == "random"]
display(
    shown.pivot(index="method", columns="n", values="accuracy").round(1)
)
shown.pivot(index="method", columns="n", values="log_loss").round(3)

# %% [markdown]
# The best method for each $n$, and how far ahead of the next it is, with paired intervals over models. Compared are those that
# get $n$ answers and `mean of the pool`, which gets none. *Clear* is an interval above 0.

# %% tags=["hide-cell"]
best = best_table(quarter)
best.round(4)

# %% [markdown]
# The targets of this page: accuracy at most 1 point below all answers without the pool from 64 answers, and at most 0.5
# points from 128. A target is *met* if the whole interval meets it, *missed* if none of it does, and *open* otherwise.

# %%
target_table(table).round(2)

# %% [markdown]
# ## Which questions to ask
#
# Random questions; in proportion to the size of each benchmark (`stratified`); or those on which the models of the pool
# disagree most (`disagreement`), where the variance of their labels is highest. With `disagreement`, all new models of a
# quarter answer the same questions. With the other two, each model answers its own.

# %%
plot_asking(table[table["method"].isin([PRIOR, ALL_ALONE])])

# %% [markdown]
# ## A third of the models are new
#
# The protocol of UniRoute: the pool is smaller, and a third of the models are unseen. The models are divided four times.

# %% tags=["hide-input"]
third, _ = learning_curves(
    material,
    n_groups=3,
    n_partitions=4,
    seed=seed,
    sizes=[8, 64, 128, 1024],
    asking=["random"],
)
plot_new_models(curve_table(third))

# %%
target_table(curve_table(third)).round(2)

# %% [markdown]
# ## Accuracy on every benchmark from few answers
#
# What is estimated is the accuracy of a new model on each benchmark, over all training questions. The model answers $n$ of
# them, at random:
#
# - `predictions`: its answers, and $p(\text{correct})$ of the pool's prior for all other questions;
# - `post-stratified`: the questions are divided into fifths by the share of the pool that answers them correctly; the
#   accuracies in the fifths are averaged with the shares of the fifths in the benchmark as weights;
# - `subset mean`: the mean of its answers on the benchmark, or of all of them where it has none there. Its error can therefore
#   rise with $n$ at first, where one or two answers on a benchmark replace the mean of all.
#
# The error is the mean over benchmarks, models and divisions into quarters of the absolute difference, in points. Bands are
# over models, of each estimate and not of differences between them.

# %%
errors = error_table(benchmarks)
plot_benchmark_errors(errors)

# %% tags=["hide-cell"]
errors.pivot(index="estimate", columns="n", values="error").round(1)

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = new_model_values(quarter, third, benchmarks)
report(values, matrix.source)

# %% tags=["remove-input"]
lead = best.query("measure == 'log_loss' and best == @PRIOR")
clear = f"{(lead['verdict'] == 'clear').sum()}"
in_short.fill(values, matrix.source, clear=clear)
recap(
    """
**What we learned**, from 64 answers:

- the prior of the pool minus ridge regression without the pool: {new_prior_minus_ridge_words}; minus the frozen decoder:
  {new_prior_minus_decoder_words};
- stratified minus random questions: {new_stratified_words}; questions of disagreement minus random ones:
  {new_disagreement_words};
- with a third of the models unseen, the prior minus all answers without the pool: {new_third_64_minus_all_words}.
""",
    values,
)
