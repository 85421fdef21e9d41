# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Selective routing
#
# A router predicts the probability of a correct answer. Does this probability tell which questions should go to a person or to
# another model? And is it calibrated, for the models that the router chooses and for questions unlike the training questions?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
The default router answers {selective_all_words} of all test questions correctly, and {selective_half_words} of the half in
which it is most confident; minus the best single model on its own such half: {selective_half_minus_single_words}. Ranges in
parentheses are 95 % intervals.

- Questions of least confidence that a person who is always correct must answer, to halve the incorrect answers:
  {selective_person_words}; in random order it is 50 %.
- Accuracy gained if the best single model answers questions of low confidence: {selective_gain_words}. Questions that it
  gets: {selective_sent_words}.
- Predicted minus observed accuracy: {selective_excess_words}. For matrix factorization (MF): {selective_heldout_known_excess_words};
  for MF fitted without the training questions of the tested benchmark: {selective_heldout_excess_words}.

In this evaluation the stack gets the benchmark of each question. `Router.route` does not, so its results can differ.
""")

# %% [markdown]
# **In the paper:** nothing, the page is ours. **Published:** none.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 0.2  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
seed: int = 0  # of the simulated pool; the first of the seeds
n_seeds: int = 1  # runs: a random split each, if the source has none

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import (
    MatrixFactorization,
    StackedCorrectness,
    fit_runs,
    load_dataset,
)
from embedllm.plots.selective_routing import (
    plot_kept,
    plot_reliability_of_choices,
)
from embedllm.predictors.ceiling import ceiling_of
from embedllm.protocol.reported_values import report
from embedllm.studies.selective_routing import Selection

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## The questions that are kept
#
# The confidence of a router in a question $q$ is the probability $\max_m p(m, q)$ that it predicts for the model that it
# chooses. The router keeps the questions in which it is most confident;
# `router.route(questions, min_probability=p, fallback=name)` gives the others to a fallback
# ([Bring your own models](../own-models)). The upper panel shows the accuracy on the questions kept:
#
# - `stack`, `MF`: routers with these predictors ([Strong baselines](../notebooks/baselines)). The stack, the default,
#   combines MF with others; here it is told the benchmark of each question;
# - `best single model`: chosen on training questions, with the probability that the stack predicts for it as confidence;
# - `oracle order`: the choices of the stack, the correct ones first. This order knows the answers: none is better;
# - `random order`: the stack, with the questions in random order;
# - `ceiling`, on the simulated pool only: a router that knows the expected probability of a correct answer given the text.
#
# In the lower panel, the fallback is the best single model: it answers the questions that are not kept. The router has
# already compared the predicted probability of this model with those of the others, so this fallback can gain only where
# predictions are inaccurate. Bands are 95 % intervals over questions, of the stack only in the upper panel and paired in the
# lower one; none is drawn for fewer than 30 questions.

# %%
predictors = {
    "MF": MatrixFactorization(dim=dim),
    "stack": StackedCorrectness(),
    **ceiling_of(dataset, scale, seed),
}
runs = list(fit_runs(matrix, predictors, seed, n_seeds))
selection = Selection(runs, "stack", "MF")
plot_kept(selection.curves(), "stack")

# %% [markdown]
# - `all`, `most`, `half`: accuracy on all questions, and on the most confident 80 % and 50 % of them (%);
# - `order`: mean accuracy over all shares kept, minus that in random order (points): the area between the two lines;
# - `person`: share of the questions that a person who is always correct must answer, to halve the incorrect answers (%). In
#   random order it is 50;
# - `sent`, `gain`: share of the questions sent to the best single model, by the threshold with the highest accuracy on the
#   validation questions (%), and what this adds to the accuracy on the test questions (points).

# %% tags=["hide-cell"]
summary = selection.summary().set_index("method").drop(columns="data")
parts = ["all", "most", "half", "order", "person", "sent", "gain"]
columns = [part + end for part in parts for end in ("", "_low", "_high")]
summary[columns].T.round(2).astype(object).fillna("")

# %% [markdown]
# ## Probabilities of the models that are chosen
#
# The model with the highest prediction may be one whose prediction is too high: the *winner's curse*. With it, predicted
# minus observed accuracy is larger for the models that are chosen (`excess`) than for all models on the same questions
# (`pool`), both in points.

# %% tags=["hide-cell"]
shown = [
    part + end
    for part in ("excess", "pool")
    for end in ("", "_low", "_high")
]
summary.loc[[*predictors, "best single model"], shown].round(2)

# %% [markdown]
# The upper panel shows this difference for fifths of the questions, by predicted probability. The other panels divide the
# questions by their similarity to the nearest training question (of at most 2,048). `route` marks a question as *unfamiliar* if
# it is less similar than 99 % of the training questions are to theirs. Less similar questions may also be harder or easier, so
# similarity need not be the cause of a difference.

# %%
plot_reliability_of_choices(
    selection.fifths("probability"), selection.fifths("similarity")
)

# %% [markdown]
# ## Benchmarks without a training question
#
# A stronger test: in the first run, MF is fitted without one benchmark at a time, and routes the test questions of that
# benchmark. The strength of its penalty (alpha) is the one chosen with all benchmarks. The box above, the reported values and
# the end of the page have the results for all benchmarks together, beside those of the fit to all benchmarks on the same
# questions. Intervals are over the questions of these benchmarks, not over benchmarks.
#
# ## Reported values

# %% tags=["hide-output"]
values = selection.values()
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(values, matrix.source)
recap(
    """
**What we learned.**

- Accuracy of the stack on the 80 % of the questions in which it is most confident: {selective_most_words}.
- Mean accuracy over all shares kept, in order of confidence minus random order: {selective_order_words} (stack),
  {selective_order_mf_words} (MF); in an order that knows the answers: {selective_order_oracle_words}.
- Questions that the stack sends to the best single model, by a threshold chosen on validation questions:
  {selective_sent_words}. Accuracy gained: {selective_gain_words} (stack), {selective_gain_mf_words} (MF).
- Predicted minus observed accuracy of the models chosen: {selective_excess_words} (stack), {selective_excess_mf_words} (MF).
  The same, minus that of all models (above 0 with the winner's curse): {selective_curse_words} (stack),
  {selective_curse_mf_words} (MF).
- The least familiar fifth of the questions minus the most familiar one, for the stack: accuracy
  {selective_far_accuracy_words}, predicted minus observed accuracy {selective_far_excess_words}.
- Predicted minus observed accuracy of MF without training questions of their benchmark, minus that with them, on the same
  questions: {selective_heldout_more_excess_words}. Questions marked unfamiliar:
  {selective_heldout_marked_words} without them, {selective_heldout_known_marked_words} with them. Accuracy of MF without
  them, minus that with them: {selective_heldout_accuracy_words}.
""",
    values,
)
