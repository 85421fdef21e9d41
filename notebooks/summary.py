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
# The values are those that the other pages reported when the book was built; nothing is computed again. Each claim links
# to the figure that shows it. Published values are of the paper's data, ours of the data named in the table: on a
# simulated pool an agreement says that the method behaves as described, and nothing about real models.

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
# setting or a count, is equal to ours. A difference that the paper says to be positive *holds* if our interval lies above
# zero, is *contradicted* if it lies below, and is *undecided* otherwise. A statement about several cases holds for as many
# as were found. What the data cannot show is *undefined*, such as a statement about models of 70 billion parameters in a
# pool without one.

# %%
count_verdicts(table).to_frame()
