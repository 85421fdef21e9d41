# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Speed and memory
#
# **Goal.** Compare the time and memory of fitting, KNN, routing and reading with a plain implementation of the paper's
# procedure on the same machine, and show how they grow with the data.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Like for like, the exact fit takes {exact:.2f} s and the paper's training with the same package {sgd:,.0f} s. Of {cases:.0f}
comparisons with other procedures, {aimed:.0f} have a target, and {met:.0f} meet it. Recorded {recorded} on {processor}.
""")

# %% [markdown]
# The values of this page are from a *recorded* run: `make bench` measures each case in a process of its own on a quiet
# machine. The book shows the recorded run and does not repeat it.
#
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
record: str = ""  # a run recorded elsewhere; by default, the project's own

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm.plots.speed import plot_growth, plot_speed
from embedllm.studies.speed import (
    case_table,
    case_times,
    fitting_table,
    gpu_table,
    growth_table,
    load_run,
    machine_table,
    scaling_table,
    together_table,
)

run = load_run(record)
machine_table(run)

# %% [markdown]
# ## Compared with other procedures
#
# The fit is compared with three others. The first is like for like: the same package, the same data, the paper's training
# with all of its 50 epochs. scikit-learn's logistic regression, one a model, minimizes the same objective: the penalty is
# $C = 1 / (n_m \lambda)$, and the column "agreement" has the objective that each reaches. The third is a plain trainer that
# takes the (model, question) pairs through a `DataLoader`, 2,048 at a time; its 50 epochs are extrapolated
# from a part.
#
# All *plain* implementations are written for this comparison, independently of the package, from what is published of the
# procedure: beside the trainer, one scikit-learn classifier for each model as KNN; a router that takes one question after
# the other and projects it once for each model; pandas, reading a CSV and pivoting it. They are not the authors' code. An
# open square in the figure, and the word in the table, mark a time that was extrapolated.

# %%
plot_speed(case_times(run))

# %% tags=["hide-cell"]
case_table(run)

# %% [markdown]
# Times are seconds, medians with minimum and maximum in brackets; memory is the peak of the whole process since the data were
# read, including the interpreter, PyTorch and the data; of reading, that of the whole process. Both sides use as many threads as they choose.
#
# ## Ways of fitting
#
# *Objective* is the mean over the models of loss and penalty on the training questions at alpha 0.05: what the exact fit
# minimizes, and what the noise of SGD approximates. SGD stops before the optimum, which is a second regularizer. Where
# alpha is chosen on validation questions, the time is that of all fits that the choice takes. The page *What EmbedLLM is*
# compares how well the fits predict.

# %% tags=["hide-cell"]
fitting_table(run)

# %% [markdown]
# ## On a GPU
#
# The same code runs on a GPU. `python -m benchmarks --gpu --record` measures the exact fit, KNN, routing as the paper
# timed it (3,000 embedded questions, one after the other, the mean of 50 trials) and a part of SGD with the paper preset,
# in less than four minutes. The table is empty as long as no such run is recorded.

# %%
gpu_table(run)

# %% [markdown]
# ## Several processes
#
# `torchrun` gives each process its share of the questions, on one machine or on several:
#
#     torchrun --nproc-per-node 2 -m embedllm fit my-pool --router my-router
#
# In each iteration of the exact fit every process computes loss and gradient on its own questions, and one exchange adds
# them up. Order and steps are those of a single process, so that only the rounding of sums differs. Each process has one
# thread here:

# %%
together_table(run)

# %% [markdown]
# A single process uses all cores of its machine already. Several processes are for questions that do not fit into the
# memory or the time of one machine, not for a pool of this size.
#
# ## How cost grows
#
# One size grows at a time, from 10,000 questions, 112 models and dim 232. The embeddings are random, and the labels are
# drawn from a logistic regression per model. The exact fit takes two products with all models in each iteration, and its
# cost does not depend on dim. SGD takes a fixed number of pairs a step: its time is extrapolated from a part of the steps,
# so that its memory is not that of a whole fit.

# %%
growth = growth_table(run)
plot_growth(growth, "seconds")

# %%
plot_growth(growth, "peak_mb")

# %% tags=["hide-cell"]
growth.drop(columns="data").round({"seconds": 2, "peak_mb": 0})

# %% [markdown]
# ## Ten thousand models, ten million questions
#
# Computed, not measured: what an exact fit needs at that size with all answers observed. The times are extrapolated from
# the rate of the recorded run, in which the products with 112 models are smaller, and from its number of iterations.

# %%
scaling_table(run, n_models=10_000, n_questions=10_000_000)

# %% [markdown]
# - **Bytes.** Embeddings stay a file that is mapped to memory; a fit reads them in blocks, and a process reads its share.
#   Labels are one byte each and the larger part: each process should get its own questions (`MatrixFactorization.fit`
#   takes, in a process group, the share of the process).
# - **Arithmetic.** An iteration is two products of all questions with all models, logits and gradient. A step that has to
#   be halved takes two more. Nothing grows with dim. The order of the dimensions needs one pass of its own, with the inner
#   products of all models: it grows with the square of their number, and at this size it is the largest item.
# - **Traffic.** An iteration sends one gradient of all models to all processes, whatever the number of questions, so that
#   more questions make communication a smaller share.
# - **KNN** compares a question with all ten million: the neighbours are exact, without an index. Its memory is bounded;
#   its time is not.

# %% tags=["remove-input"]
targets = case_table(run)["targets"]
in_short.fill(
    [],
    exact=case_times(run)["ours"].iloc[0],
    sgd=case_times(run)["plain"].iloc[0],
    cases=len(targets),
    aimed=(targets != "").sum(),
    met=(targets == "met").sum(),
    recorded=run["recorded"],
    processor=run["machine"]["processor"],
)
recap(
    """
**What we learned.** The exact fit is fast because all models share one metric, in which few iterations suffice, KNN because one
search serves all models, and routing because it is one product.
""",
    [],
)
