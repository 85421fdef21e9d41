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
# A router predicts how probable a correct answer is. Can it tell which questions somebody else should answer? And are its
# probabilities true, for the models that it chooses and for questions unlike those that it learned from?

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
Of the stack, the predictor of a router by default, which is told the benchmark of a question here, with 95 % intervals:

- correct answers on all test questions: {selective_all_words}; on the 80 % in which it is most confident:
  {selective_most_words}; on the most confident half: {selective_half_words};
- the questions of least confidence that a person who is always correct must get, to halve the incorrect answers:
  {selective_person_words}, against 50 % in random order;
- questions that go to a fallback, the best single model, below a threshold that is chosen on validation questions:
  {selective_sent_words}; what this adds to the accuracy: {selective_gain_words};
- predicted minus observed share of correct answers, of the models that it chooses: {selective_excess_words};
- the same for MF: {selective_heldout_excess_words} on benchmarks without a training question, and
  {selective_heldout_known_excess_words} on the same questions with training questions of all benchmarks.
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
# The confidence of a router in a question is the probability $\max_m p(m, q)$ that it predicts for the model that it chooses.
# Sorted by it, the most confident questions are kept; `router.route(questions, min_probability=p, fallback=name)` gives the
# others to a fallback ([Bring your own models](../own-models)). The upper panel has the accuracy on the questions kept:
#
# - `stack`, `MF`: routers of these predictors ([Strong baselines](../notebooks/baselines));
# - `best single model`: chosen on training questions, and sorted by the probability that the stack predicts for it;
# - `oracle order`: the answers of the stack, the correct ones first. It knows the answers: no order is better;
# - `random order`: the stack, with the questions in random order;
# - `ceiling`, on the simulated pool only: a router that knows the probabilities given the text.
#
# In the lower panel, the best single model answers the questions that are not kept. A predictor that knows its probability has
# already compared it with the others, so that this fallback gains only where predictions are incorrect. Bands are 95 % intervals
# over questions, paired in the lower panel; there is none from fewer than 30 questions.

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
# - `all`, `most`, `half`: accuracy on all questions, and on the 80 % and the 50 % of most confidence (%);
# - `order`: mean accuracy over all shares kept, minus that in random order (points): the area between the two lines;
# - `person`: share of the questions that a person who is always correct must get, to halve the incorrect answers (%). In random
#   order it is 50;
# - `sent`, `gain`: share that the best single model gets, with the threshold of most accuracy on the validation questions (%),
#   and what this adds to the accuracy (points).

# %%
summary = selection.summary().set_index("method").drop(columns="data")
parts = ["all", "most", "half", "order", "person", "sent", "gain"]
columns = [part + end for part in parts for end in ("", "_low", "_high")]
summary[columns].T.round(2).astype(object).fillna("")

# %% [markdown]
# ## Probabilities of the models that are chosen
#
# The model with the highest prediction is often one whose prediction is too high: the *winner's curse*. It shows as a
# difference, predicted minus observed, that is larger for the models that are chosen (`excess`) than for all models on the same
# questions (`pool`) (points).

# %%
shown = [
    part + end
    for part in ("excess", "pool")
    for end in ("", "_low", "_high")
]
summary.loc[[*predictors, "best single model"], shown].round(2)

# %% [markdown]
# The upper panel has this difference by the predicted probability. The others divide the questions by their similarity with the
# nearest of (a sample of) the training questions, as `route` does to mark unfamiliar ones. Questions of other similarity are
# questions of other kinds too, easier or harder.

# %%
plot_reliability_of_choices(
    selection.fifths("probability"), selection.fifths("similarity")
)

# %% [markdown]
# ## Benchmarks without a training question
#
# A stronger test: MF is fitted without one benchmark at a time, in the first run and with the alpha chosen there, and routes the
# test questions of that benchmark. The box above, the reported values and the end of the page have the results, on the
# questions of all benchmarks together, beside those of the fit to all benchmarks.
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

- The order of confidence gains {selective_order_words} over random order for the stack and {selective_order_mf_words} for MF;
  an order that knows the answers, {selective_order_oracle_words}. On the most confident half, the stack minus the best single
  model on its own most confident half: {selective_half_minus_single_words}.
- A fallback to the best single model adds {selective_gain_words} for the stack and {selective_gain_mf_words} for MF.
- Predicted minus observed, for the models that are chosen: {selective_excess_words} (stack), {selective_excess_mf_words} (MF).
  The same minus that for all models (above 0 with the winner's curse): {selective_curse_words} (stack), {selective_curse_mf_words} (MF).
- The least familiar fifth of the questions minus the most familiar one: accuracy {selective_far_accuracy_words}, predicted
  minus observed {selective_far_excess_words} (stack).
- Questions marked unfamiliar: {selective_heldout_marked_words} without training questions of their benchmark, and
  {selective_heldout_known_marked_words} with them. The accuracy of MF changes by {selective_heldout_accuracy_words} without them.
""",
    values,
)
