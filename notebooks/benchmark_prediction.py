# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Predicting accuracy on a held-out benchmark
#
# Can the accuracy of a model on a benchmark be predicted from its vector, learned on other benchmarks? A regression is
# fitted on other models, which were run on the benchmark.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
We follow the protocol of the paper's [Figure 5](#benchmark_prediction-heldout) on {heldout_benchmarks:.0f} held-out benchmarks.
The rank correlation is significant, in more than half of 100 splits of the models, on this number of benchmarks:

- from SGD's vectors, recorded: {significant_sgd_words};
- from the exact vectors: {significant_exact_words};
- from the mean accuracy on the other benchmarks alone: {significant_mean_accuracy_words}.

Ours: Kendall's tau over all models, ridge regression on the exact vectors minus the mean accuracy, with a 95 % interval over
models: {tau_gain_words}.
""")

# %% [markdown]
# **In the paper:** Figure 5, section 5.3. **Published:** a significant rank correlation on 7 of 10 benchmarks; the bars and
# points as a picture only.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = 0.05  # noise in training: MF's ridge penalty
seed: int = (
    0  # of the simulated pool, the questions' split, the models' splits
)

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import MatrixFactorization, load_dataset, load_published
from embedllm.plots.benchmark_prediction import (
    plot_heldout,
    plot_rank_correlations,
)
from embedllm.protocol.reported_values import report
from embedllm.studies.benchmark_prediction import (
    EXACT,
    SGD,
    closest_to_mathematics,
    count_significant,
    heldout_values,
    predict_heldout,
    recorded_heldout,
    summarize_correlations,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## The paper's protocol
#
# For each benchmark $B$, MF is fitted on the training questions of all other benchmarks. With $p_m$ the vector and $a_m$
# the accuracy of model $m$ on $B$, a plain linear regression is fitted on the models of a random part $T$,
#
# $$\hat a_m = \bar a_T + (p_m - \bar p_T)^\top w,$$
#
# where $w$ has the smallest norm among the vectors that minimize $\sum_{m \in T} (a_m - \hat a_m)^2$. Then
# [Kendall's tau](../glossary) between $\hat a_m$ and $a_m$ is taken over the other models. This is done in 100 random
# splits of the models. The paper's *significance* of $B$ is the number of splits in which tau has $p < 0.05$. The accuracy is over all
# observed answers to $B$, none of which was in the fit.
#
# The paper leaves open, and this page chooses: a fifth of the models is tested, or half where fewer than 60 have an answer
# to $B$; a benchmark *is* significant if more than half of its splits are; it enters with at least 20 models. The splits
# overlap, so that their count is a description and no test.
#
# The vectors are those of two fits: **SGD**, the paper's training, which takes too long for a build and was recorded once,
# and **exact**, the coordinates of the [exact fit](../notebooks/what_embedllm_is), computed here. The record is used if the hash of its
# answers is that of the data of this page. SGD's vectors also depend on its random start: [What EmbedLLM
# is](../notebooks/what_embedllm_is) records how far distances agree between seeds.

# %% tags=["hide-cell"]
recorded, about = recorded_heldout(matrix)
about

# %%
mf = MatrixFactorization(dim=dim, alpha=alpha)
heldout = recorded.joined(predict_heldout(matrix, {EXACT: mf}, seed))
counts = count_significant(heldout.splits)

# %% [markdown]
# ## Figure 5
#
# Upper panel: splits with a significant tau; the dashed line is at half of them. Ours beside the two fits is the regression
# on one number, the mean accuracy of a model on the training questions of the other benchmarks. Lower panel, without points
# for `mean accuracy`: predicted against actual accuracy on MathQA or, in data without it, on the benchmark whose name comes
# first in `MATHEMATICS` (`embedllm.studies.benchmark_prediction`), or else the first. Each point is a model, its prediction
# the mean over the splits in which it was tested; on the line, both are equal.

# %% tags=["hide-input"]
entered = counts.loc[counts["n_test"] > 0, "benchmark"].tolist()
shown = closest_to_mathematics(entered or matrix.benchmark_names)
paper, models = [SGD, EXACT], heldout.models
plot_heldout(
    counts[counts["predictor"].isin([*paper, "mean accuracy"])],
    models[
        models["predictor"].isin(paper) & (models["benchmark"] == shown)
    ],
)

# %% [markdown]
# The same by benchmark. `reversed`: splits that are significant with a tau below 0; `tau`:
# median over the splits; `least`: the smallest tau that is significant with so many test models.

# %% tags=["hide-cell"]
counts.set_index(["data", "predictor", "benchmark"]).round(3)

# %% [markdown]
# The published values; those of this page are of the data named above. The paper's text does not name the three benchmarks
# without a significant tau.

# %% tags=["hide-cell"]
load_published().loc[
    [
        *("significant_benchmarks", "insignificant_benchmarks"),
        *("mmlu_questions_saved", "mmlu_tokens_saved"),
    ]
]

# %% [markdown]
# ## Ours: ridge regression, and no regression
#
# The paper has no such figure. Each model is predicted once, from the exact coordinates of the models of the other nine of
# ten folds, by ridge regression whose penalty is chosen inside these; or it is ranked by its mean accuracy on the other
# benchmarks. Tau is over all models, so that it is less noisy than in a split; lines are 95 % intervals over resampled
# models, with the regressions as they are. The exact vectors contain the mean logit of a model, so that a regression on them
# can find its overall ability; SGD's vectors also depend on a random start.

# %% tags=["hide-input"]
summary = summarize_correlations(heldout.models)
plot_rank_correlations(summary)

# %% tags=["hide-cell"]
differences = summary[summary["predictor"].str.contains("minus")]
differences.set_index(["data", "benchmark", "predictor"]).round(3)

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = heldout_values(heldout)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.** Models tested in a split, at least: {test_models_words}. Smallest tau that is significant with so many:
{least_tau_words}. Median tau over the splits, mean over the benchmarks:

- from SGD's vectors: {median_tau_sgd_words};
- from the exact vectors: {median_tau_exact_words};
- from the mean accuracy alone: {median_tau_mean_accuracy_words}.

Where the mean accuracy alone gives a significant tau, a significant tau does not show that the vectors hold more than one
number a model. Ridge regression minus the mean accuracy tests this for the exact vectors, over all models; if its interval
contains 0, the two are not told apart.
""",
    values,
)
