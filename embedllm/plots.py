"""The figures of the companion: each function takes a matrix or a tidy frame and returns a matplotlib figure.

One style file, `companion.mplstyle`, serves them all, and a method has the same colour in every figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from embedllm.agreement import Agreement, right_shares
from embedllm.correctness import CorrectnessMatrix
from embedllm.figures import figure_of

# By value: a colour named "C0" would be looked up when the figure is shown, after the style is gone.
_PALETTE = sns.color_palette("colorblind").as_hex()
_GREY = _PALETTE[7]
_COLORS = {
    "MF": _PALETTE[0],
    "KNN": _PALETTE[1],
    "benchmark mean": _GREY,
    "best of benchmark": _GREY,
    "oracle": _PALETTE[2],
    "single best": _PALETTE[3],
    "weighted random": _PALETTE[4],
    "uniform random": _PALETTE[5],
}
_MARKERS = dict(zip(_COLORS, "osDDv^PX", strict=True))

_PARAMETERS = {
    "n_neighbors": "k, neighbours",
    "dim": "dim, size of a model embedding",
    "alpha": "alpha, noise in training",
}

_HELDOUT_COLORS = {"embeddings": _PALETTE[0], "question weights": _PALETTE[2], "mean accuracy": _GREY}


def _accuracies(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """Accuracy of each model on each benchmark, and the number of its questions."""
    table = matrix.accuracy(by=["model", "benchmark"]).reset_index()
    table["n_questions"] = table["benchmark"].map(matrix.questions["benchmark"].value_counts())
    return table.assign(data=matrix.source)


def _histograms(matrix: CorrectnessMatrix) -> pd.DataFrame:
    """How many models have an accuracy, and how many questions a share of right models, in each twentieth."""
    values = {"models by accuracy": matrix.accuracy(by="model")["accuracy"], "questions by share": right_shares(matrix)}
    parts = []
    for what, shares in values.items():
        counts, edges = np.histogram(shares.dropna(), np.linspace(0, 1, 21))
        parts.append(pd.DataFrame({"counted": what, "low": edges[:-1], "high": edges[1:], "count": counts}))
    return pd.concat(parts, ignore_index=True).assign(data=matrix.source)


@figure_of(_accuracies)
def plot_composition(matrix: CorrectnessMatrix) -> Figure:
    """Questions of each benchmark, and the accuracies of the models on it.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    questions = matrix.questions["benchmark"].value_counts()
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(7.5, 0.32 * len(questions) + 1.2))
    left.barh(questions.index, questions, color=_PALETTE[0])
    left.bar_label(left.containers[0], fmt="{:,.0f}", padding=2, fontsize=8)
    left.margins(x=0.18)
    left.invert_yaxis()
    left.set(xlabel="questions", title=f"{matrix.source}: {matrix.n_questions:,} questions")
    left.grid(axis="y", visible=False)
    accuracy = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    right.boxplot(
        [accuracy[benchmark].dropna() for benchmark in questions.index],
        positions=range(len(questions)),
        widths=0.6,
        orientation="horizontal",
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": _PALETTE[9]},
        medianprops={"color": "black"},
        flierprops={"markersize": 3},
    )
    right.grid(axis="y", visible=False)
    _percent(right)
    right.set(xlabel="accuracy of a model", title=f"{matrix.n_models} models")
    return figure


@figure_of(_accuracies)
def plot_accuracy(matrix: CorrectnessMatrix) -> Figure:
    """Heatmap of the accuracy of every model on every benchmark, best models on top; blank where nothing was observed.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    best_first = matrix.accuracy(by="model")["accuracy"].sort_values(ascending=False).index
    table = matrix.accuracy(by=["model", "benchmark"])["accuracy"].unstack("benchmark")
    table = table.loc[best_first, matrix.benchmark_names] * 100
    figure, axes = plt.subplots(figsize=(7.5, min(9.0, 1.8 + 0.12 * len(table))))
    sns.heatmap(
        table,
        ax=axes,
        cmap="cividis",
        vmin=0,
        vmax=100,
        yticklabels=max(1, len(table) // 28),
        cbar_kws={"label": "accuracy (%)"},
    )
    axes.set(xlabel="benchmark", ylabel=f"model ({len(table)}, best first)", title=matrix.source)
    axes.tick_params(axis="y", labelsize=7, rotation=0)
    axes.tick_params(axis="x", rotation=40)
    plt.setp(axes.get_xticklabels(), ha="right")
    return figure


@figure_of(_histograms)
def plot_distributions(matrix: CorrectnessMatrix) -> Figure:
    """Histograms of the accuracies of the models, and of the share of the models that is right on a question.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
    bars = _histograms(matrix)
    for axes, (_, rows), color in zip((left, right), bars.groupby("counted"), _PALETTE[:2], strict=True):
        axes.bar(rows["low"], rows["count"], rows["high"] - rows["low"], align="edge", color=color, edgecolor="white")
    left.set(xlabel="accuracy of a model", ylabel="models", title=matrix.source)
    right.set(xlabel="share of the models that is right", ylabel="questions")
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        _percent(axes)
    return figure


@figure_of()
def plot_coverage(coverage: pd.DataFrame) -> Figure:
    """How many models answered all, some and none of the questions of each benchmark, and the share that is missing.

    Parameters
    ----------
    coverage : DataFrame
        From `embedllm.agreement.coverage`.
    """
    figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(coverage) + 1.4))
    places = range(len(coverage))
    start = np.zeros(len(coverage))
    for column, color in (("all", _PALETTE[0]), ("some", _PALETTE[9]), ("none", "#d9d9d9")):
        axes.barh(places, coverage[column], left=start, color=color, label=column, height=0.7)
        start += coverage[column].to_numpy()
    for place, missing in zip(places, coverage["missing (%)"], strict=True):
        text = f"{missing:.1f} % missing"
        axes.annotate(text, (start[place], place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, coverage.index)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="models that answered all, some or none of the questions", title=coverage["data"].iat[0])
    figure.legend(loc="outside upper right", ncols=3)
    return figure


@figure_of(Agreement.pairs)
def plot_agreement(agreement: Agreement) -> Figure:
    """Heatmaps of the agreement of each pair of models and of Cohen's kappa, in one order that puts like beside like.

    Parameters
    ----------
    agreement : Agreement
        From `embedllm.agreement.pairwise_agreement`.
    """
    order = agreement.order()
    itself = np.eye(len(order), dtype=bool)
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(7.5, 4.1))
    words = {"agreement": "agreement", "kappa": "Cohen's kappa"}
    for axes, (name, title), color in zip(panels, words.items(), ("cividis", "viridis"), strict=True):
        table = getattr(agreement, name).loc[order, order].mask(itself)
        sns.heatmap(
            table,
            ax=axes,
            cmap=color,
            **({} if table.notna().any(axis=None) else {"vmin": 0, "vmax": 1}),  # no pair shares a question
            square=True,
            rasterized=True,  # thousands of cells would make a heavy drawing
            xticklabels=False,
            yticklabels=max(1, len(order) // 28),
            cbar_kws={"label": title, "location": "bottom", "shrink": 0.8, "pad": 0.03},
        )
        axes.set(xlabel=f"{len(order)} models, same order", ylabel="")
        axes.tick_params(axis="y", labelsize=6, rotation=0)
    panels[0].set_title(agreement.source)
    panels[1].tick_params(axis="y", left=False)
    return figure


@figure_of(lambda history, data: history.set_axis(history.index + 1).rename_axis("epoch").assign(data=data))
def plot_history(history: pd.DataFrame, data: str) -> Figure:
    """Cross-entropy of the factorization over the epochs of its fit.

    Parameters
    ----------
    history : DataFrame
        `MatrixFactorization.history_`, with validation data.
    data : str
        Source of the training data.
    """
    figure, axes = plt.subplots(figsize=(7.5, 3))
    epochs = history.index + 1
    axes.plot(epochs, history["train_loss"], "o-", color=_GREY, label="training, with noise")
    axes.plot(epochs, history["val_loss"], "s-", color=_COLORS["MF"], label="validation")
    axes.set(xlabel="epoch", ylabel="cross-entropy (nats per answer)", title=data)
    axes.legend()
    return figure


@figure_of()
def plot_sweep(table: pd.DataFrame, default: float) -> Figure:
    """Validation loss and accuracy over the values of one hyperparameter, with two standard errors over the seeds.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.tuning.summarize_sweep`.
    default : float
        The authors' value, drawn as a dotted line.
    """
    data, parameter, _ = table.index[0]
    table = table.droplevel(["data", "parameter"])
    color = _COLORS["KNN" if parameter == "n_neighbors" else "MF"]
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3))
    words = {"log_loss": "validation loss (nats per answer)", "accuracy": "validation accuracy"}
    for axes, (metric, label) in zip(panels, words.items(), strict=True):
        mean, margin = table[metric], 2 * table[f"{metric}_se"].fillna(0)
        axes.plot(table.index, mean, "o-", color=color, markerfacecolor="white", markersize=5)
        axes.fill_between(table.index, mean - margin, mean + margin, color=color, alpha=0.25, linewidth=0)
        chosen = mean[table["chosen"]]
        axes.plot(chosen.index, chosen, "o", color=color, markersize=8, label=f"chosen: {chosen.index[0]:g}")
        axes.axvline(default, color=_GREY, linestyle=":", label=f"authors: {default:g}")
        if parameter == "alpha":
            axes.set_xscale("symlog", linthresh=0.01, linscale=0.5)
            axes.set_xticks(table.index, [f"{value:g}" for value in table.index], rotation=45)
            axes.set_xlim(right=1.2 * table.index.max())
        else:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
        axes.set(xlabel=_PARAMETERS[parameter], ylabel=label)
    panels[0].set_title(data)
    panels[0].legend()
    panels[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    return figure


@figure_of()
def plot_learning_curves(curves: pd.DataFrame, values: int = 5) -> Figure:
    """Training and validation loss over the epochs, mean over the seeds, for some values of a hyperparameter.

    Parameters
    ----------
    curves : DataFrame
        From `embedllm.tuning.sweep_factorization`.
    values : int
        How many of the values are drawn, spread over those tried.
    """
    tried = pd.unique(curves["value"])
    drawn = tried[sorted({round(position) for position in np.linspace(0, len(tried) - 1, values)})]
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(7.5, 3.2))
    shades = sns.color_palette("viridis", len(drawn)).as_hex()
    words = {"train_loss": "training, with noise", "val_loss": "validation"}
    for axes, (column, label) in zip(panels, words.items(), strict=True):
        for value, shade in zip(drawn, shades, strict=True):
            mean = curves[curves["value"] == value].groupby("epoch")[column].mean()
            axes.plot(mean.index, mean, color=shade, label=f"{value:g}")
        axes.set(xlabel="epoch", title=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("cross-entropy (nats per answer)")
    parameter, data = curves["parameter"].iat[0], curves["data"].iat[0]
    figure.suptitle(data, x=0.01, ha="left", fontsize=11)
    panels[1].legend(title=parameter)
    return figure


@figure_of()
def plot_forecasts(forecasts: pd.DataFrame) -> Figure:
    """Forecasting accuracy of each predictor, overall and by benchmark, with two standard errors to each side.

    Parameters
    ----------
    forecasts : DataFrame
        From `evaluate_forecasts`.
    """
    return _by_benchmark(forecasts, "predictor", "share of answers forecast rightly")


@figure_of()
def plot_training_sizes(curve: pd.DataFrame) -> Figure:
    """Forecasting accuracy and log loss against the number of training questions: mean and range over the seeds.

    Parameters
    ----------
    curve : DataFrame
        From `embedllm.learningcurve.learning_curve`.
    """
    sizes = sorted(pd.unique(curve["size"]))
    methods = list(pd.unique(curve["predictor"]))
    colors = _colors(methods)
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.6))
    words = {"accuracy": "share of answers forecast rightly", "log_loss": "log loss (nats per answer)"}
    for axes, (metric, label) in zip(panels, words.items(), strict=True):
        for name in methods:
            over_seeds = curve[curve["predictor"] == name].groupby("size")[metric].agg(["mean", "min", "max"])
            axes.plot(
                over_seeds.index,
                over_seeds["mean"],
                f"-{_MARKERS.get(name, 'o')}",
                color=colors[name],
                markersize=5,
                label=name,
            )
            axes.fill_between(
                over_seeds.index, over_seeds["min"], over_seeds["max"], color=colors[name], alpha=0.2, linewidth=0
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=90)
        axes.minorticks_off()
        axes.set(xlabel="training questions", ylabel=label)
    panels[0].set_title(", ".join(pd.unique(curve["data"])))
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@figure_of()
def plot_reliability(bins: pd.DataFrame) -> Figure:
    """Observed frequency of right answers against the predicted probability, and how often each was predicted.

    Parameters
    ----------
    bins : DataFrame
        From `embedllm.calibration.pool_repetitions`.
    """
    methods = list(pd.unique(bins["predictor"]))
    colors = _colors(methods)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.9))
    left.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle="--", label="perfect")
    for name in methods:
        rows = bins[bins["predictor"] == name]
        style = {"color": colors[name], "marker": _MARKERS.get(name, "o"), "markersize": 5}
        left.plot(rows["predicted"], rows["observed"], label=name, **style)
        right.plot(rows["predicted"], rows["share"], **style)
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=", ".join(pd.unique(bins["data"])))
    left.set(xlabel="predicted probability of a right answer", ylabel="share of right answers")
    right.set(xlim=(0, 1), ylim=(0, None), xlabel="predicted probability, mean of its bin", ylabel="share of answers")
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@figure_of()
def plot_routers(evaluation: pd.DataFrame) -> Figure:
    """Accuracy of each router, overall and by benchmark, with two standard errors to each side.

    Parameters
    ----------
    evaluation : DataFrame
        From `evaluate_routers`.
    """
    return _by_benchmark(evaluation, "router", "share of questions answered rightly")


@figure_of()
def plot_router_gains(gains: pd.DataFrame) -> Figure:
    """Accuracy of routers minus that of a reference, overall and by benchmark, with paired 95 % intervals.

    Parameters
    ----------
    gains : DataFrame
        `Tally.differences` of routes.
    """
    benchmarks = list(pd.unique(gains["benchmark"]))
    sizes = gains.drop_duplicates("benchmark").set_index("benchmark")["n_questions"]
    # The oracle, which is no router in earnest, comes last.
    methods = sorted(pd.unique(gains["router"]), key=lambda name: name == "oracle")
    colors = _colors(methods)
    n_columns = min(3, len(methods))
    n_rows = -(-len(methods) // n_columns)
    figure, grid = plt.subplots(
        n_rows,
        n_columns,
        sharex="row",
        sharey=True,
        squeeze=False,
        figsize=(7.5, n_rows * (0.2 * len(benchmarks) + 0.9) + 0.4),
    )
    for axes, name in zip(grid.flat, methods, strict=False):
        rows = gains[gains["router"] == name]
        places = [benchmarks.index(benchmark) for benchmark in rows["benchmark"]]
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axhline(0.5, color="#888888", linewidth=0.8)
        axes.hlines(places, rows["low"], rows["high"], color=colors[name], linewidth=1.5)
        axes.plot(rows["points"], places, _MARKERS.get(name, "o"), color=colors[name], markersize=5)
        axes.set(title=name, xlabel=f"minus {rows['minus'].iat[0]} (points)")
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    figure.suptitle(", ".join(pd.unique(gains["data"])), x=0.01, ha="left", fontsize=11)
    grid[0, 0].set_yticks(range(len(benchmarks)), [f"{name} ({sizes[name]:,})" for name in benchmarks])
    grid[0, 0].invert_yaxis()
    figure.supylabel("benchmark (test questions)", fontsize=10)
    return figure


@figure_of(lambda shares, data, *_: pd.DataFrame(shares).rename_axis("model").assign(data=data))
def plot_route_shares(shares: dict[str, pd.Series], data: str, top: int = 12) -> Figure:
    """Share of the questions that the most used models receive from each router.

    Parameters
    ----------
    shares : mapping from the name of a router to its `route_shares`
    data : str
        Source of the questions.
    top : int
        Models shown, those with the largest share from any router.
    """
    table = pd.DataFrame(shares)
    table = table.loc[table.max(axis=1).nlargest(top).index]
    figure, axes = plt.subplots(figsize=(7.5, 0.3 * len(table) + 1.2))
    table.plot.barh(ax=axes, color=_colors(table), width=0.8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    _percent(axes)
    axes.set(xlabel="share of the test questions", ylabel="", title=data)
    axes.legend(title="router")
    return figure


@figure_of(lambda comparison: comparison.drop(columns="runs", errors="ignore"))
def plot_protocols(comparison: pd.DataFrame) -> Figure:
    """Accuracies under each rule for labels, and MF minus KNN with its 95 % interval, by each way of scoring.

    Parameters
    ----------
    comparison : DataFrame
        From `embedllm.labelrules.compare_protocols`.
    """
    protocols, ways = list(pd.unique(comparison["protocol"])), list(pd.unique(comparison["scored on"]))
    methods = ["MF", "KNN", "benchmark mean"]
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(7.5, 0.55 * len(protocols) + 1.5))
    for number, (way, shape) in enumerate(zip(ways, "osD", strict=True)):
        rows = comparison[comparison["scored on"] == way]
        places = [protocols.index(name) + 0.24 * (number - (len(ways) - 1) / 2) for name in rows["protocol"]]
        for method in methods:
            left.plot(rows[method], places, shape, color=_COLORS[method], markersize=5)
        right.plot(rows["gap"], places, shape, color="#333333", markersize=5)
        right.hlines(places, rows["low"], rows["high"], color="#333333", linewidth=1)
    right.axvline(0, color=_GREY, linewidth=0.8)
    left.set_yticks(range(len(protocols)), protocols)
    left.invert_yaxis()
    left.xaxis.set_major_formatter(PercentFormatter())
    left.set(xlabel="labels forecast rightly", title=comparison["data"].iat[0])
    right.set(xlabel="MF minus KNN (points)")
    colors = [Line2D([], [], linestyle="", marker="_", markeredgewidth=3, color=_COLORS[name]) for name in methods]
    shapes = [Line2D([], [], linestyle="", marker=shape, color="#333333", markersize=5) for shape in "osD"]
    figure.legend(colors, methods, loc="outside upper left", ncols=3, columnspacing=1, handletextpad=0.3)
    figure.legend(shapes, ways, loc="outside upper right", ncols=3, columnspacing=1, handletextpad=0.1)
    return figure


@figure_of(lambda predictions, predictor="embeddings": predictions[predictions["predictor"] == predictor])
def plot_heldout(predictions: pd.DataFrame, predictor: str = "embeddings") -> Figure:
    """Predicted against actual accuracy of the models on each held-out benchmark, one panel each.

    Parameters
    ----------
    predictions : DataFrame
        From `embedllm.heldout.predict_heldout`. Predictions are drawn as means over the seeds.
    predictor : "embeddings", "question weights" or "mean accuracy"
    """
    rows = predictions[predictions["predictor"] == predictor]
    means = rows.groupby(["benchmark", "model"], sort=False)[["predicted", "actual"]].mean()
    benchmarks = list(pd.unique(rows["benchmark"]))
    n_columns = min(4, len(benchmarks))
    n_rows = -(-len(benchmarks) // n_columns)
    figure, grid = plt.subplots(n_rows, n_columns, squeeze=False, figsize=(7.5, 1.9 * n_rows + 0.8))
    for axes, benchmark in itertools.zip_longest(grid.flat, benchmarks):
        if benchmark is None:
            axes.remove()
            continue
        points = means.loc[benchmark]
        color = _HELDOUT_COLORS[predictor]
        axes.plot(points["actual"], points["predicted"], "o", color=color, markersize=3.5, alpha=0.6, linewidth=0)
        axes.axline((0.5, 0.5), slope=1, color="#888888", linewidth=0.8)  # on it, predicted and actual are the same
        low, high = points.min().min(), points.max().max()
        if high > low:
            margin = 0.08 * (high - low)
            axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.set_title(benchmark, fontsize=9)
        axes.set_box_aspect(1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(3))
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(labelsize=8)
    figure.supxlabel("actual accuracy of a model", fontsize=10)
    figure.supylabel(f"predicted from {predictor}", fontsize=10)
    figure.suptitle(", ".join(pd.unique(rows["data"])), x=0.01, ha="left", fontsize=11)
    return figure


@figure_of()
def plot_rank_correlations(summary: pd.DataFrame) -> Figure:
    """Kendall's tau of each predictor on each held-out benchmark, with its 95 % interval.

    Parameters
    ----------
    summary : DataFrame
        From `embedllm.heldout.summarize_correlations`; differences between predictors are not drawn.
    """
    rows = summary[summary["predictor"].isin(list(_HELDOUT_COLORS))]
    benchmarks = list(pd.unique(rows["benchmark"]))
    sizes = rows.drop_duplicates("benchmark").set_index("benchmark")["n_models"]
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(benchmarks) + 1.6))
    names = list(pd.unique(rows["predictor"]))
    for offset, name, marker in zip(_offsets(len(names)), names, "osD", strict=False):
        of_name = rows[rows["predictor"] == name]
        places = [benchmarks.index(benchmark) + offset for benchmark in of_name["benchmark"]]
        color = _HELDOUT_COLORS[name]
        axes.hlines(places, of_name["low"], of_name["high"], color=color, linewidth=1)
        axes.plot(of_name["tau"], places, marker, color=color, markersize=5, linewidth=0, label=name)
    axes.set_yticks(range(len(benchmarks)), [f"{name} ({sizes[name]})" for name in benchmarks])
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_ylim(len(benchmarks) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set(
        xlabel="Kendall's tau between predicted and actual accuracy",
        ylabel="held-out benchmark (models)",
        title=", ".join(pd.unique(rows["data"])),
    )
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@figure_of()
def plot_contributions(changes: pd.DataFrame, annotated: int = 12) -> Figure:
    """Heatmap of the change on each benchmark when another is left out of training; blank where undefined.

    The colours span the changes on other benchmarks: those on a benchmark without itself are mostly beyond them.

    Parameters
    ----------
    changes : DataFrame
        From `embedllm.contributions.Contributions.table`.
    annotated : int
        With at most so many benchmarks, each cell has its number in it, and a star where the interval excludes 0;
        with more, only the star.
    """
    benchmarks = list(pd.unique(changes["left_out"]))
    table, clear = (
        changes.pivot(index="left_out", columns="benchmark", values=value).loc[benchmarks, benchmarks]
        for value in ("change", "clear")
    )
    others = table.mask(np.eye(len(table), dtype=bool)).abs().max(axis=None)
    limit = others if others > 0 else 1
    number = "" if len(benchmarks) > annotated else "{:+.1f}" if limit >= 1 else "{:+.2f}"
    texts = table.map(number.format) + np.where(clear, "*", "")
    figure, axes = plt.subplots(figsize=(7.5, min(9.0, 0.42 * len(benchmarks) + 2)))
    sns.heatmap(
        table,
        ax=axes,
        cmap="vlag",
        vmin=-limit,
        vmax=limit,
        annot=texts,
        fmt="",
        annot_kws={"fontsize": 7.5},
        linewidths=0.5,
        cbar_kws={"label": f"change of the {changes['measure'].iat[0]} (points)", "extend": "both"},
    )
    axes.grid(visible=False)
    axes.set(xlabel="forecast on", ylabel="left out of training", title=changes["data"].iat[0])
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=40)
    plt.setp(axes.get_xticklabels(), ha="right")
    return figure


@figure_of()
def plot_communities(table: pd.DataFrame) -> Figure:
    """Distance within each community over that to the other models, beside random communities of the same size.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.communities.compare_communities`.
    """
    spaces = list(pd.unique(table["space"]))
    first = table[table["space"] == spaces[0]]
    size = (7.5, 0.27 * len(first) + 1.6)
    figure, panels = plt.subplots(1, len(spaces), sharey=True, squeeze=False, figsize=size)
    places = np.arange(len(first))
    for axes, space in zip(panels[0], spaces, strict=True):
        rows = table[table["space"] == space]
        axes.hlines(
            places, rows["null_low"], rows["null_high"], color="#d9d9d9", linewidth=7, label="95 % of random ones"
        )
        axes.axvline(1, color="black", linewidth=0.8)
        paper = rows["paper"].to_numpy(bool)
        axes.plot(rows["ratio"][paper], places[paper], "o", color=_PALETTE[0], label="the paper's")
        axes.plot(rows["ratio"][~paper], places[~paper], "D", color=_PALETTE[1], label="other")
        for place, p in enumerate(rows["p"]):
            text = "undefined" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            _beside_row(axes, place, text, bold=p < 0.05)
        if rows["ratio"].isna().all():
            axes.set_xlim(0.9, 1.1)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel="distance within / between", title=f"by {space}s")
    axes = panels[0, 0]
    axes.set_yticks(places, [f"{name} ({n})" for name, n in zip(first["community"], first["n_models"], strict=True)])
    axes.set(ylim=(len(first) - 0.5, -0.5), ylabel="community (models)")
    figure.suptitle(first["data"].iat[0], x=0.01, ha="left", fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


@figure_of(lambda positions: positions.rename_axis("model"))
def plot_model_map(positions: pd.DataFrame) -> Figure:
    """Map of the models, coloured by speciality, larger markers for larger models; names where there is room.

    Parameters
    ----------
    positions : DataFrame
        From `embedllm.communities.map_models`.
    """
    colors = speciality_colors(positions)
    areas = marker_areas(positions["params_b"])
    figure, axes = plt.subplots(figsize=(7.5, 6.5))
    looks = [*zip(colors, colors.values(), itertools.cycle("os^DvP"), strict=False), ("none or other", "#bbbbbb", "o")]
    kinds = []
    for name, color, marker in looks:
        chosen = positions["speciality"] == name if name in colors else ~positions["speciality"].isin(colors)
        if chosen.any():
            points = positions[chosen]
            axes.scatter(points["x"], points["y"], areas[chosen], color=color, marker=marker, linewidths=0)
            kinds.append(Line2D([], [], linestyle="", marker=marker, markersize=6, color=color, label=name))
    axes.margins(0.06)
    axes.set(xticks=[], yticks=[], title=positions["data"].iat[0])
    axes.set_xlabel("near models are alike; the axes mean nothing")
    figure.legend(handles=kinds, loc="outside right upper", title="speciality")
    # The smallest, the median and the largest size, and one for those that are not known.
    shown = positions["params_b"].quantile([0, 0.5, 1], interpolation="nearest").drop_duplicates()
    sizes = pd.Series([*shown.dropna(), *positions["params_b"][positions["params_b"].isna()][:1]], dtype=float)
    words = sizes.map("{:g}B".format).where(sizes.notna(), "not known")
    dots = [
        Line2D([], [], linestyle="", marker="o", color=_GREY, markersize=float(np.sqrt(area)), label=label)
        for label, area in zip(words, marker_areas(sizes), strict=True)
    ]
    figure.legend(handles=dots, loc="outside right lower", title="size")
    _label_points(axes, positions, np.sqrt(areas.to_numpy()) / 2)
    return figure


def speciality_colors(positions: pd.DataFrame) -> dict[str, str]:
    """Colours of the specialities on a map of the models, the most frequent first; as many as there are colours."""
    counts = positions["speciality"].value_counts().drop("", errors="ignore")
    return {str(name): color for name, color in zip(counts.index, _PALETTE[:7] + _PALETTE[8:], strict=False)}


def marker_areas(billions: pd.Series) -> pd.Series:
    """Areas of markers, in square points, that grow with the logarithm of the size; the smallest if it is not known."""
    return 12 + 12 * np.log2(1 + billions.fillna(0).clip(lower=0))


def _label_points(axes: Axes, points: pd.DataFrame, radii: np.ndarray, fontsize: float = 6) -> None:
    """Write the name of each point beside it, if one of eight places beside it is free.

    A place is free if it is inside the axes and covers neither another label nor the marker of a point. The points that
    are farthest from the others come first.

    Parameters
    ----------
    axes : Axes
        Otherwise complete: its layout is fixed here.
    points : DataFrame indexed by name
        `x` and `y`.
    radii : ndarray of shape (n_points,)
        Of the markers, in typographic points.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    frame = axes.get_window_extent()
    centres = axes.transData.transform(points[["x", "y"]].to_numpy())  # in pixels, as all that follows
    pixels, gap = figure.dpi / 72, 1.5
    reach = (radii + gap)[:, None] * pixels  # no other marker comes as near to a label as its own
    taken = np.hstack([centres - reach, centres + reach])  # left, bottom, right, top
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    np.fill_diagonal(apart, np.inf)
    for point in np.argsort(-apart.min(axis=1), kind="stable"):
        name, radius = str(points.index[point]), radii[point] + gap
        xy = (float(points["x"].iat[point]), float(points["y"].iat[point]))
        label = axes.annotate(name, xy, (0, 0), textcoords="offset points", fontsize=fontsize, in_layout=False)
        others = np.delete(taken, point, axis=0)
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            distance = radius / np.hypot(right, up)
            label.set_position((right * distance, up * distance))
            label.set(ha={1: "left", 0: "center", -1: "right"}[right], va={1: "bottom", 0: "center", -1: "top"}[up])
            left, bottom, end, top = label.get_window_extent().extents
            inside = frame.x0 <= left and end <= frame.x1 and frame.y0 <= bottom and top <= frame.y1
            covers = (others[:, 0] < end) & (left < others[:, 2]) & (others[:, 1] < top) & (bottom < others[:, 3])
            if inside and not covers.any():
                taken = np.vstack([taken, [left, bottom, end, top]])
                break
        else:
            label.remove()


@figure_of()
def plot_training_flops(training: pd.DataFrame, published: float) -> Figure:
    """FLOPs of training by each procedure, on a logarithmic axis, with the published figure.

    Parameters
    ----------
    training : DataFrame
        From `embedllm.cost.training_flops`.
    published : float
        TFLOPs.
    """
    figure, axes = plt.subplots(figsize=(7.5, 0.5 * len(training) + 1.3))
    labels = [
        f"{procedure}\n{questions:,} questions, {epochs} epochs"
        for procedure, questions, epochs in zip(training.index, training["questions"], training["epochs"], strict=True)
    ]
    colors = [_GREY, *[_PALETTE[0]] * (len(training) - 1)]  # the first is of the paper's data
    _log_rows(axes, labels, training["TFLOPs"], colors, f"published: {published:g}", published)
    axes.set(xlabel="TFLOPs of the training", title=training["data"].iat[-1])
    return figure


@figure_of()
def plot_routing_times(costs: pd.DataFrame, published: float) -> Figure:
    """Time to route 3,000 questions by each method, on a logarithmic axis, with the published figure.

    Parameters
    ----------
    costs : DataFrame
        `table` of `embedllm.cost.measure_costs`.
    published : float
        Seconds, on another machine.
    """
    routes = costs[costs["what"] != "fit"]
    figure, axes = plt.subplots(figsize=(7.5, 0.4 * len(routes) + 1.3))
    labels = [f"{method}: {what}" for method, what in zip(routes["method"], routes["what"], strict=True)]
    colors = [_COLORS[method.partition(",")[0]] for method in routes["method"]]
    words = f"published, on an A100: {published:.2f} s"
    _log_rows(axes, labels, routes["s for 3,000"], colors, words, published)
    axes.set(xlabel="seconds for 3,000 questions", title=routes["data"].iat[0])
    return figure


@figure_of()
def plot_speed(times: pd.DataFrame) -> Figure:
    """Time of each case, ours and the plain procedure's, on a logarithmic axis, with the ratio at the right.

    Parameters
    ----------
    times : DataFrame
        From `embedllm.speed.case_times`.
    """
    places = np.arange(len(times))
    figure, axes = plt.subplots(figsize=(7.5, 0.4 * len(times) + 1.3))
    axes.hlines(places, times["ours"], times["plain"], color=_GREY, linewidth=1)
    for number, side in enumerate(("ours", "plain")):
        axes.scatter(times[side], places, 40, color=_PALETTE[number], marker="os"[number], zorder=3, label=side)
    for place, ratio in enumerate(times["plain"] / times["ours"]):
        _beside_row(axes, place, f"{ratio:,.0f} x")
    axes.set_xscale("log")
    axes.set_yticks(places, times.index)
    axes.set_ylim(len(times) - 0.5, -0.5)
    axes.set(xlabel="seconds")
    figure.suptitle(times["data"].iat[0], x=0.01, ha="left")
    figure.legend(loc="outside lower right", ncols=2)
    return figure


@figure_of()
def plot_growth(points: pd.DataFrame, measure: str) -> Figure:
    """How time or memory grows with questions, models and dim, on log-log axes.

    Parameters
    ----------
    points : DataFrame
        From `embedllm.speed.growth_table`.
    measure : "seconds" or "peak_mb"
    """
    panels = list(pd.unique(points["axis"]))
    figure, row = plt.subplots(1, len(panels), sharey=True, figsize=(7.5, 3), squeeze=False)
    for axes, axis in zip(row[0], panels, strict=True):
        for number, (what, line) in enumerate(points[points["axis"] == axis].groupby("what", sort=False)):
            label = str(what) if axis == panels[0] else None
            axes.plot(line[axis], line[measure], marker="os"[number % 2], color=_PALETTE[number], label=label)
        axes.set(xscale="log", yscale="log", xlabel=axis)
        axes.grid(True, which="both", alpha=0.3)
    row[0][0].set_ylabel("seconds" if measure == "seconds" else "peak of the process (MB)")
    figure.suptitle(points["data"].iat[0], x=0.01, ha="left")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _log_rows(
    axes: Axes, labels: list[str], values: pd.Series, colors: list[str], reference: str, published: float
) -> None:
    """One row and one marker for each value, on a logarithmic axis, with its number at the right and a reference."""
    places = np.arange(len(labels))
    axes.scatter(values, places, 50, color=colors, zorder=3)
    for place, value in enumerate(values):
        _beside_row(axes, place, f"{value:,.3g}")
    axes.axvline(published, color=_PALETTE[3], linestyle=":", label=reference)
    axes.set_xscale("log")
    axes.set_yticks(places, labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.margins(x=0.08)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside upper right")


def _beside_row(axes: Axes, place: float, text: str, bold: bool = False) -> None:
    """Write a text to the right of the axes, at the height of a row."""
    axes.annotate(
        text,
        (1, place),
        (4, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=8,
        fontweight="bold" if bold else "normal",
    )


def _by_benchmark(table: pd.DataFrame, method: str, label: str) -> Figure:
    """One row for each benchmark, one marker for each method."""
    benchmarks = list(pd.unique(table["benchmark"]))
    sizes = table.drop_duplicates("benchmark").set_index("benchmark")["n_questions"]
    methods = list(pd.unique(table[method]))
    figure, axes = plt.subplots(figsize=(7.5, max(0.36, 0.07 * len(methods)) * len(benchmarks) + 1.6))
    colors = _colors(methods)
    for offset, name in zip(_offsets(len(methods)), methods, strict=True):
        rows = table[table[method] == name]
        positions = [benchmarks.index(benchmark) + offset for benchmark in rows["benchmark"]]
        axes.plot(rows["accuracy"], positions, _MARKERS.get(name, "o"), color=colors[name], markersize=5, label=name)
        axes.errorbar(
            rows["accuracy"], positions, xerr=2 * rows["stderr"], fmt="none", ecolor=colors[name], elinewidth=0.8
        )
    axes.set_yticks(range(len(benchmarks)), [f"{name} ({sizes[name]:,})" for name in benchmarks])
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.invert_yaxis()
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, -0.02), min(right, 1.02))  # bars of few questions reach beyond what is possible
    _percent(axes)
    axes.set(xlabel=label, ylabel="benchmark (test questions)", title=", ".join(pd.unique(table["data"])))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _colors(methods: Iterable[str]) -> dict[str, str]:
    """Colour of each method: its own everywhere, or, for one that the companion does not know, one of the rest."""
    rest = itertools.cycle(color for color in _PALETTE if color not in _COLORS.values())
    return {name: _COLORS.get(name) or next(rest) for name in methods}


def _offsets(n: int) -> list[float]:
    """Small vertical steps that keep markers of one row apart."""
    return [min(0.15, 0.75 / n) * (i - (n - 1) / 2) for i in range(n)]


def _percent(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
