# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Cost of training and routing
#
# **Goal.** Count the parameters and the arithmetic of the factorization, measure time and memory of training and routing,
# and compare with what the paper reports.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Training on these data takes {pair_training:,.2f} TFLOPs pair by pair, as in the paper, and {fit_training:,.4f} by the exact
fit. The paper's own training comes to {paper_needed:.1f} TFLOPs by this count.

Routing 3,000 questions at once takes {mf_batch_for_3000:.3f} s with MF and {knn_batch_for_3000:.2f} s with KNN on the machine
below. [Beside the paper](#beside-the-paper) has the published values.
""")

# %% [markdown]
# **In the paper:** Section 5.2. **Published:** the time to route 3,000 questions, memory, and FLOPs of training.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = 0.05  # noise in training: MF's ridge penalty
n_neighbors: int = 131  # k of KNN
seed: int = 0  # of the simulated pool, the split and MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import (
    KNNCorrectness,
    MatrixFactorization,
    load_dataset,
    load_published,
)
from embedllm.plots.cost import plot_routing_times, plot_training_flops
from embedllm.protocol.reported_values import report
from embedllm.studies.cost import (
    cost_values,
    describe_machine,
    measure_costs,
    measured_values,
    paper_conventions,
    parameter_table,
    routing_flops,
    training_flops,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
mf = MatrixFactorization(dim=dim, alpha=alpha)
knn = KNNCorrectness(n_neighbors=n_neighbors)
train, _, test = matrix.split(random_state=seed)
matrix

# %% [markdown]
# ## Parameters
#
# A vector for each model (`P`), the projection of the question embedding (`text_proj`) and the classifier are trained.
# The authors' checkpoint also holds the embeddings of all questions (`Q`), which are frozen and not part of the model: here
# they stay with the data.

# %%
parameters = parameter_table(matrix, mf)
parameters.round(3)

# %% [markdown]
# ## Arithmetic of the training
#
# FLOPs are those of matrix products, a multiplication with its addition counting as two; elementwise operations are left
# out. Each value of this table is computed twice: by a formula, and by PyTorch's `FlopCounterMode` on one training step,
# forward and backward, scaled to the whole training.
#
# The authors' trainer takes (model, question) pairs and projects the question of each *pair*. The projection depends on the
# question alone, so this package takes a *block* of questions with all models and projects each question once. Loss and
# gradient are the same. The exact fit takes two products with all models for each pass over the questions, whatever the
# size of a model embedding; the table has its number of passes as `epochs`.

# %% tags=["hide-cell"]
training = training_flops(train, mf.fit(train))
training.round(6)

# %% tags=["hide-input"]
published = load_published()["value"]
plot_training_flops(training, published["training_tflops"])

# %% [markdown]
# ### Which count is the published one?
#
# The published value is for "about 20,000" questions, 112 models and 50 epochs; what was counted is not known here.
# Question embeddings are frozen, so a backward pass needs the gradient of the projection with respect to its weights only:
# this is what a training step does, and what the tables above count. The usual rule of thumb, three times the forward
# pass, also counts a gradient with respect to the questions that is not needed. The last column is the number of questions
# with which each convention would give exactly the published value: compare it with the paper's 20,000.

# %%
conventions = paper_conventions()
conventions.round(2)

# %% [markdown]
# ## Time and memory
#
# Measured on the machine below while the book was built, where other notebooks may run at the same time; medians of a few
# runs. They differ between machines, and no check compares them. Memory is the rise of the resident set of the process
# during the call; memory that the process already held and could use again is not counted, so that 0 means that no new
# memory was needed.

# %%
describe_machine()

# %% [markdown]
# A route is the model with the highest predicted probability of a correct answer, for questions whose embeddings are
# precomputed. **The encoder is left out**: it takes the same time before any of these routers. `MF` scores all models by
# one product, because projection, classifier and model embeddings are multiplied out after the fit; `MF, by pair` is the
# authors' router, which takes one question at a time and projects it once for each model (its parameters are not trained
# here, which changes no time). It and KNN route only the first
# hundred test questions one at a time.

# %% tags=["hide-cell"]
costs = measure_costs(train, test, mf, knn)
costs.round(6)

# %%
plot_routing_times(costs, published["routing_seconds"])

# %% [markdown]
# FLOPs of one question, in millions, by the formula:

# %%
routing = routing_flops(train, mf)
routing.round(6)

# %% [markdown]
# ## Beside the paper
#
# The published time is of another machine, with a GPU, and of the paper's own data and code. The authors' script times its
# router on precomputed embeddings, one question after the other, as `MF, by pair` above; whether the published time was
# measured in this way is not known here. It is comparable in order of magnitude only.

# %% tags=["hide-cell"]
load_published().loc[["training_tflops", "routing_seconds"]]

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = cost_values(parameters, conventions, training, routing)
measured = measured_values(costs)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source, **measured)
recap(
    """
**What we learned.** The factorization has {mf_parameters:,.0f} trained parameters ({mf_megabytes:.2f} MB). Training pair
by pair takes {block_saving:.1f} times the arithmetic of as many epochs by block, and {fit_saving:,.0f} times that of the
exact fit. By the rule of thumb, three times the forward pass, the paper's own training comes to
{paper_thrice:.1f} TFLOPs. Formulas and PyTorch's counts differ by {flop_gap:.2f} % at most.

On the machine above, the fit takes {mf_fit_seconds:.1f} s and {mf_fit_mb:.0f} MB. For 3,000 questions one at a time, routing
takes {mf_single_for_3000:.2f} s with MF and {pair_single_for_3000:.2f} s by the authors' procedure.
""",
    values,
    **measured,
)
