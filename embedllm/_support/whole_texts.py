"""A table that a notebook shows with its texts in full."""

from __future__ import annotations

import pandas as pd


class WholeTexts(pd.DataFrame):
    """A table whose texts, such as why a value is not testable, are not cut at 50 letters in a notebook."""

    @property
    def _constructor(self) -> type[WholeTexts]:  # of its selections, which are shown alike
        return WholeTexts

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_colwidth", None):
            return super()._repr_html_()  # type: ignore[misc,no-any-return]
