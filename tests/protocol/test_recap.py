"""The box and the recap of a page, with the values of a run."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from embedllm.protocol.recap import InShort, in_words, recap
from embedllm.protocol.reported_values import ReportedValue

GAIN = ReportedValue("gain", "MF minus KNN", [0.5, 1.5], "points", (0.25, 1.75))

NOTEBOOK = """\
# %%
from embedllm.protocol.recap import InShort
from embedllm.protocol.reported_values import ReportedValue
box = InShort("MF has {mf:.1f} %.")
# %%
print("computing")
# %%
box.fill([ReportedValue("mf", "accuracy of MF", [73.25], "%")])
"""


def test_values_ends_and_words():
    text = "**Gain** {gain:+.2f}, from {gain_low:+.1f} to {gain_high:+.1f}, in words {gain_words} on {data}."
    assert in_words(text, [GAIN], data="a pool") == (
        "<p><strong>Gain</strong> +1.00, from +0.2 to +1.8, in words +1.0 points (+0.2 to +1.8) on a pool.</p>\n"
    )


def test_lists_and_tables():
    assert "<li>1.0</li>" in in_words("- {gain:.1f}\n- b", [GAIN])
    table = in_words("| a |\n|---|\n| {gain:.1f} |", [GAIN])
    assert in_words("{names}", [GAIN], names=["a*", "<b>"]) == "<ul>\n<li>a*</li>\n<li>&lt;b&gt;</li>\n</ul>\n"
    assert "<td>1.0</td>" in table
    assert table.startswith('<table class="table">')


@pytest.mark.parametrize(
    "name", ["<b>x</b>", "[a](javascript:b)", "*a* _b_ `c`", "a | b", "1. a\n\n# b", "{gain}", "&lt;"]
)
def test_names_stay_text(name):
    html = in_words("{name}", [GAIN], name=name)
    assert html.count("<") == html.count("<p>") + html.count("</p>") + html.count("<h1>")
    assert "<h1>" not in html


def test_unknown_value_is_named():
    with pytest.raises(ValueError, match="names 'gian', which is no reported value: name one of gain, gain_high"):
        recap("{gian:.1f}", [GAIN])


def test_box_names_the_data_and_says_what_is_made_up():
    shown = []
    box = InShort("{gain:.1f}")
    box._shown = SimpleNamespace(update=lambda content: shown.append(content.data))
    for data in ("simulated pool", "<i>mine</i>", ""):
        box.fill([GAIN], data)
    assert "<b>Data: simulated pool.</b> Its models and answers are made up" in shown[0]
    assert "<b>Data: &lt;i&gt;mine&lt;/i&gt;.</b></p>" in shown[1]
    assert "Data" not in shown[2]


def test_box_outside_a_notebook(capsys):
    box = InShort("{gain:.1f}")
    box.fill([GAIN])
    assert capsys.readouterr().out.count("HTML object") == 2


def test_box_is_filled_where_it_stands(tmp_path):
    """As Papermill runs it: the output of the first cell has the value of the last."""
    (tmp_path / "n.py").write_text(NOTEBOOK)
    for command in (
        ["jupytext", "--quiet", "--to", "ipynb", "n.py"],
        ["papermill", "--no-progress-bar", "-k", "python3", "n.ipynb", "out.ipynb"],
    ):
        run = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    shown = [
        "".join("".join(each["data"]["text/html"]) for each in cell["outputs"] if "data" in each) for cell in cells
    ]
    assert shown[0].endswith("<p>MF has 73.2 %.</p>\n</div>")
    assert 'class="admonition tip"' in shown[0]
    assert shown[2] == ""


def test_recap_can_be_told_from_other_outputs():
    """The book's style sheet does: in the dark mode of the theme, other outputs have a light ground."""
    assert recap("{gain:.0f}", [GAIN]).data == '<div class="recap"><p>1</p>\n</div>'
