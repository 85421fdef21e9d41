# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From the formula to code
#
# **Goal.** Write the method of the paper by hand, a few lines for each step, and check that the package computes the same:
# the probability of one answer, the training of the model embeddings, the nearest questions, and one route.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
The package computes what the paper's formulas say: over {checks:.0f} checks of the factorization and of a route, the largest
difference to the computation by hand is {largest:.1e}. A logistic regression of scikit-learn differs from the exact fit of
the same model by at most {sklearn:.1e} in a probability.
""")

# %% [markdown]
# Each check prints the largest difference to the package and fails if it is above $10^{-5}$. A small pool is
# enough.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.05  # share of the simulated pool; no effect on others
epochs: int = 8  # passes over the training questions
seed: int = 0  # of the simulated pool, the split and MF

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
import numpy as np
import pandas as pd
import torch
from embedllm import (
    KNNCorrectness,
    MatrixFactorization,
    TrainingPreset,
    evaluate_routers,
    load_dataset,
    standard_routers,
)
from embedllm.plots.forecasting import plot_history
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits

matrix = load_dataset(dataset, scale=scale, random_state=seed)
# Sorted by name: the order in which the package trains the models.
matrix = matrix.subset(models=sorted(matrix.model_names))
train, val, test = matrix.split(random_state=seed)
matrix


# %% tags=["hide-input"]
differences = []


def check(what, by_hand, package):
    difference = np.abs(np.asarray(by_hand) - np.asarray(package)).max()
    print(f"{what}: largest difference {difference:.1e}")
    assert difference < 1e-5
    differences.append(difference)


# %% [markdown]
# ## One answer
#
# A model $m$ has an embedding $p_m$, a question an embedding $q$ from a frozen encoder. The question is projected to the
# size of a model embedding, multiplied with it element by element, and a linear classifier gives two scores: one for an
# incorrect answer and one for a correct answer. The probability of a correct answer is the logistic function of their
# difference,
#
# $$s(m, q) = \sigma(o_1 - o_0), \qquad o = C\,\big(p_m \odot (W q + b)\big) + a.$$
#
# First a fit by the package, with few steps; `parameters_` holds $P$ (the rows $p_m$), $W$, $b$, $C$ and $a$.

# %% tags=["hide-output"]
dim, alpha, rate, decay = 16, 0.05, 1e-3, 1e-5
questions_per_step = 64
pairs_per_question = train.observed.sum() / train.n_questions
preset = TrainingPreset(
    pairs_per_step=round(questions_per_step * pairs_per_question),
    epochs=epochs,
    learning_rate=rate,
    weight_decay=decay,
)
mf = MatrixFactorization(
    dim=dim,
    alpha=alpha,
    solver="sgd",
    preset=preset,
    device="cpu",
    random_state=seed,
)
mf.fit(train, validation=val)

# %% [markdown]
# The first model and the first test question:

# %%
p, w, b, c, a = mf.parameters_
q = torch.tensor(test.embeddings[0])
projected = w @ q + b  # (dim,)
o = c @ (p[0] * projected) + a  # (2,)
s = torch.sigmoid(o[1] - o[0])

check("one answer", s, mf.predict_proba(test.embeddings[:1])[0, 0])


# %% [markdown]
# ## Training
#
# The same for all models and a block of questions at once. The difference of the two scores is one inner product for each
# pair, $z_{mq} = ((c_1 - c_0) \odot p_m) \cdot (W q + b) + a_1 - a_0$:


# %%
def logits(parameters, q):  # q: (n_questions, width)
    p, w, b, c, a = parameters
    directions = (c[1] - c[0]) * p  # (n_models, dim)
    return (q @ w.T + b) @ directions.T + a[1] - a[0]


def loss(parameters, q, y):  # y: (n_questions, n_models); -1 is missing
    z, observed = logits(parameters, q), (y >= 0).float()
    total = binary_cross_entropy_with_logits(
        z, y, observed, reduction="sum"
    )
    return total / observed.sum()


# %% [markdown]
# The loss is the mean cross-entropy over the observed answers. Parameters start as PyTorch starts an `Embedding` and a
# `Linear` layer. In each step, noise with standard deviation $\alpha$ is added to the question embeddings, and Adam takes
# a step along the gradient. The random draws are those of the package: one generator for the start and the order of the
# questions, one for the noise.


# %%
def uniform(*shape, fan_in):
    return (2 * torch.rand(*shape, generator=draws) - 1) / fan_in**0.5


def tensors(part):
    return torch.tensor(part.embeddings), torch.tensor(
        part.labels.T
    ).float()


draws, noise = (torch.Generator().manual_seed(seed) for _ in range(2))
(x, y), width = tensors(train), train.embeddings.shape[1]
parameters = [
    torch.randn(train.n_models, dim, generator=draws),  # P
    uniform(dim, width, fan_in=width),  # W
    uniform(dim, fan_in=width),  # b
    uniform(2, dim, fan_in=dim),  # C
    uniform(2, fan_in=dim),  # a
]
for parameter in parameters:
    parameter.requires_grad_()

optimizer = torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
history = []
for _ in range(epochs):
    losses = []
    order = torch.randperm(len(x), generator=draws)
    for rows in order.split(questions_per_step):
        e = torch.empty(len(rows), width).normal_(generator=noise)
        step_loss = loss(parameters, x[rows] + alpha * e, y[rows])
        optimizer.zero_grad()
        step_loss.backward()
        optimizer.step()
        losses.append(step_loss.item())
    with torch.no_grad():
        val_loss = loss(parameters, *tensors(val)).item()
    history.append({"train_loss": np.mean(losses), "val_loss": val_loss})

history = pd.DataFrame(history)
plot_history(history, matrix.source)

# %% [markdown]
# The losses and the predictions for the test questions are those of the package:

# %%
with torch.no_grad():
    by_hand = torch.sigmoid(logits(parameters, tensors(test)[0]))

check("losses", history, mf.history_[["train_loss", "val_loss"]])
check("all test answers", by_hand, mf.predict_proba(test.embeddings))

# %% [markdown]
# The package trains in the same way; the preset `paper` has the paper's number of pairs a step and of epochs.
#
# ## The exact fit
#
# With at least as many dimensions as models, the formula is one logistic regression per model, and the noise a ridge penalty
# ([What EmbedLLM is](../notebooks/what_embedllm_is)). The default solver finds its optimum for all models together. For
# the first model, scikit-learn's `LogisticRegression` with the same penalty, $\lambda = \alpha^2 \kappa$, where $\kappa$ is
# the mean over the answers of $r (1 - r)$ for the share $r$ of correct answers of a model:

# %%
exact = MatrixFactorization(alpha=alpha, tol=1e-5, device="cpu")
exact.fit(train)

seen = train.observed
n = seen.sum(axis=1)
pool = (train.labels == 1).sum() / n.sum()
r = ((train.labels == 1).sum(axis=1) + pool) / (n + 1)
kappa = (r * (1 - r) * n).sum() / n.sum()

m = 0
regression = LogisticRegression(
    C=1 / (n[m] * alpha**2 * kappa), tol=1e-8, max_iter=10_000
)
regression.fit(train.embeddings[seen[m]], train.labels[m, seen[m]])
by_sklearn = regression.predict_proba(test.embeddings)[:, 1]
sklearn_difference = np.abs(
    by_sklearn - exact.predict_proba(test.embeddings)[:, m]
).max()
print(f"largest difference of a probability: {sklearn_difference:.1e}")
assert sklearn_difference < 1e-3

# %% [markdown]
# ## The nearest questions
#
# KNN predicts the share of correct answers among the $k$ nearest training questions that the model answered. Of questions
# at the same distance, the first ones count:

# %%
k = 31
knn = KNNCorrectness(k).fit(train)
predicted = knn.predict_proba(test.embeddings)
distances = cdist(
    test.embeddings.astype(float), train.embeddings.astype(float)
)
order = distances.argsort(axis=1, kind="stable")  # (n_test, n_train)
for m in np.flatnonzero(train.observed.any(axis=1)):
    answered = order[train.observed[m][order]].reshape(len(order), -1)
    by_hand = train.labels[m][answered[:, :k]].mean(axis=1)
    np.testing.assert_allclose(by_hand, predicted[:, m], atol=1e-5)
print(f"{train.n_models} models: equal within 1e-5")

# %% [markdown]
# ## One route
#
# The router sends a question to the model with the highest probability, among the models whose answer was observed, and
# obtains the answer of that model. For the first test question with an observed answer:

# %%
i = np.flatnonzero(test.observed.any(axis=0))[0]
probability = mf.predict_proba(test.embeddings[[i]])[0]  # (n_models,)
candidates = np.flatnonzero(test.observed[:, i])
chosen = candidates[probability[candidates].argmax()]
correct = test.labels[chosen, i] == 1
print(
    f"{test.model_names[chosen]}: {probability[chosen]:.3f}, correct: {bool(correct)}"
)

router = standard_routers(train, mf, knn)["MF"]
question = test.subset(questions=[test.question_ids[i]])
evaluation = evaluate_routers({"MF": router}, question)
check("accuracy on this question", correct, evaluation["accuracy"].iloc[0])

# %% tags=["remove-input"]
in_short.fill(
    [],
    checks=len(differences),
    largest=max(differences),
    sklearn=sklearn_difference,
)
recap(
    """
**What we learned.** The method is one inner product for each pair of a model and a question. It is trained by gradient descent
on the observed answers, or solved exactly as one logistic regression per model. The results of the other pages are this
computation on more data.
""",
    [],
)
