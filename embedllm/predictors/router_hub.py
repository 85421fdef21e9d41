"""Publish routers on the Hugging Face Hub, with a model card, and download them.

The settings are those of `huggingface_hub`, as in `embedllm.datasets.hub`. A repository contains what `Router.save`
writes (`router.json` and safetensors) and the card, `README.md`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from embedllm.datasets import hub
from embedllm.datasets.encoder import Encoder
from embedllm.predictors.base import CorrectnessPredictor
from embedllm.predictors.router_files import DESCRIPTION
from embedllm.predictors.stacked import StackedCorrectness

_LIMITS = """\
- The router knows only these models, as they were when they answered: a provider may change a model under its name.
- A probability is that of an answer that the grading of the data counts as correct. For questions unlike those of the
  data it means little; `route` marks these in the column `unfamiliar`.
- The files contain embeddings of training questions; with KNN in a stack, those of all training questions and the
  answers. They contain no texts, but an embedding tells what a text is about."""


def publish(repository: str, save: Callable[[Path], None], card: str) -> str:
    """Publish what `save` writes to a folder, with a card, in one commit; return the address of the repository.

    Raises
    ------
    ConnectionError
        If the Hub cannot be reached, or refuses.
    ValueError
        If the name of the repository is not of the form `owner/name`.
    """
    from huggingface_hub import HfApi  # imported late: a router in a folder needs no network library

    _check_name(repository)
    with TemporaryDirectory() as name:
        folder = Path(name)
        save(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        try:
            address = HfApi().create_repo(repository, exist_ok=True)
            HfApi().upload_folder(
                repo_id=repository,
                folder_path=folder,
                delete_patterns="*.safetensors",
                commit_message="Router of embedllm",
            )
        except Exception as error:  # each network library below the Hub's has error classes of its own
            raise ConnectionError(
                f"the router could not be published as {repository}: log in by `hf auth login`, and check the name "
                f"({' '.join(str(error).split())})"
            ) from error
    return str(address)


def download(repository: str, revision: str | None) -> Path:
    """Return a folder with the files of a router, downloading what is missing.

    Raises
    ------
    ConnectionError
        If a file is not on this machine and cannot be downloaded.
    """
    _check_name(repository)
    return hub.download(f"the router {repository}", repository, [DESCRIPTION, "*.safetensors"], revision=revision)


def _check_name(repository: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{repository!r} is no name of a repository on the Hub: pass it as 'owner/name'")


def model_card(
    repository: str,
    models: Sequence[str],
    encoder: Encoder,
    predictor: CorrectnessPredictor,
    licence: str,
    data: str,
    scores: Mapping[str, float],
) -> str:
    """Return the text of a model card: what a router is, its data, encoder, scores, licence and limits.

    Raises
    ------
    ValueError
        If the encoder is a local folder, the licence or the data are not stated, or a score is no number.
    """
    if not (licence.strip() and data.strip()):
        raise ValueError("the licence and the data of a router on the Hub have to be stated: pass licence and data")
    for name, value in scores.items():
        if not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f"the score {name!r} is {value!r}, which is no number: leave it out")
    if encoder.name == str(encoder.folder):
        raise ValueError(
            f"the encoder of this router is the folder {encoder.name}, which others do not have: save the router, and "
            f"load it with the Hub id of that encoder, Router.load(folder, encoder='owner/name')"
        )
    from huggingface_hub import ModelCardData

    head = ModelCardData(license=licence, library_name="embedllm", tags=["llm-routing"])
    measured = [f"- {_code(name)}: {value:.4g}" for name, value in scores.items()]
    if isinstance(predictor, StackedCorrectness):
        measured.append(f"- By cross-validation on its data: {predictor.summary()}.")
    return f"""\
---
{head.to_yaml()}
---

# A router of {len(models)} language models

It sends a question to the model with the highest predicted probability of a correct answer.

```python
from embedllm import Router

router = Router.from_pretrained("{repository}")
print(router.route(["What is 7 times 8?"]))
```

## Data

{data}

## Encoder

{_code(encoder.name)}, downloaded at the first use (fingerprint {encoder.fingerprint}).

## Models

{chr(10).join(f"- {_code(name)}" for name in models)}

## Scores

{chr(10).join(measured) or "None are stated."}

## Limits

{_LIMITS}
"""


def _code(text: str) -> str:
    """Return a text as Markdown code, so that none of its characters is taken for markup."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
