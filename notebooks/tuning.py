# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Hyperparameters: k, dim and alpha
#
# **Goal.** Choose the number of neighbours of {term}`KNN`, the size of a {term}`model embedding` and the {term}`noise
# <noise alpha>` of its training on the validation questions alone. When the book is built, the other pages use the values
# chosen here.
#
# The authors' defaults are $k = 131$, 232 dimensions and a noise of 0.05. A value is chosen by its accuracy on the
# validation questions, which is what the paper compares: the smallest one within a tenth of a point of the best. A finer
# choice would be decided by chance.

# %% tags=["parameters"]
dataset: str = "simulated"  # or "embedllm" (the paper's data), or a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dims: list[int] = [1, 2, 4, 8, 16, 32, 64, 128, 232, 256, 512]
alphas: list[float] = [0.0, 0.025, 0.05, 0.1, 0.2]
preset: str = "fast"  # how MF is trained: "fast" or "paper"
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 2  # runs: each with its random split, if any, and fit of MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm import (
    KNNCorrectness,
    MatrixFactorization,
    load_dataset,
    load_published,
)
from embedllm.plots.tuning import plot_learning_curves, plot_sweep
from embedllm.protocol.reported_values import report
from embedllm.studies.tuning import (
    choose,
    summarize_sweep,
    sweep_factorization,
    sweep_neighbors,
    tuning_values,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Neighbours
#
# One search for the nearest questions serves every $k$. The line is the mean over the seeds, the band two standard errors
# to each side; the filled marker is the chosen value, the dotted line the authors' default.

# %%
neighbors = sweep_neighbors(
    matrix, KNNCorrectness(), seed=seed, n_seeds=n_seeds
)
summary_of_k = summarize_sweep(neighbors)
plot_sweep(summary_of_k, default=131)

# %% [markdown]
# ## Size of a model embedding
#
# With one dimension, models differ in ability and questions in difficulty; with more, models can also differ in what they
# are good at. The noise is the authors' here.

# %%
mf = MatrixFactorization(preset=preset)
by_dim, curves = sweep_factorization(matrix, mf, "dim", dims, seed, n_seeds)
summary_of_dim = summarize_sweep(by_dim)
plot_sweep(summary_of_dim, default=232)

# %% [markdown]
# Loss over the epochs, mean over the seeds: does training still improve, or has it begun to overfit? The training loss
# includes the noise on the question embeddings.

# %%
plot_learning_curves(curves)

# %% [markdown]
# ## Noise on the question embeddings
#
# With the size chosen above:

# %%
mf.set_params(dim=int(choose(by_dim)))
by_alpha, _ = sweep_factorization(
    matrix, mf, "alpha", alphas, seed, n_seeds
)
summary_of_alpha = summarize_sweep(by_alpha)
plot_sweep(summary_of_alpha, default=0.05)

# %% [markdown]
# The values of all three figures, on validation questions:

# %%
summary_of_k.round(4)

# %%
summary_of_dim.round(4)

# %%
summary_of_alpha.round(4)

# %% [markdown]
# ## Beside the paper

# %%
load_published().loc[["n_neighbors", "dim", "alpha"]]

# %% [markdown]
# ## Reported values

# %%
report(tuning_values(neighbors, by_dim, by_alpha), matrix.source)

# %% [markdown]
# **Recap.** Chosen on validation questions: k = {glue:text}`n_neighbors:.0f`, {glue:text}`dim:.0f` dimensions, noise
# {glue:text}`alpha:.4g`. MF predicts {glue:text}`smallest_mf:.2f` % of the validation answers correctly with the smallest
# size tried and {glue:text}`tuned_mf:.2f` % with the chosen one, KNN {glue:text}`tuned_knn:.2f` %.
