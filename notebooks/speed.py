# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How fast it is
#
# **Goal.** Show what fitting, KNN, routing and reading cost here, against a plain implementation of the paper's procedure
# on the same machine, and how the cost grows.
#
# The numbers of this page are those of a *recorded* run: `make bench`, which measures each of them in a process of its
# own on a quiet machine. Building the book shows the run and does not repeat it.

# %% tags=["parameters"]
record: str = ""  # a run recorded elsewhere; by default the project's own

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
# ## Against the plain procedure
#
# *Theirs* is written for this comparison, independently of the package, from what is published of the procedure: a
# trainer that takes the (model, question) pairs through a `DataLoader`, 2,048 at a time, for 50 epochs; one
# scikit-learn classifier for each model; a router that takes one question after the other and projects it once for each
# model; pandas, reading a CSV and pivoting it. It is not the authors' code. Where all of it would take hours, a part was
# run and its time scaled, as the table says.

# %%
plot_speed(case_times(run))

# %%
case_table(run)

# %% [markdown]
# Times are seconds, medians with the least and the most in brackets; memory is the peak of the whole process, the
# interpreter and PyTorch included. Both sides use as many threads as they like.
#
# ## What was tried to fit faster
#
# A fit is judged by its loss on validation questions, which must be no worse than that of the paper's settings after
# their 50 epochs. *Ridge regression's factors* are the singular vectors of the model directions that it finds in closed
# form, for a start instead of a random one. The last three leave the factorization: as long as dim is at least the
# number of models, it can express any matrix of model directions, which can be learned directly, without model
# embeddings.

# %%
fitting_table(run)

# %% [markdown]
# *Not fused* is Adam as PyTorch has it by default, one operation after the other; the arithmetic is the same. Larger
# blocks mean fewer steps, each of which costs more. The default stays at blocks of 128 questions and a random
# start, as the paper's: a start from ridge regression was tried on this pool alone. Weights learned directly are no
# model embeddings, which is what the paper is about, so they stay a measurement.
#
# ## Several processes
#
# `torchrun` gives each process its share of the questions, on one machine or on several:
#
#     torchrun --nproc-per-node 2 -m embedllm fit my-pool --router my-router
#
# In each optimiser step every process computes the gradient of the step's questions that it holds, and the sum of the
# gradients goes to all. Order, steps and noise are those of a single process, so that only the rounding of sums differs:

# %%
together_table(run)

# %% [markdown]
# ## How cost grows
#
# Along one size at a time, from 10,000 questions, 112 models and dim 232, on random data. A fit takes at least 600 steps,
# however few the questions, and a step holds about 14,336 pairs, so that more models mean more steps.

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
# On paper, nothing measured: what the procedure asks for at that size, all answers observed, dim 232.

# %%
scaling_table(n_models=10_000, n_questions=10_000_000)

# %% [markdown]
# - **Bytes.** Embeddings stay a file that is mapped to memory, of which a process touches its share. Labels are one byte
#   each and the larger part: each process should be handed its own questions (`MatrixFactorization.fit` takes, in a
#   process group, the share of the process), since the command line reads the table of answers whole in each.
# - **Arithmetic.** With so many models the product with the model embeddings outweighs the projection, and the loss,
#   which is computed element by element, becomes a matter of memory bandwidth.
# - **Steps.** The preset's 14,336 pairs are one or two questions here. Keep its 128 questions, as the table does
#   (`TrainingPreset(pairs_per_step=1_280_000, ...)`): a single pass then has more steps than all ten passes over the
#   paper's data, so few passes are needed.
# - **Traffic.** A step sends the gradient of all parameters to all processes, whatever its block, so that larger blocks
#   send less. Each process also draws the noise of the whole block, which no number of processes makes faster.
# - **KNN** compares a question with all ten million: no index is used, as the neighbours are exact. Its memory stays
#   bounded, its time does not shrink.

# %% [markdown]
# **Recap.** The table at the top says which targets the recorded run met, and against what. One projection a question
# instead of one a pair is what makes the fit fast, one search for all models the neighbours, and one product the routes.
