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
#
# The values of this page are from a *recorded* run: `make bench` measures each case in a process of its own on a quiet
# machine. The book shows the recorded run and does not repeat it.

# %% tags=["parameters"]
record: str = ""  # a run recorded elsewhere; by default, the project's own

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm.plots.speed import plot_growth, plot_speed
from embedllm.studies.speed import (
    case_table,
    case_times,
    fitting_table,
    growth_table,
    load_run,
    machine_table,
    scaling_table,
    together_table,
)

run = load_run(record)
machine_table(run)

# %% [markdown]
# ## Compared with the plain procedure
#
# The *plain* baseline is written for this comparison, independently of the package, from what is published of the
# procedure: a trainer that takes the (model, question) pairs through a `DataLoader`, 2,048 at a time, for 50 epochs; one
# scikit-learn classifier for each model; a router that takes one question after the other and projects it once for each
# model; pandas, reading a CSV and pivoting it. It is not the authors' code. Where it would take hours, a part was run and
# its time scaled, as the table says.

# %%
plot_speed(case_times(run))

# %%
case_table(run)

# %% [markdown]
# Times are seconds, medians with minimum and maximum in brackets; memory is the peak of the whole process, including the
# interpreter and PyTorch. Both sides use as many threads as they choose.
#
# ## Variants of the fit
#
# A fit is compared by its loss on validation questions, which must be no worse than that of the paper's settings after
# their 50 epochs. *Ridge regression's factors* are the singular vectors of the model directions that ridge regression
# finds in closed form, as a start instead of a random one. The last three do without the factorization: as long as dim is
# at least the number of models, it can express any matrix of model directions, which can be learned directly.

# %%
fitting_table(run)

# %% [markdown]
# *Not fused* is Adam as in PyTorch's default, one operation after the other; the arithmetic is the same. Larger blocks
# mean fewer steps, each of which costs more. The default stays at blocks of 128 questions and a random start, like the
# paper's: a start from ridge regression was tried on this pool alone. Directions learned directly are not model
# embeddings, which are the topic of the paper, so they are only measured.
#
# ## Several processes
#
# `torchrun` gives each process its share of the questions, on one machine or on several:
#
#     torchrun --nproc-per-node 2 -m embedllm fit my-pool --router my-router
#
# In each optimizer step every process computes the gradient on its share of the step's questions, and the sum of the
# gradients goes to all. Order, steps and noise are those of a single process, so that only the rounding of sums differs:

# %%
together_table(run)

# %% [markdown]
# ## How cost grows
#
# One size grows at a time, from 10,000 questions, 112 models and dim 232, on random data. A fit has at least 600 steps,
# however few the questions, and a step has about 14,336 pairs, so that more models mean more steps.

# %%
growth = growth_table(run)
plot_growth(growth, "seconds")

# %%
plot_growth(growth, "peak_mb")

# %%
growth.drop(columns="data").round({"seconds": 2, "peak_mb": 0})

# %% [markdown]
# ## Ten thousand models, ten million questions
#
# Computed, not measured: what the procedure needs at that size with all answers observed and dim 232.

# %%
scaling_table(n_models=10_000, n_questions=10_000_000)

# %% [markdown]
# - **Bytes.** Embeddings stay a file that is mapped to memory, of which a process reads its share. Labels are one byte each
#   and the larger part: each process should get its own questions (`MatrixFactorization.fit` takes, in a process group,
#   the share of the process), since the command line reads the whole table of answers in each.
# - **Arithmetic.** With so many models the product with the model embeddings costs more than the projection, and the
#   elementwise loss is limited by memory bandwidth.
# - **Steps.** The preset's 14,336 pairs are one or two questions here. Keep its 128 questions, as the table does
#   (`TrainingPreset(pairs_per_step=1_280_000, ...)`): a single pass then has more steps than all ten passes over the
#   paper's data, so few passes are needed.
# - **Traffic.** A step sends the gradient of all parameters to all processes, whatever its block, so that larger blocks
#   send less. Each process also draws the noise of the whole block, which no number of processes makes faster.
# - **KNN** compares a question with all ten million: the neighbours are exact, without an index. Its memory is bounded;
#   its time is not.

# %% [markdown]
# **Recap.** The table at the top says which targets the recorded run met. The fit is fast because each question is
# projected once instead of once a pair, KNN because one search serves all models, and routing because it is one product.
