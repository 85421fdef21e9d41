# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sensitivity to the encoder and the split
#
# All results follow from vectors of the questions, and from a division into training and test questions. What changes with
# other vectors, and with another division?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Log loss of MF with the embeddings of the data set: {sensitivity_loss_words}. With other vectors of the same questions, minus
that (95 % intervals; above 0 is worse):

- words of the text, without any encoder: {sensitivity_words_loss_words};
- the benchmark alone: {sensitivity_benchmark_loss_words};
- random numbers: {sensitivity_random_loss_words}.

Accuracy of MF minus that of KNN, by what a division of the questions keeps together:

- nothing: {sensitivity_alone_gap_words};
- the same text or item, as on all other pages: {sensitivity_text_gap_words};
- near duplicates: {sensitivity_near_gap_words};
- whole benchmarks: {sensitivity_whole_gap_words}.
""")

# %% [markdown]
# **In the paper:** nothing, the page is ours; the paper has one encoder (Section 4) and one division. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.2  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
n_neighbors: int = 131  # k of KNN
encoder: str = ""  # a further encoder of texts, a Hub id or a folder
n_questions: int = 4000  # of the second part, at most
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 1  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import KNNCorrectness, MatrixFactorization, load_dataset
from embedllm.datasets.duplicates import near_duplicates
from embedllm.datasets.encodings import OWN, standard_encodings
from embedllm.plots.sensitivity import plot_divisions, plot_encodings
from embedllm.protocol.reported_values import report
from embedllm.protocol.routers import BestSingleModel, PredictedBest
from embedllm.studies.forecasting import tally_runs
from embedllm.studies.routing import route_runs, tally_routes
from embedllm.studies.sensitivity import (
    TEXT,
    Divisions,
    Encodings,
    division_rules,
    draw_questions,
    encoded_runs,
    rule_runs,
)

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## Other vectors of the questions
#
# - `embedding`: that of the data set, and the same in fewer numbers (truncated SVD);
# - `words of the text`: counts of words and pairs of words, weighted by TF-IDF and reduced to 256 numbers by truncated SVD
#   (latent semantic analysis). It knows no language but that of the training questions. Data without texts have none;
# - `benchmark alone`: 1 for the benchmark of the question and 0 for each other one;
# - `embedding and benchmark`: both, of equal length;
# - `random numbers`: a control that tells nothing, as long as the embedding.
#
# With `encoder`, another sentence encoder is added. What is learned of words or directions is learned from training questions.
# All vectors have length 1. MF chooses the strength of its penalty anew for each of them on the validation questions; k of KNN
# is the same. A reader's own encoding is a function of the matrix and the mask of the training questions.

# %%
predictors = {
    "MF": MatrixFactorization(dim=dim),
    "KNN": KNNCorrectness(n_neighbors=n_neighbors),
}
encodings = standard_encodings(matrix, encoder)
runs = encoded_runs(matrix, encodings, predictors, seed, n_seeds)

# %% tags=["hide-input"]
routers = {name: PredictedBest(name) for name in predictors}
routers["best single model"] = BestSingleModel()
compared = Encodings(
    {name: tally_runs(each) for name, each in runs.items()},
    {
        name: tally_routes(route_runs(each, routers))
        for name, each in runs.items()
    },
    "best single model",
)
table = compared.table()
plot_encodings(table, OWN)

# %% [markdown]
# Log loss in nats, accuracy of forecasts and of the router in percent, `gain` over the best single model in points:

# %% tags=["hide-cell"]
table.drop(columns=["data", "n_questions"]).set_index(
    ["encoding", "predictor"]
).round(4).astype(object).fillna("")

# %% [markdown]
# ## Other divisions of the questions
#
# A predictor can remember a question that it has met in other words. How much does that add? A division keeps together:
#
# - `nothing`: each question is drawn by itself, whatever others are like it;
# - `same text or item`: as on all other pages. An item is what several wordings have in common, where the data name it;
# - `near duplicates`: also questions whose embeddings have a cosine similarity above 0.95, by way of others too;
# - `category`: where categories are parts of benchmarks;
# - `benchmark`: the far end, where no question of a benchmark has been seen.
#
# Each rule puts the questions into five folds, and each fold is predicted from the four others, so that all rules are tested on
# the same questions and their differences are paired. The folds are alike except for what a rule moves. Intervals are over
# groups of near duplicates. They do not contain what another draw of the folds would change (`n_seeds` averages over draws),
# and for whole benchmarks they say nothing about benchmarks that are not there. The penalty and k are the same everywhere. Of a
# larger data set, whole groups of near duplicates are drawn.

# %%
pool, near = draw_questions(
    matrix, near_duplicates(matrix), n_questions, seed
)
rules = division_rules(pool, near)
alpha = runs[OWN][0].predictors["MF"].alpha_
fixed = predictors | {"MF": MatrixFactorization(dim=dim, alpha=alpha)}
tally = tally_runs(rule_runs(pool, rules, fixed, seed, n_seeds))
divisions = Divisions(tally, rules, near, "MF", "KNN")
shown = divisions.table()
plot_divisions(shown, TEXT)

# %% tags=["hide-cell"]
shown.drop(columns=["data", "n_questions", "difference"]).set_index(
    ["rule", "predictor"]
).round(4).astype(object).fillna("")

# %% [markdown]
# ## Reported values

# %% tags=["hide-output"]
values = compared.values("MF", "KNN") + divisions.values()
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.** The log loss of MF, compared with that by the embeddings of the data set:

- higher: {loss_higher};
- lower: {loss_lower};
- not told apart: {loss_alike}.

MF as a router, compared in the same way: more correct answers with: {routing_higher}; fewer: {routing_lower}; not told apart:
{routing_alike}.

Accuracy with other divisions, minus that where the same text or item stays together:

| kept together | test questions with a near duplicate in training | MF | KNN | MF minus KNN |
|---|---|---|---|---|
| nothing | {sensitivity_alone_leaks_words} | {sensitivity_alone_mf_words} | {sensitivity_alone_knn_words} | {sensitivity_alone_change_words} |
| same text or item | {sensitivity_text_leaks_words} | - | - | - |
| near duplicates | {sensitivity_near_leaks_words} | {sensitivity_near_mf_words} | {sensitivity_near_knn_words} | {sensitivity_near_change_words} |
| benchmark | {sensitivity_whole_leaks_words} | {sensitivity_whole_mf_words} | {sensitivity_whole_knn_words} | {sensitivity_whole_change_words} |

MF minus KNN, compared with that division, is larger with: {gap_higher}; smaller: {gap_lower}; not told apart: {gap_alike}.
""",
    values,
    **compared.words("MF"),
    **divisions.words(),
)
