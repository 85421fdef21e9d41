"""Texts that would be commands, if they were not taken as text."""

import pandas as pd

from embedllm import CorrectnessMatrix

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$\\frac{$ and $x^2$",
    "\x1b[2J\x1b]0;title\x07",
    "line\nbreak\r\u2028end",
    "模型 モデル नमूना",
    "\u202eright to left שלום",
    '"quoted" & {{braces}} {glue:text}`x`',
    "\x00\x0b",
]


def text(number, first):
    """One of the hostile texts, or nothing where there is no first one."""
    return "" if first is None else HOSTILE[(first + number) % len(HOSTILE)]


def with_hostile_names(matrix, first):
    """The matrix with a hostile text after each name, before each prompt, and as tags."""

    def named(names):
        return {name: f"{name}{text(number, first)}" for number, name in enumerate(names)}

    labels = pd.DataFrame(matrix.labels, matrix.model_names, matrix.question_ids)
    benchmarks = [named(matrix.benchmark_names)[name] for name in matrix.benchmarks]
    prompts = [f"{text(number, first)} {name}" for number, name in enumerate(matrix.question_ids)]
    questions = matrix.questions.assign(benchmark=benchmarks, prompt=prompts, license="CC0-1.0")
    models = pd.DataFrame({"params_b": 7.0, "tags": [f"tag{text(n // 3, first)}" for n in range(matrix.n_models)]})
    renamed = labels.rename(index=named(matrix.model_names))
    source = f"{matrix.source}{text(0, first)}"
    return CorrectnessMatrix(
        renamed, questions, matrix.embeddings, models=models.set_index(renamed.index), source=source
    )
