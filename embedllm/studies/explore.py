"""The model map and the routes of single questions, to be filtered and searched in the browser.

Each view holds its data and the script that shows it (Vega-Lite for the map, DataTables for the table), which comes
with the installed packages: a page with them needs no server, and asks no other host for anything.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from embedllm._checks import check_positive
from embedllm.datasets.communities import find_communities
from embedllm.matrix import CORRECT, CorrectnessMatrix
from embedllm.plots._style import marker_areas, specialization_colors
from embedllm.protocol.runs import Fitted
from embedllm.studies.routing import BestSingleModel, PredictedBest, fitted_routers

# Altair, vl-convert and itables are imported where they are needed: they come with the book, not with the package.
if TYPE_CHECKING:
    from IPython.display import HTML

TEXT_LENGTH = 200
"""Characters of a question that the table shows and searches."""

_JOINT = "; "  # between tags
_OTHER = "none or other"
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
_NAMED = 6  # so many models at most are named on the map


def map_table(matrix: CorrectnessMatrix, positions: pd.DataFrame) -> pd.DataFrame:
    """Put beside the place of each model on the map what else is known of it.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    positions : DataFrame indexed by model name
        From `embedllm.studies.communities.map_models`.

    Returns
    -------
    DataFrame indexed by model name
        The columns of `positions`, and `size` (its community, such as "7B"; empty if it is not known), `tags` (joined
        by "; "; empty without one), `accuracy` (share of right answers among the observed; NaN without one) and
        `answers` (how many were observed).
    """
    sizes = dict.fromkeys(positions.index, "")
    tags: dict[str, list[str]] = {model: [] for model in positions.index}
    for community in find_communities(matrix.models.reindex(positions.index)):
        for model in community.members:
            if community.kind == "size":
                sizes[model] = community.name
            else:
                tags[model].append(community.name)  # in alphabetical order, as the communities come
    accuracy = matrix.accuracy(by="model").reindex(positions.index)
    return positions.assign(
        size=list(sizes.values()),
        tags=[_JOINT.join(borne) for borne in tags.values()],
        accuracy=accuracy["accuracy"],
        answers=accuracy["n_observed"],
    )


def explore_models(table: pd.DataFrame) -> HTML:
    """Show the models on a map to be filtered by size, by tag and by text, which says what is known of each.

    Colours and areas are those of `embedllm.plots.plot_model_map`. Models that a filter leaves out stay as faint dots;
    where few are left, all are named. There is no filter for what is known of no model.

    Parameters
    ----------
    table : DataFrame
        From `map_table`.
    """
    from IPython.display import HTML
    from vl_convert import javascript_bundle

    # Names and tags are the user's own: none may end the script.
    chart = json.dumps(_map_chart(table)).replace("<", r"\u003c")
    script = javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    options = '{renderer: "svg", actions: false, bind: "#model-map-filters"}'
    return HTML(
        '<div class="explore"><div id="model-map-filters"></div><div id="model-map" style="width: 100%"></div></div>\n'
        f'<script type="module">{script}\nwindow.vegaEmbed("#model-map", {chart}, {options});</script>'
    )


def _map_chart(table: pd.DataFrame) -> dict[str, Any]:
    """The map as a Vega-Lite specification."""
    import altair as alt

    def choice(name: str, options: Iterable[str]) -> Any:
        bind = alt.binding_select(options=[None, *options], labels=["all", *options], name=f"{name} ")
        return alt.param(name, value=None, bind=bind)

    text = alt.param("text", value="", bind=alt.binding(input="search", name="name or tag "))
    filters = [(text, "indexof(lower(datum.model + ' ' + datum.tags), lower(text)) >= 0")]
    if sizes := [size for size in table.sort_values("params_b")["size"].unique() if size]:
        filters.append((choice("size", sizes), "size == null || datum.size == size"))
    if tags := sorted(set(_JOINT.join(table["tags"]).split(_JOINT)) - {""}):
        filters.append((choice("tag", tags), f"tag == null || indexof(split(datum.tags, '{_JOINT}'), tag) >= 0"))

    colors = specialization_colors(table) | {_OTHER: "#999999"}
    records = _map_records(table).assign(
        specialization=table["specialization"].where(table["specialization"].isin(colors), _OTHER)
    )
    names = [name for name in colors if (records["specialization"] == name).any()]
    legend = alt.Legend(orient="bottom", columns=3) if len(names) > 1 else None
    color = alt.Scale(domain=names, range=[colors[name] for name in names])
    shape = alt.Scale(domain=names, range=[_SHAPES[number % len(_SHAPES)] for number in range(len(names))])

    # Fixed ends, so that the map stays where it is whatever is filtered.
    everyone = alt.Chart(alt.Data(values=records.to_dict("records"))).encode(
        x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=_ends(records["x"]))),
        y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=_ends(records["y"]))),
    )
    chosen = everyone
    for _, condition in filters:
        chosen = chosen.transform_filter(condition)
    few = chosen.transform_joinaggregate(shown="count()").transform_filter(f"datum.shown <= {_NAMED}")
    # The colour of the page's text, in its light and its dark theme alike.
    ink = alt.value("currentColor")
    layers = [
        everyone.mark_circle(size=10, opacity=0.3).encode(color=ink),
        chosen.mark_point(filled=True, opacity=0.9).encode(
            color=alt.Color("specialization:N", scale=color, legend=legend),
            shape=alt.Shape("specialization:N", scale=shape, legend=legend),
            size=alt.Size("area:Q", scale=None),
            tooltip=["model:N", "parameters:N", "tags:N", "accuracy:N"],
        ),
        few.mark_text(dy=-12, fontSize=11).encode(text="model:N", color=ink),
    ]
    chart = alt.layer(*layers).add_params(*(parameter for parameter, _ in filters))
    chart = chart.properties(title=str(table["data"].iat[0]), width="container", height=460, background="transparent")
    chart = chart.configure_view(stroke="#999999").configure_title(color="currentColor", fontWeight="normal")
    return chart.configure_legend(labelColor="currentColor", titleColor="currentColor").to_dict()


def _ends(values: pd.Series) -> list[float]:
    """Where an axis begins and ends, with room for the markers."""
    margin = 0.06 * (values.max() - values.min()) or 1.0
    return [float(values.min() - margin), float(values.max() + margin)]


def _map_records(table: pd.DataFrame) -> pd.DataFrame:
    """What the map shows of each model, as text where it is to be read."""
    percent = table["accuracy"].map("{:.1%}".format) + " of " + table["answers"].map("{:,} answers".format)
    return pd.DataFrame(
        {
            "model": table.index,
            "x": table["x"],
            "y": table["y"],
            "area": 2 * marker_areas(table["params_b"]),  # square pixels, which are smaller than points
            "size": table["size"],
            "tags": table["tags"],
            "parameters": table["params_b"].map("{:g}B".format).where(table["params_b"].notna(), "not known"),
            "accuracy": percent.where(table["accuracy"].notna(), "no observed answer"),
        }
    )


def route_choices(fitted: Fitted, n_questions: int = 500) -> pd.DataFrame:
    """List the models that the routers choose for single test questions.

    Parameters
    ----------
    fitted : Fitted
        Its routers are those of `embedllm.studies.routing.standard_routers` that choose one model, by a prediction.
    n_questions : int
        How many questions, drawn at random by the seed from those with an observed answer; all if there are fewer.

    Returns
    -------
    DataFrame
        One row for each question, in the order of the matrix, and each router. Columns: `data`, `question` (its id),
        `benchmark`, `router`, `model` (its choice), `predicted` (probability that this model is right: of the
        predictor, or for `best single model` its accuracy in training), `right` (bool), `models_right` (share of the
        observed models that are) and, where the data have prompts, `text` (the first `TEXT_LENGTH` characters).
    """
    test = fitted.split.test
    answered = np.flatnonzero(test.observed.any(axis=0))
    n_shown = min(check_positive("n_questions", n_questions), len(answered))
    drawn = np.random.default_rng(fitted.seed).choice(answered, n_shown, replace=False)
    shown = test.subset(questions=np.isin(np.arange(test.n_questions), drawn))
    right = shown.labels == CORRECT
    columns = np.arange(n_shown)
    rows = pd.DataFrame({"data": shown.source, "question": shown.question_ids, "benchmark": shown.benchmarks})
    models_right = right.sum(axis=0) / shown.observed.sum(axis=0)
    parts = []
    for name, router in fitted_routers(fitted).items():
        if isinstance(router, PredictedBest):
            probability = router.predictor.predict_matrix(shown)
        elif isinstance(router, BestSingleModel):
            probability = np.repeat(router.accuracy_[shown.model_names].to_numpy()[:, None], n_shown, axis=1)
        else:
            continue
        chosen = router.shares(shown).argmax(axis=0)
        part = rows.assign(
            router=name,
            model=shown.model_names[chosen],
            predicted=probability[chosen, columns].astype(float),
            right=right[chosen, columns],
            models_right=models_right,
        )
        if "prompt" in shown.questions:
            texts = shown.questions["prompt"].fillna("").astype(str)
            part["text"] = [textwrap.shorten(text, TEXT_LENGTH, placeholder=" …") for text in texts]
        parts.append(part)
    # All routers of a question together.
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def explore_routes(choices: pd.DataFrame, n_tested: int) -> HTML:
    """Show the routes in a table to be sorted, searched and filtered by each column.

    Parameters
    ----------
    choices : DataFrame
        From `route_choices`.
    n_tested : int
        Test questions that there are, which the caption names.
    """
    import itables
    from IPython.display import HTML

    shown = choices.drop(columns=["data", "models_right"]).assign(
        predicted=choices["predicted"].round(3),
        right=choices["right"].map({True: "right", False: "wrong"}),
    )
    shown["models right"] = choices["models_right"].round(3)
    itables.init_notebook_mode(all_interactive=False, connected=False)  # puts DataTables beside the table
    source, n_shown = ", ".join(choices["data"].unique()), choices["question"].nunique()
    lists = [shown.columns.get_loc(name) for name in ("benchmark", "router", "model", "right")]
    table = itables.to_html_datatable(
        shown,
        caption=f"{source}: {n_shown:,} of {n_tested:,} test questions",
        table_id="routes",
        connected=False,
        display_logo_when_loading=False,
        maxBytes=0,
        classes="display compact",
        style="width:100%;caption-side:top",
        ordering={"indicators": False},
        columnControl=["order", "searchDropdown"],
        columnDefs=[{"targets": lists, "columnControl": ["order", ["searchList"]]}],
    )
    return HTML(f'<div class="explore">{table}</div>')
