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
# All results depend on the vectors that stand for the questions, and on the division (split) into training and test questions.
# What changes with other vectors, and with another division?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
The log loss of matrix factorization (MF) is {sensitivity_loss_words}. If MF knows only the benchmark of a question instead of
its embedding, this changes by {sensitivity_benchmark_loss_words}; above 0 is worse.
Ranges in parentheses are 95 % intervals.

- Change with the words of the text, without an encoder: {sensitivity_words_loss_words}; with random numbers:
  {sensitivity_random_loss_words}.
- Accuracy of MF minus that of KNN in five-fold cross-validation with fixed k and alpha (not comparable with the page on
  [forecasting](forecasting.html)). With the same text kept together: {sensitivity_text_gap_words}; near duplicates:
  {sensitivity_near_gap_words}; whole benchmarks: {sensitivity_whole_gap_words}.
""")

# %% [markdown]
# **In the paper:** nothing, the page is ours; the paper has one encoder and one division. **Published:** none.

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
# - `embedding`: that of the data set, and the same reduced to fewer numbers by truncated SVD;
# - `words of the text`: counts of words and pairs of words, weighted by TF-IDF and reduced to 256 numbers by truncated SVD
#   (latent semantic analysis). It is learned from the training questions alone. It needs data with texts;
# - `benchmark alone`: 1 for the benchmark of the question and 0 for each other one;
# - `embedding and benchmark`: both, each scaled to the same length;
# - `random numbers`: a control without information, with as many numbers as the embedding.
#
# The parameter `encoder` adds another sentence encoder. TF-IDF and SVD are fitted on training questions only, and all vectors
# are scaled to length 1. MF chooses the strength of its penalty for each encoding on the validation questions; KNN has the
# same k for all. To add your own encoding, write a function of the matrix and the mask of the training questions.

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
# Log loss in nats, accuracies of forecasts and of the router (`routing`) in percent; `gain` of the router over the best single
# model in points; `_minus`: the difference from the embedding, `_low` to `_high` its interval:

# %% tags=["hide-cell"]
table.drop(columns=["data", "n_questions"]).set_index(
    ["encoding", "predictor"]
).round(4).astype(object).fillna("")

# %% [markdown]
# ## Other divisions of the questions
#
# If a test question is also in training in other words, a predictor can remember its answers. How much does that add to the
# accuracy? A division keeps some questions together, either all in training or all in test:
#
# - `nothing`: each question is drawn by itself, even if others are similar;
# - `same text or item`: the rule of the split on the other pages. An item is one question in several wordings, where the data
#   name items;
# - `near duplicates`: also questions whose embeddings have a cosine similarity above 0.95, directly or by a chain of others;
# - `category`: whole categories, where benchmarks have several;
# - `benchmark`: whole benchmarks. No question of a tested benchmark is in training.
#
# Each rule puts the questions into five folds, and each fold is predicted from the four others. All rules are therefore
# tested on the same questions, and their differences are paired. The folds of two rules differ only where one of them has to
# keep questions together. Intervals are over groups of near duplicates. They leave out two things: another random draw of the
# folds (`n_seeds` averages over draws), and, for whole benchmarks, other benchmarks than these. All rules have the same
# penalty and the same k. The penalty (alpha) was chosen in the first part, on validation questions that may be tested here. If
# there are more than `n_questions` questions, whole groups of near duplicates are drawn at random. The page on
# [correctness forecasting](../notebooks/forecasting) has the accuracies by the split of the other pages.

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
gap = shown["difference"].iat[0]
names = {"gap": gap, "leaks": "near duplicate in training (%)"}
names |= {"interval_0": f"{gap}: low", "interval_1": f"{gap}: high"}
more = f"{gap}, minus {TEXT}"
names |= {"gap_minus": more, "gap_low": f"{more}: low"}
names["gap_high"] = f"{more}: high"
shown.drop(columns=["data", "n_questions", "difference"]).set_index(
    ["rule", "predictor"]
).rename(columns=names).round(4).astype(object).fillna("")

# %% [markdown]
# ## Reported values

# %% tags=["hide-output"]
values = compared.values("MF", "KNN") + divisions.values()
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
words = compared.words("MF") | divisions.words()
compared_with = {
    "loss_higher": "higher with",
    "loss_lower": "lower with",
    "loss_alike": "not told apart by a 95 % interval with",
}
loss = [
    f"{said}: {words[key]}"
    for key, said in compared_with.items()
    if words[key] != "none"
]
recap(
    """
**What we learned.** The log loss of MF, compared with that of the embeddings of the data set, is
{loss}

In the same comparison, MF as a router gives more correct answers with: {routing_higher}; fewer with: {routing_lower}; not told
apart with: {routing_alike}.

MF minus KNN if nothing is kept together: {sensitivity_alone_gap_words}. Accuracy with other divisions, minus that where the
same text or item stays together:

| kept together | test questions with a near duplicate in training | MF | KNN | MF minus KNN |
|---|---|---|---|---|
| nothing | {sensitivity_alone_leaks_words} | {sensitivity_alone_mf_words} | {sensitivity_alone_knn_words} | {sensitivity_alone_change_words} |
| same text or item | {sensitivity_text_leaks_words} | - | - | - |
| near duplicates | {sensitivity_near_leaks_words} | {sensitivity_near_mf_words} | {sensitivity_near_knn_words} | {sensitivity_near_change_words} |
| benchmark | {sensitivity_whole_leaks_words} | {sensitivity_whole_mf_words} | {sensitivity_whole_knn_words} | {sensitivity_whole_change_words} |

Compared with that division, by intervals that leave out other draws of the folds and other benchmarks, MF minus KNN is larger
with: {gap_higher}; smaller with: {gap_lower}; not told apart with: {gap_alike}.
""",
    values,
    loss=loss or "not testable on this data set",
    **words,
)
