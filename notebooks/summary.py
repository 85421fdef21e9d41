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
# **Goal.** Compare, claim by claim, what the paper reports with what this build found.
#
# The values are those that the other pages reported in their last run; nothing is computed again. Each claim links
# to the figure that shows it. Published values are of the paper's data, ours of the data named in the table.

# %% tags=["parameters"]
folder: str = ""  # of the reported values; by default, of this checkout

# %% tags=["remove-input"]
from embedllm.book.parameters import check_parameters

check_parameters()

# %%
from embedllm.studies.summary import (
    claims_html,
    claims_table,
    count_verdicts,
)

table = claims_table(folder)
claims_html(table)

# %% [markdown]
# The verdicts follow from the values by rule. A value *agrees* if the published one lies in our 95 % interval or, for a
# setting or a count, is equal to ours, and *differs* otherwise. A difference that the paper says to be positive *holds* if our interval lies above
# zero, is *contradicted* if it lies below, and is *undecided* otherwise. A statement about several cases *holds* if it does
# for all that can be tested, is *contradicted* if for none, and otherwise *holds for n of m*. What the data cannot show is
# *undefined*. A value on other hardware has no verdict: *see the page*. The published k, dim and alpha are defaults of the
# authors' repository.
#
# On simulated answers there is no verdict on the paper: what holds there is *in the ground truth*, what is contradicted is
# *not in the ground truth*, *holds for n of m* becomes *in the ground truth for n of m*, and the rest, with every published
# number, *cannot be tested here*.

# %%
count_verdicts(table).to_frame()
