# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Strong baselines, and a stack of them
#
# Is [matrix factorization](../glossary) (MF) better than simpler predictors? The paper compares it with the nearest questions
# (KNN). Here it is compared with ten predictors and a guarded router on the same questions. One of them, the stack, is a
# weighted sum of the logits of up to three others. It is the default of `Router`, which weighs them without the benchmark.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
The stack of up to three predictors, with 95 % intervals:

- log loss {stack_log_loss_words}; minus that of the best of its parts, {stack_minus_part_words}. Below 0, the stack is
  better;
- as a router, {stack_routing_words} correct answers; minus the best of `KNN`, `MF`, the best single model and the best model
  per benchmark, {stack_routing_gain_words}.

The best part and the best router are chosen on the test questions, which favours them. In this
evaluation the stack gets the benchmark of each question. `Router.route` does not, so its results can differ.
""")

# %% [markdown]
# **In the paper:** Table 1 and Figure 4 compare MF with KNN and the best single model. **Published:** none for the others; the
# page is ours.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.2  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 2  # runs: a random split each, if the source has none
n_draws: int = 3  # small pools of each size

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import (
    BenchmarkMean,
    KNNCorrectness,
    MatrixFactorization,
    ModelMean,
    StackedCorrectness,
    load_dataset,
)
from embedllm.plots.baselines import plot_baselines
from embedllm.predictors.ceiling import ceiling_of
from embedllm.predictors.item_response import ItemResponse
from embedllm.predictors.local import ClusterTable, WeightedKNN
from embedllm.predictors.ridge_labels import RidgeLabels
from embedllm.predictors.tuned import Tuned
from embedllm.protocol.reported_values import report
from embedllm.protocol.routers import (
    BestModelPerBenchmark,
    BestSingleModel,
    GuardedKNN,
    Oracle,
    PredictedBest,
)
from embedllm.studies.baselines import (
    MARGIN,
    Comparison,
    ShuffledLabels,
    baseline_table,
    baseline_values,
    small_pools,
    stack_weights,
    timed_runs,
)
from embedllm.studies.forecasting import tally_runs
from embedllm.studies.routing import route_runs, tally_routes

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## The predictors
#
# `Tuned` chooses a hyperparameter by the log loss on the validation questions, as MF chooses its alpha.
#
# | predictor | probability of a correct answer |
# |---|---|
# | `model mean`, `benchmark mean` | training accuracy of the model, or of the model on the benchmark |
# | `1PL` | $\sigma(\theta_m - d(q))$: ability of the model, difficulty of the question, linear in its embedding |
# | `2PL` | $\sigma(a(q)\,(\theta_m - d(q)))$: with a discrimination of the question |
# | `ridge on labels` | linear regression of the labels 0 and 1 |
# | `cluster table` | training accuracy of the model in the cluster of the question (k-means) |
# | `KNN`, `weighted KNN` | share of correct answers nearby; the nearer questions with more weight |
# | `MF` | $\sigma(u_m \cdot q + t_m)$: one logistic regression per model ([why](../notebooks/what_embedllm_is)) |
# | `MF, pool prior` | the same, where a model borrows from the others |
# | `stack` | $\sigma(\sum_i w_i \operatorname{logit} p_i(m, q))$, $w_i \ge 0$, of `benchmark mean`, `KNN` and `MF, pool prior` |
# | `MF, shuffled labels` | a control, fitted on labels that tell nothing about a question |
#
# `benchmark mean`, and therefore the stack, use the benchmark of a question; the others read only its text.

# %% tags=["hide-input"]
mf, prior = (
    MatrixFactorization(dim=dim),
    MatrixFactorization(dim=dim, prior="pool"),
)
penalties, ks = [1e-6, 1e-5, 1e-4, 1e-3], [15, 31, 61, 131]
knn = Tuned(KNNCorrectness(), "n_neighbors", ks)
parts = {
    "benchmark mean": BenchmarkMean(),
    "KNN": knn,
    "MF, pool prior": prior,
}
predictors = {
    "model mean": ModelMean(),
    "1PL": Tuned(ItemResponse(), "penalty", penalties),
    "2PL": Tuned(ItemResponse(discrimination=True), "penalty", penalties),
    "ridge on labels": Tuned(RidgeLabels(), "alpha", [1, 3, 10, 30]),
    "cluster table": Tuned(ClusterTable(), "n_clusters", [8, 16, 32, 64]),
    "weighted KNN": Tuned(
        WeightedKNN(250), "bandwidth", [0.1, 0.2, 0.3, 0.5]
    ),
    "MF": mf,
    **parts,
    "stack": StackedCorrectness(parts),
    "MF, shuffled labels": ShuffledLabels(mf, seed),
    **ceiling_of(dataset, scale, seed),
}
routers = {name: PredictedBest(name) for name in predictors}
routers |= {
    "best single model": BestSingleModel(),
    "best model per benchmark": BestModelPerBenchmark(),
    "guarded KNN": GuardedKNN(),
    "oracle": Oracle(),
}
runs, seconds = timed_runs(matrix, predictors, seed, n_seeds)
comparison = Comparison(
    runs, tally_runs(runs), tally_routes(route_runs(runs, routers)), seconds
)

# %% [markdown]
# `guarded KNN` leaves the best single model only where, among the nearest questions, another is better by two standard errors
# of the paired difference. Routers choose the model with the highest probability. `model mean`, `1PL` and `2PL` order the
# models alike on every question: as routers, they choose one model, or the next where its answer is missing.
#
# ## Forecasts and routes
#
# The log loss is compared with that of `benchmark mean`, routing with the `best single model`. Intervals are over questions,
# with the answers of both methods to a question kept together.

# %%
table = baseline_table(comparison, "benchmark mean", "best single model")
plot_baselines(table, "benchmark mean", "best single model")

# %% [markdown]
# All measures: log loss in nats, accuracy in percent, area under the ROC curve (AUC, mean over the models), expected
# calibration error (ECE) in points, routing accuracy in percent with the gain over the best single model in points, seconds
# to fit and to predict the test questions:

# %% tags=["hide-cell"]
table.drop(columns="data").round(
    {"log_loss": 4, "accuracy": 2, "auc": 3, "ece": 1, "routing": 2}
    | {"gain": 2, "gain_low": 2, "gain_high": 2, "fit": 1, "predict": 2}
    | {"loss_minus": 4, "loss_low": 4, "loss_high": 4}
).set_index("method")

# %% [markdown]
# ## Weights of the stack
#
# Weights are chosen by 5-fold cross-validation over the training questions. Of all subsets of the parts, the one with the
# fewest parts is taken whose loss is within a standard error of the least.

# %%
stack_weights(comparison, "stack").round(3)

# %% tags=["hide-cell"]
comparison.runs[0].predictors["stack"].path_.round(5)

# %% [markdown]
# ## Small pools
#
# Is the stack still as good as its best part with few answers? Models and training questions are drawn at random; all other
# questions are the test. At most half of the questions are drawn; where both sizes become the same, it is drawn once. The
# last column is the log loss of the stack minus that of the part which is best on the test questions.

# %%
small = small_pools(matrix, n_draws=n_draws, random_state=seed)
small.round(4)

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = baseline_values(comparison, "stack", small)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.** The stack weights `benchmark mean` by {weight_0:.2f}, `KNN` by {weight_1:.2f} and `MF, pool prior` by
{weight_2:.2f}. On {small_within:.0f} of {small_pools:.0f} small pools its log loss is at most {margin} nats above that of its
best part.
""",
    values,
    margin=MARGIN,
)
