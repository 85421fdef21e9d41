# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Correctness forecasting
#
# Which model answers which new question correctly? [Matrix factorization](../glossary) (MF) against the nearest questions
# ([KNN](../glossary)), both against majority baselines, which do not read the question.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
MF predicts {mf_accuracy:.2f} % of the test answers correctly, KNN {knn_accuracy:.2f} %, the per-benchmark majority baseline
{floor_accuracy:.2f} % and the per-model one {model_floor_accuracy:.2f} %. With 95 % intervals:

- MF minus KNN: {mf_minus_knn_words};
- MF minus the per-benchmark majority baseline: {mf_minus_floor_words}.

MF is below KNN on {below_knn:.1f} of {forecast_benchmarks:.0f} benchmarks (mean over the seeds), whatever the size of the
difference. These values use dim {dim} and k = {k}. By the protocol of [Table 1](#forecasting-training-sizes), which chooses
both on the validation questions, MF minus KNN is {table_1_mf_minus_knn_words}.
""")

# %% [markdown]
# **In the paper:** Table 1. **Published:** the accuracies of both methods at seven training sizes.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = "auto"  # noise in training: MF's ridge penalty
n_neighbors: int = 131  # k of KNN
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 3  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
import numpy as np
import pandas as pd
from embedllm import (
    BenchmarkMean,
    CorrectnessPredictor,
    KNNCorrectness,
    MatrixFactorization,
    ModelMean,
    fit_runs,
    load_dataset,
    load_published,
)
from embedllm.plots.forecasting import (
    plot_forecasts,
    plot_reliability,
    plot_training_sizes,
)
from embedllm.predictors.ceiling import ceiling_of
from embedllm.protocol.calibration import pool_runs, reliability
from embedllm.protocol.reported_values import report
from embedllm.protocol.shared_fit import paper_training
from embedllm.protocol.tally import difference_table, percent_table
from embedllm.studies.forecasting import (
    forecast_table,
    forecast_values,
    learning_curve,
    published_table,
    size_table,
    tally_runs,
)
from embedllm.studies.tuning import NEIGHBORS
from IPython.display import display
from sklearn.linear_model import Ridge

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Fit
#
# The seed of a run draws the division of the questions, if the source has none of its own. If it has one, as the simulated
# pool and the paper's release do, MF and KNN are the same in every run: MF is solved exactly
# ([What EmbedLLM is](../notebooks/what_embedllm_is)), by iterations (folded) until no model's gradient is above 0.001.

# %% tags=["hide-cell"]
predictors = {
    "MF": MatrixFactorization(dim=dim, alpha=alpha),
    "KNN": KNNCorrectness(n_neighbors=n_neighbors),
    "benchmark mean": BenchmarkMean(),
    "model mean": ModelMean(),
    **ceiling_of(dataset, scale, seed),
}
runs = list(fit_runs(matrix, predictors, seed, n_seeds))
runs[0].predictors["MF"].history_

# %% [markdown]
# MF gives the probability that model $m$ answers question $q$ correctly,
#
# $$s(m, q) = \sigma\big(((c_1 - c_0) \odot p_m) \cdot (W q + b) + a_1 - a_0\big) = \sigma(u_m \cdot q + t_m),$$
#
# with the model embedding $p_m$, the projection $W, b$ of the question embedding $q$ and the classifier $c, a$; after the
# fit they are multiplied out to `coef_` ($u_m$) and `intercept_` ($t_m$). `predict_proba` computes just this; the
# largest difference is:

# %% tags=["hide-cell"]
mf, test = runs[0].predictors["MF"], runs[0].split.test
logits = test.embeddings @ mf.coef_.T + mf.intercept_
np.abs(1 / (1 + np.exp(-logits)) - mf.predict_proba(test.embeddings)).max()

# %% [markdown]
# KNN takes the share of correct answers among the $k$ nearest training questions that the model answered.
# [From the formula to code](../notebooks/from_formula_to_code) writes both by hand.
#
# ## Ours: benchmark by benchmark
#
# - `benchmark mean`, the majority label of each (model, benchmark), is told the benchmark of a question, which MF and KNN are
#   not. A predictor above it learns more from the text than the benchmark.
# - `model mean` is the majority label of each model.
# - `SGD` is MF by the paper's training (232 dimensions, noise 0.05), in the first run only: compare it with MF there.
# - `ceiling`, on the simulated pool only: the expected probability given the text, from the [ground truth](../glossary). No
#   prediction from the text can be expected to be better.
#
# Markers, and the counts in labels, are means over the runs. Bars are ± 2 standard errors over questions; all answers to one
# question are kept together.

# %% tags=["hide-input"]
tally = tally_runs(runs)
(sgd,) = fit_runs(matrix, {"SGD": paper_training()}, seed, n_seeds=1)
first = tally_runs([runs[0].with_those_of(sgd)])
in_first = forecast_table(first).query("predictor in ('MF', 'SGD')")
named = in_first.assign(predictor=in_first["predictor"] + ", first run")
forecasts = pd.concat([named, forecast_table(tally)])
plot_forecasts(forecasts)

# %% [markdown]
# All measures; accuracy by benchmark in percent; and differences in points with 95 % intervals, to the per-benchmark baseline,
# to KNN and, in the first run, to SGD. They are paired: the difficulty of a question, which both methods share, cancels
# out.

# %% tags=["hide-cell"]
overall = forecasts.query("benchmark == 'overall'").set_index("predictor")
display(overall.drop(columns="benchmark").round(4))
display(percent_table(forecasts, "predictor"))
display(difference_table(tally.differences("benchmark mean"), "predictor"))
over_knn = tally.differences("KNN").query("predictor == 'MF'")
over_sgd = first.differences("SGD").query("predictor == 'MF'")
pd.concat(
    [difference_table(each, "predictor") for each in (over_knn, over_sgd)],
    axis=1,
)

# %% [markdown]
# ## Table 1: number of training questions
#
# The paper's protocol: each run draws the smaller training sets from the larger ones; for each size, the $k$ of KNN and the
# dim of MF are chosen by the accuracy on the validation questions (and alpha by the loss). Dims are tried
# from 8 up; those above the number of models give the same fit. Lines are means, bands the range over the seeds. On the paper's own data, hollow markers are the published accuracies.

# %% tags=["hide-input"]
values = {"KNN": NEIGHBORS, "MF": [8, 16, 32, 64, matrix.n_models]}
curve, table_1 = learning_curve(runs, values)
published = published_table() if dataset == "embedllm" else None
plot_training_sizes(curve, published)

# %% [markdown]
# The accuracies, means over the seeds in percent, and the $k$ and dim that were chosen, medians:

# %% tags=["hide-cell"]
display(size_table(curve))
curve.pivot_table(
    index="size", columns="predictor", values="chosen", aggfunc="median"
)

# %% [markdown]
# ## Ours: are the probabilities calibrated?
#
# Of the answers with a predicted probability of 70 %, are 70 % correct? Above 0, correct answers are rarer than predicted.
# [Log loss and Brier score](../glossary), in the tables above, judge the probabilities in one number.

# %% tags=["hide-input"]
bins = reliability(runs)
plot_reliability(pool_runs(bins))

# %% [markdown]
# ## Ours: your own predictor
#
# A predictor is a class with `fit` and `predict_proba`; models are matched by name. This one, in the figure like the others, is
# a ridge regression of each model's labels on the question embedding, with missing labels at the model's mean:


# %% tags=["hide-output"]
class LabelRegression(CorrectnessPredictor):
    def __init__(self, penalty: float = 300.0):
        self.penalty = penalty

    def fit(self, matrix):
        mean = (
            matrix.accuracy(by="model")["accuracy"].fillna(0.5).to_numpy()
        )
        labels = np.where(matrix.observed, matrix.labels, mean[:, None])
        self.ridge_ = Ridge(self.penalty).fit(matrix.embeddings, labels.T)
        self.model_names_ = matrix.model_names
        return self

    def predict_proba(self, embeddings):  # (n_questions, n_models)
        scores = self.ridge_.predict(embeddings)
        return scores.reshape(len(embeddings), -1).clip(0, 1)


own = fit_runs(
    matrix, {"ridge on labels": LabelRegression()}, seed, n_seeds
)
plot_forecasts(pd.concat([forecasts, forecast_table(tally_runs(own))]))

# %% [markdown]
# ## Beside the paper
#
# The published values are of the paper's own data; ours are of the data named above, and the two are comparable only if
# `dataset` is `embedllm`.

# %% tags=["hide-cell"]
load_published().loc[["mf_accuracy", "knn_accuracy"]]

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = forecast_values(tally, first, bins, curve, table_1)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source, dim=dim, k=n_neighbors)
recap(
    """
**What we learned.** MF is above the per-benchmark majority baseline on {above_floor:.1f} of {forecast_benchmarks:.0f}
benchmarks (mean over the seeds), with {forecast_answers:,.0f} test answers a run. Fitted on
{smallest_size:,.0f} questions, MF minus KNN is {mf_minus_knn_smallest:+.2f} points. In the first run, MF minus the paper's
training of it is {mf_minus_sgd_words}. The expected calibration error is {mf_ece:.2f} points for MF and {knn_ece:.2f} for KNN.
""",
    values,
)
