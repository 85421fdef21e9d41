# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Claims of the paper
#
# **Goal.** Compare, claim by claim, what the paper reports with what was found on each data set.

# %% tags=["remove-input"]
from embedllm.protocol.recap import InShort

in_short = InShort("""
Verdicts on {claims:.0f} claims of the paper, by rule, on each of {data_sets:.0f} data sets:

{verdicts}
""")

# %% [markdown]
# The values are those that the other pages reported, in this build or in a recorded run; nothing is computed again. Each
# claim links to the figure that shows it. Published values are of the paper's data. *No verdict*: on other data, a published
# value is not compared. *Not testable*: the data lack the models or the benchmarks of the claim.
#
# **In the paper:** all figures and tables. **Published:** as the table says.

# %% tags=["parameters", "hide-input"]
folder: str = ""  # of the reported values; by default, of this checkout

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %% tags=["hide-input"]
from pathlib import Path

from embedllm.protocol.recorded import EXECUTED, all_results
from embedllm.studies.summary import (
    claims_html,
    claims_table,
    status_html,
    status_table,
    verdicts_in_words,
)
from myst_nb import glue

results = all_results(Path(folder) if folder else EXECUTED)
table = claims_table(results)

# %% [markdown]
# ## Every claim
#
# Each cell has the value, its 95 % interval and the verdict. A baseline for the counts of Figure 5 is the mean accuracy alone
# ([Predicting accuracy](../notebooks/benchmark_prediction)).

# %% tags=["hide-input"]
claims_html(table)

# %% [markdown]
# The verdicts follow from the values by rule. A difference that the paper says to be positive *holds* if our 95 %
# interval lies above 0, is *contradicted* if it lies below, and is *undecided* otherwise. A statement about several cases
# *holds* if it does for all that can be tested, is *contradicted* if for none, and otherwise *holds for n of m*. A
# published value is compared on the paper's own data only: it *agrees* if it lies in our interval or equals our value, and
# otherwise *differs*; on other data there is *no verdict*. What a data set cannot show is *not testable*.
#
# On simulated answers there is no verdict on the paper: what holds there is *in the ground truth*, what is contradicted
# is *not in the ground truth*, and the rest *cannot be tested here*.

# %% [markdown]
# ## Every figure and table of the paper
#
# What is regenerated, on which data, and what is not attempted:

# %% tags=["hide-input"]
status = status_table(results)
status_html(status)

# %% tags=["remove-input"]
shown = status.drop(
    columns="on the paper's data"
)  # the landing page says that once
glue("status", status_html(shown, "notebooks/"), display=False)
papers = any(each.kind == "paper" for each in results)
glue("papers_data", "run" if papers else "not run", display=False)

# %% tags=["remove-input"]
in_short.fill(
    [],
    claims=table["claim"].nunique(),
    data_sets=table["data"].nunique(),
    verdicts=verdicts_in_words(table),
)
