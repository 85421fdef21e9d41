"""Corrections of p-values for the number of tests.

References
----------
*A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

SIGNIFICANT = 0.05
"""A p-value below it is called significant."""


def holm(p: pd.Series) -> pd.Series:
    """Correct p-values for their number; NaN, of what was not tested, does not count.

    Examples
    --------
    >>> import pandas as pd
    >>> holm(pd.Series([0.04, 0.01, 0.03])).round(2).tolist()
    [0.06, 0.03, 0.06]
    """
    ascending = p.dropna().sort_values(kind="stable")
    return (ascending * np.arange(len(ascending), 0, -1)).cummax().clip(upper=1).reindex(p.index)
