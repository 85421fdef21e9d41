"""Names and folders with markup, mathematics, control characters and foreign letters are text in every view."""

import functools
import io
import re
import warnings
from contextlib import contextmanager
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import vl_convert
from hostile import HOSTILE
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from embedllm import CorrectnessMatrix
from embedllm.plots.communities import plot_model_map
from embedllm.plots.dataset import plot_accuracy, plot_agreement, plot_composition
from embedllm.plots.explore import explore_models, explore_routes, explore_strengths
from embedllm.studies.dataset import pairwise_agreement
from embedllm.studies.summary import claims_html

names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
).filter(lambda name: name.strip() and name != "overall")


class Tags(HTMLParser):
    """The elements and the attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, tuple(name for name, _ in attributes)))


def tags_of(page):
    return Tags(page).found


def pool(models, benchmarks, source):
    labels = pd.DataFrame(np.random.default_rng(0).integers(0, 2, (len(models), 12)), models)
    questions = pd.DataFrame({"benchmark": [benchmarks[n % len(benchmarks)] for n in range(12)]}, labels.columns)
    facts = pd.DataFrame({"params_b": 7.0, "tags": benchmarks[0]}, models)
    vectors = np.random.default_rng(1).standard_normal((12, 4))
    return CorrectnessMatrix(labels, questions, vectors, models=facts, source=source)


def views(matrix):
    """Figures, and pieces of HTML, that show names."""
    agreement = pairwise_agreement(matrix)
    tag = matrix.models["tags"].str.strip()
    places = {"data": matrix.source, "x": np.arange(matrix.n_models), "y": 1.0, "params_b": 7.0}
    positions = pd.DataFrame(places, matrix.models.index).assign(specialization=tag)
    table = positions.assign(size="7B", tags=tag, accuracy=0.5, answers=12)
    choices = pd.DataFrame(
        {
            "data": matrix.source, "question": matrix.question_ids, "benchmark": matrix.benchmarks, "router": "MF",
            "model": matrix.model_names[0], "predicted": 0.5, "correct": True, "models_correct": 0.5,
            "text": matrix.benchmarks,
        }
    )  # fmt: skip
    row = {"page": "routing", "figure": "routing-routers", "in the paper": "Figure 4", "published": "stated"}
    claim = row | {"claim": "a claim", "value": "1", "interval": "", "verdict": "holds", "data": matrix.source}
    figures = [
        plot_composition(matrix),
        plot_accuracy(matrix),
        plot_agreement(agreement.pairs(), agreement.order(), matrix.source),
        plot_model_map(positions),
    ]
    described = table.assign(nearest=tag, stronger=tag, weaker=tag, duplicates=tag)
    shown = [explore_models(table).data, explore_strengths(described).data, explore_routes(choices, 12).data]
    shown.append(claims_html(pd.DataFrame([claim])).data)
    return figures, [*shown, matrix._repr_html_(), matrix.models._repr_html_()]


@contextmanager
def without_warnings():
    """As the package sets it, which pytest undoes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", "constrained_layout not applied|There are no gridspecs")
        yield


def assert_text(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    elements = ElementTree.fromstring(stream.getvalue()).iter()  # a control character is no XML
    assert not {element.tag.rpartition("}")[2] for element in elements} & {"script", "img", "a"}
    for text in figure.findobj(Text):
        is_power = re.fullmatch(r"\$\\mathdefault\{[^$]*\}\$", text.get_text())  # on a logarithmic axis
        assert is_power or "$" not in text.get_text() or not text.get_parse_math()


@pytest.fixture(scope="module", autouse=True)
def quick_bundle():
    """The bundle of scripts, without names, takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vl_convert, "javascript_bundle", functools.cache(vl_convert.javascript_bundle))
        yield


@pytest.fixture(scope="module")
def harmless():
    return [tags_of(page) for page in views(pool(["a", "b", "c"], ["d", "e"], "f"))[1]]


@settings(
    max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(
    st.lists(names, min_size=3, max_size=3, unique_by=str.strip),
    st.lists(names, min_size=2, max_size=2, unique=True),
    names,
)
def test_names_are_text(harmless, models, benchmarks, source):
    with without_warnings():
        figures, pages = views(pool(models, benchmarks, source))
        for figure in figures:
            assert_text(figure)
    for page, expected in zip(pages, harmless, strict=True):
        assert tags_of(page) == expected


@pytest.mark.parametrize("hostile", [0, pytest.param(5, marks=pytest.mark.slow)], indirect=True, scope="session")
def test_every_figure(draw, hostile):
    with without_warnings():
        for name in draw:
            assert_text(draw[name]())
