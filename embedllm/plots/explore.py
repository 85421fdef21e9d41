"""The model map and the tables of models and of routes, to be filtered and searched in the browser.

Each view holds its data and the script that shows it (Vega-Lite for the map, DataTables for the tables), which comes
with the installed packages: a page with them needs no server and loads nothing from other sites. A notebook that shows
a table first calls `itables.init_notebook_mode(all_interactive=False, connected=False)`, once for all tables.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from embedllm.plots._style import marker_areas, tag_colors

# Altair, vl-convert and itables are imported where they are needed: they come with the book, not with the package.
if TYPE_CHECKING:
    from IPython.display import HTML

_OTHER = "none or other"
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")


def explore_models(table: pd.DataFrame) -> HTML:
    """Show the models on a map that can be filtered by size, by tag and by text, with tooltips.

    Colours and areas are those of `embedllm.plots.communities.plot_model_map`. Models outside a filter stay as faint
    dots. A filter is shown only if something is known for it.

    Parameters
    ----------
    table : DataFrame
        From `embedllm.studies.explore.map_table`.
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
    if tags := sorted(set("; ".join(table["tags"]).split("; ")) - {""}):
        filters.append((choice("tag", tags), "tag == null || indexof(split(datum.tags, '; '), tag) >= 0"))

    colors = tag_colors(table) | {_OTHER: "#999999"}
    shown = table["specialization"].where(table["specialization"].isin(colors), _OTHER)
    records = _map_records(table).assign(specialization=shown)
    names = [name for name in colors if (records["specialization"] == name).any()]
    legend = alt.Legend(orient="bottom", columns=3) if len(names) > 1 else None
    color = alt.Scale(domain=names, range=[colors[name] for name in names])
    shape = alt.Scale(domain=names, range=[_SHAPES[number % len(_SHAPES)] for number in range(len(names))])

    # Fixed ends, so that a filter does not move the map, with room for the markers.
    low, high = (records[["x", "y"]].agg(end) for end in ("min", "max"))
    margin = (0.06 * (high - low)).replace(0, 1)
    ends = pd.DataFrame([low - margin, high + margin])
    everyone = alt.Chart(alt.Data(values=records.to_dict("records"))).encode(
        x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=ends["x"].tolist())),
        y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=ends["y"].tolist())),
    )
    chosen = everyone
    for _, condition in filters:
        chosen = chosen.transform_filter(condition)
    # The colour of the text on the page, in its light and its dark theme.
    ink = alt.value("currentColor")
    layers = [
        everyone.mark_circle(size=10, opacity=0.3).encode(color=ink),
        chosen.mark_point(filled=True, opacity=0.9).encode(
            color=alt.Color("specialization:N", scale=color, legend=legend),
            shape=alt.Shape("specialization:N", scale=shape, legend=legend),
            size=alt.Size("area:Q", scale=None),
            tooltip=["model:N", "parameters:N", "tags:N", "accuracy:N"],
        ),
    ]
    chart = alt.layer(*layers).add_params(*(parameter for parameter, _ in filters))
    chart = chart.properties(title=str(table["data"].iat[0]), width="container", height=460, background="transparent")
    chart = chart.configure_view(stroke="#999999").configure_title(color="currentColor", fontWeight="normal")
    return chart.configure_legend(labelColor="currentColor", titleColor="currentColor").to_dict()


def _map_records(table: pd.DataFrame) -> pd.DataFrame:
    """What the map shows of each model, formatted as text."""
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


def explore_strengths(table: pd.DataFrame) -> HTML:
    """Show what is known of each model in a table that can be sorted and searched.

    Parameters
    ----------
    table : DataFrame indexed by model name
        From `embedllm.studies.explore.map_table`, with the columns of `embedllm.studies.explore.profile_models`.
    """
    found = table[["nearest", "stronger", "weaker", "duplicates"]].set_axis(
        ["nearest models (agreement)", "stronger on", "weaker on", "runs of the same model (agreement)"], axis=1
    )
    shown = pd.DataFrame({"model": table.index, "accuracy": table["accuracy"].round(3)}).set_index(table.index)
    shown = shown.join(found.loc[:, (found != "").any()])
    return _table(shown, "models", f"{table['data'].iat[0]}: {len(table):,} models")


def explore_routes(choices: pd.DataFrame, n_tested: int) -> HTML:
    """Show the routes in a table with a row for each question, to be sorted, searched and filtered by each column.

    Parameters
    ----------
    choices : DataFrame
        From `embedllm.studies.explore.route_choices`. What is predicted, and whether it was correct, is shown in
        columns of their own for the first router.
    n_tested : int
        Number of all test questions, for the caption.
    """
    if choices.empty:
        from IPython.display import HTML

        return HTML("<p>No test question has an answer.</p>")
    routers = {str(name): rows.set_index("question") for name, rows in choices.groupby("router", sort=False)}
    name, first = next(iter(routers.items()))
    n_chosen = choices.groupby("question")["model"].nunique()[first.index]
    texts = (": " + first["text"]).where(first["text"] != "", "")
    shown = pd.DataFrame({"question": first.index + texts, "benchmark": first["benchmark"]})
    shown[f"{name} is"] = first["correct"].map({True: "correct", False: "incorrect"})
    shown["routers disagree"] = n_chosen.map("{} models".format).where(n_chosen > 1, "no")
    shown[f"{name} predicts"] = first["predicted"].round(3)
    for router, rows in routers.items():
        shown[router] = rows["correct"].map({True: "✓ ", False: "✗ "}) + rows["model"]
    shown["models correct"] = first["models_correct"].round(3)
    caption = f"{', '.join(choices['data'].unique())}: {len(first):,} of {n_tested:,} test questions"
    return _table(shown, "routes", caption, lists=["benchmark", *routers, f"{name} is", "routers disagree"])


def _table(shown: pd.DataFrame, name: str, caption: str, lists: Iterable[str] = ()) -> HTML:
    """A table with lists of values to choose from in some columns."""
    import itables
    from IPython.display import HTML

    listed = [shown.columns.get_loc(column) for column in lists]
    table = itables.to_html_datatable(
        shown.reset_index(drop=True),
        caption=html.escape(caption),
        table_id=name,
        connected=False,
        display_logo_when_loading=False,
        maxBytes=0,
        showIndex=False,
        pageLength=5,
        lengthMenu=[5, 10, 25, 100],
        classes="display compact",
        style="width:100%;caption-side:top",
        ordering={"indicators": False},
        columnControl=["order", "searchDropdown"],
        columnDefs=[{"targets": listed, "columnControl": ["order", ["searchList"]]}],
    )
    return HTML(f'<div class="explore">{table}</div>')
