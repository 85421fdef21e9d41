# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Contributions of benchmarks
#
# How much worse is a benchmark predicted if another one is not in training? On this page, *a positive contribution helps*.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort, recap

in_short = InShort("""
The paper's [Figure 7](#contributions-contribution-sums), in total test MSE over 100 splits, with 95 % intervals over models:

- what MMLU gives to the others, minus the most that another benchmark gives: {mmlu_lead_words};
- how much the others together hurt GPQA: {gpqa_hurt_words};
- what gives most here, {giver}, minus the most that another one gives: {giver_lead_words}. Since it is chosen as the largest,
  its lead is overestimated.

Ours, the mean loss of forecasting accuracy on a benchmark:

- without its own training questions: {own_loss_words};
- without those of another one: {others_loss_words}.
""")

# %% [markdown]
# **In the paper:** Figure 7, section 6.2. **Published:** MMLU gives most to the others, the others together hurt GPQA, and
# three contributions of one benchmark of mathematics to another; the bars as a picture only.

# %% tags=["parameters", "hide-input"]
dataset: str = "simulated"  # or mmlu-pro, zeroeval, embedllm, a folder
scale: float = 1.0  # share of the simulated pool; no effect on others
dim: int = 232  # size of a model embedding
alpha: float | str = 0.05  # noise in training: MF's ridge penalty
seed: int = (
    0  # of the simulated pool, the questions' split, the models' splits
)

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-cell"]
from embedllm import MatrixFactorization, load_dataset, load_published
from embedllm.plots.contributions import (
    plot_contribution_sums,
    plot_contributions,
)
from embedllm.protocol.reported_values import report
from embedllm.studies.contributions import (
    ACCURACY,
    MSE,
    ORDER,
    contribution_values,
    measure_contributions,
    published_cells,
)
from IPython.display import display

matrix = load_dataset(dataset, scale=scale, random_state=seed)
matrix

# %% [markdown]
# ## The paper's measure
#
# For a contributor $i$ and a testee $j$, MF is fitted on the training questions of all benchmarks but $j$ (*added*), and of
# all but $i$ and $j$ (*removed*); the testee is never in training. From the vectors of each fit, the accuracies on $j$ are
# predicted by the [regression of Figure 5](../notebooks/benchmark_prediction), in the same 100 random splits of the models. With $e$ the
# total over the splits of the mean squared error on the test models, in shares of 1,
#
# $$C_{ij} = e_{\text{removed}} - e_{\text{added}}.$$
#
# The fits are exact: the same without $i$ and $j$ as without $j$ and $i$, so that $n$ benchmarks
# need $n (n + 1) / 2$ fits. With the paper's SGD they are not attempted. The share of test models, which the
# paper does not state, is that of Figure 5; a testee needs 20 models that have answers elsewhere whichever contributor is
# left out.

# %% tags=["hide-input"]
mf = MatrixFactorization(dim=dim, alpha=alpha)
contributions = measure_contributions(matrix, mf, seed)
paper = contributions[MSE]

# %% [markdown]
# ## Figure 7
#
# Left: what a benchmark gives, the sum of its row of $C$. Right: what it gains from the others, the sum of its column. Lines
# are 95 % intervals over resampled models, with all fits and regressions as they are: the spread of other splits is not in
# them, nor that of other questions.

# %% tags=["hide-input"]
plot_contribution_sums(paper.sums())

# %% [markdown]
# The matrix $C$, of which the paper reports three entries, framed where the data have them. A star marks an interval that
# excludes 0. Intervals leave out other fits, splits and questions, so that chance alone can give more stars than one cell in
# twenty, and they are not corrected for the number of cells. Columns of a testee with fewer than 100 questions are hatched.

# %% tags=["hide-input"]
framed = published_cells(paper)
plot_contributions(paper.table(), framed.index)

# %% [markdown]
# The published entries, of the paper's data, beside ours, of the data named above:

# %%
if len(framed):
    display(framed.round(3))
else:
    print("These data have no pair of the benchmarks concerned.")

# %% tags=["hide-cell"]
load_published().loc[["contributions_largest", "contributions_hurt"]]

# %% [markdown]
# ## Ours: predictions of answers
#
# The paper has no such figures. Here the predictions for the testee's *test questions* are compared, of fits with all
# benchmarks and without the contributor; the testee's own training questions stay in, and the diagonal shows a benchmark
# without them. First the loss in forecasting accuracy, in points. Intervals are over resampled test questions, none from
# fewer than 30.

# %% tags=["hide-input"]
plot_contributions(contributions[ACCURACY].table())

# %% [markdown]
# Accuracy also changes when only the level of a benchmark, how hard its questions are for all models, is predicted
# differently. A router needs the order of the models: of all pairs of models, one of which answers a question
# correctly and one incorrectly, the share that is predicted in this order, the pairwise ranking accuracy.

# %% tags=["hide-input"]
plot_contributions(contributions[ORDER].table())

# %% [markdown]
# ## Reported values

# %% tags=["hide-cell"]
values = contribution_values(contributions)
report(values, matrix.source)

# %% tags=["remove-input"]
in_short.fill(
    values, matrix.source, giver=paper.largest_giver or "no benchmark"
)
recap(
    """
**What we learned.** The three entries of the matrix that the paper names. Above 0, the first benchmark helps the second:

- GSM8K to MathQA: {contribution_gsm8k_mathqa_words};
- MathQA to ASDiv: {contribution_mathqa_asdiv_words};
- ASDiv to MathQA: {contribution_asdiv_mathqa_words}.

Ours, the mean loss of pairwise ranking accuracy on a benchmark, which is what a router needs:

- without its own training questions: {own_loss_order_words};
- without those of another one: {others_loss_order_words}.

The [summary](summary.html) has the verdicts.
""",
    values,
)
