# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Every claim, published and here
#
# **Goal.** See at a glance what the paper reports, what this build found, and whether the two agree.
#
# The figures are those that the other pages published when the book was built; nothing is computed twice. Each claim
# leads to the drawing that shows it. Published figures are of the paper's data, ours of the data named in the table: on a
# simulated pool an agreement says that the method behaves as described, and nothing about real models.

# %% tags=["parameters"]
folder: str = ""  # where the executed notebooks left their numbers

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
# The verdicts follow from the numbers by rule. A figure *agrees* if the published value lies in our 95 % interval or, for
# a setting or a count, is equal to ours. A difference that the paper says to be positive *holds* if our interval lies
# above zero, is *contradicted* if it lies below, and is *undecided* otherwise. A statement about several cases holds for
# as many as were found. What the data cannot tell is *undefined*: a pool without a model of 70 billion parameters, say.

# %%
count_verdicts(table).to_frame()
