"""Figure of the page on strong baselines."""

import numpy as np
import pandas as pd

from embedllm.plots.baselines import plot_baselines


def test_each_method_is_a_marker_in_its_row():
    nothing = (np.nan, np.nan, np.nan)
    rows = {
        "b": (0.0, 0.0, 0.0, 2.0, 1.0, 3.0),
        "MF": (-0.1, -0.2, 0.0, 1.0, 0.0, 2.0),
        "single": (*nothing, 0.0, np.nan, np.nan),
        "oracle": (*nothing, 30.0, 29.0, 31.0),
        "stack": (-0.3, -0.4, -0.2, 4.0, 3.0, 5.0),
    }
    columns = ["loss_minus", "loss_low", "loss_high", "gain", "gain_low", "gain_high"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method").reset_index()
    table["data"] = "x"
    upper, lower = plot_baselines(table, "b", "single").axes
    for axes, value, methods in ((upper, "loss_minus", ["stack", "MF"]), (lower, "gain", ["stack", "b", "MF"])):
        assert [label.get_text() for label in axes.get_yticklabels()] == methods  # the best is above
        marked = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert marked == table.set_index("method").loc[methods, value].tolist()
        assert next(text.get_text() for text in axes.texts).startswith(("-0.3", "+4.0"))
