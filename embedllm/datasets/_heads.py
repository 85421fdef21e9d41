"""The beginnings of texts, as far as an encoder reads them: what is behind would take most of the time and memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_COUNTED, _CHARACTERS, _MOST = 32, 16, 256  # texts counted at a time; characters of them, for each token that is read


def heads_of(texts: list[str], model: SentenceTransformer) -> tuple[list[str], int]:
    """Return texts without what stands far behind the part that an encoder reads, and how many go beyond it.

    They are tokenized once more, at about 1 % of the cost.
    """
    limit = model.max_seq_length
    if limit is None or limit == math.inf:
        return texts, 0
    prompt, heads, n_cut = model.prompts.get(model.default_prompt_name or "") or "", [], 0
    for start in range(0, len(texts), _COUNTED):
        whole = texts[start : start + _COUNTED]
        parts = [text[: _CHARACTERS * limit] for text in whole]
        for text, part, n_tokens in zip(whole, parts, _count_tokens(model, prompt, parts), strict=True):
            if len(part) < len(text) and n_tokens < 2 * limit:  # long words, or blanks
                part = text[: _MOST * limit]
                n_tokens = _count_tokens(model, prompt, [part])[0]
            heads.append(part)
            n_cut += n_tokens > limit or len(part) < len(text)
    return heads, n_cut


def _count_tokens(model: SentenceTransformer, prompt: str, texts: list[str]) -> list[int]:
    tokens = model.tokenizer([prompt + text for text in texts], truncation=False, padding=False)
    return [len(ids) for ids in tokens["input_ids"]]
