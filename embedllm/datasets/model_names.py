"""The size, the family and the specializations of a model, as far as its name states them.

Names are written as on the Hub, `organisation__model` or `organisation/model`. Unless noted, the rules ignore case:

- **Size** in billions of parameters: the last number followed by `b` that stands by itself, as in `Yi-34B`; `7b1` is
  7.1; experts multiply, so `4x7b` and `7Bx4` are 28. A name without such a number has no size.
- **Family**: the first of `FAMILIES` whose pattern occurs in the name of the model, without the organisation.
- **Specializations**: a tag for each pattern of `TAGS` that occurs in the name of the model, without the organisation;
  `biomed` may also stand in the organisation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

_SIZE = re.compile(
    r"(?<![a-z0-9.])(?:(?P<before>\d+)x)?(?P<size>\d+(?:\.\d+)?)b(?:(?P<decimals>\d+)|x(?P<after>\d+))?(?![a-z0-9])",
    re.IGNORECASE,
)

_RUN = re.compile(r"@.*|[-_](?:fp8|fp16|bf16|int[48]|awq|gptq|gguf)(?![a-z0-9])", re.IGNORECASE)

FAMILIES = {
    "llama": r"llama|athene",  # Athene is a tuned Llama
    "mistral": r"mi[sx]tral|mathstral",
    "qwen": r"qwen",
    "deepseek": r"deepseek",
    "gemma": r"gemma",
    "reka": r"reka",
    "gemini": r"gemini|^flash",
    "claude": r"claude|^(?:opus|sonnet|haiku)",
    "gpt": r"gpt-?[34](?!all)|chatgpt|\bo[13]\b",
    "phi": r"\bphi\b",
    "yi": r"\byi\b",
    "command-r": r"command-r",
    "jamba": r"jamba",
    "grok": r"grok",
    "arx": r"\barx\b",
    "iask": r"iask",
}
"""Family to the regular expression that a name must match; underscores count as spaces, case does not matter."""

TAGS = {
    "base": r"(?i)\bbase\b",
    "chat": r"(?i)chat|instruct|vicuna|tulu|hermes|dpo|sft",
    "math": r"(?i)math|llemma",
    "code": r"(?i)code",
    "biomed": r"(?i)bio|medicine|\bmed\b",
    "physics": r"(?i)physics",
    "chemistry": r"(?i)chemi",
    "long_context": r"(?i)\b(?:3[2-9]|[4-9]\d|\d{3,})k\b",
    "rag": r"RAG",  # case matters: a dragon is none
    "moe": r"(?i)moe|\dx\d+b|\dbx\d",
    "roleplay": r"(?i)pygmalion|metharme",
    "safety": r"(?i)guard",
    "quantized": r"(?i)\b(?:awq|gptq|gguf)\b",
    "closed": r"(?i)claude|^(?:opus|sonnet|haiku|flash)\b|gemini|chatgpt|\bgpt-?[34](?!all)|\bo[13]\b|grok|reka|"
    r"yi-large|\barx\b|iask",
    "reasoning": r"(?i)\bo[13]\b",
}
"""Tag to the regular expression that a name must match; underscores count as spaces."""


def describe_models(names: Iterable[str]) -> pd.DataFrame:
    """Read sizes, families and specializations from the names of models.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    DataFrame indexed by name
        `params_b`: billions of parameters, NaN where the name states none. `family`: empty if unknown. `tags`: joined
        by `;`, empty without any.
    """
    index = pd.Index(list(names), dtype=object, name="model")
    rules = {"params_b": _size, "family": _family, "tags": _tags}
    return pd.DataFrame({column: [rule(name) for name in index] for column, rule in rules.items()}, index)


def weights_of(names: pd.Series) -> pd.Series:
    """Return names in lower case without what they say of a run: the provider, `@...`, and the format of the weights.

    Examples
    --------
    >>> import pandas as pd
    >>> from embedllm.datasets.model_names import weights_of
    >>> weights_of(pd.Series(["Llama-3-70B-fp8@together", "llama-3-70b"])).tolist()
    ['llama-3-70b', 'llama-3-70b']
    """
    return names.str.replace(_RUN, "", regex=True).str.lower()


def _size(name: str) -> float:
    sizes = [
        float(f"{found['size']}.{found['decimals']}" if found["decimals"] else found["size"])
        * int(found["before"] or found["after"] or 1)
        for found in _SIZE.finditer(_model(name))
    ]
    return sizes[-1] if sizes else np.nan


def _family(name: str) -> str:
    model = _model(name).replace("_", " ")
    return next((family for family, rule in FAMILIES.items() if re.search(rule, model, re.IGNORECASE)), "")


def _tags(name: str) -> str:
    words, model = name.replace("_", " "), _model(name).replace("_", " ")
    return ";".join(tag for tag, rule in TAGS.items() if re.search(rule, words if tag == "biomed" else model))


def _model(name: str) -> str:
    return re.split(r"__|/", name, maxsplit=1)[-1]
