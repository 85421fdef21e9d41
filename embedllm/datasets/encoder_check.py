"""Do the embeddings of a matrix come from an encoder? On those of another one, the choice of a router is arbitrary."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from embedllm.datasets.encoder import DEFAULT_ENCODER, encode_questions, find_encoder
from embedllm.matrix import CorrectnessMatrix

_N_PROBES = 16  # questions of a matrix that are encoded
_SAME = 0.99  # cosine; float16 and other processors leave more than 0.999, another encoder next to nothing


def check_encoder(
    matrix: CorrectnessMatrix, encoder: str | os.PathLike[str] = DEFAULT_ENCODER, device: str | list[str] = "auto"
) -> None:
    """Check that the embeddings of a matrix come from an encoder: by its fingerprint, and by a few of its questions.

    Raises
    ------
    FileNotFoundError
        If the matrix names an encoder in a folder that is not on this machine, and it is to be used.
    ValueError
        If the questions have no prompt, the matrix names another encoder, or the encoder gives other vectors for the
        prompts.
    """
    if matrix.encoder is not None:
        name, fingerprint = matrix.encoder
        try:
            found = find_encoder(encoder)
        except FileNotFoundError as error:
            if str(encoder) != name:
                raise
            raise FileNotFoundError(
                f"the embeddings of {matrix!r} were made with the encoder in the folder {name}, which is not on this "
                f"machine: pass encoder=... (--encoder on the command line), a folder or a Hub id that holds it"
            ) from error
        if found.fingerprint != fingerprint:
            raise ValueError(
                f"the embeddings of {matrix!r} were made with the encoder {name} (fingerprint {fingerprint}), and "
                f"{found.name} is another one (fingerprint {found.fingerprint}): leave the encoder out, name one with "
                f"the former fingerprint, or import the data anew with the latter"
            )
    prompts = matrix.questions.get("prompt", pd.Series(dtype=object))
    with_prompt = np.flatnonzero([isinstance(prompt, str) for prompt in prompts])
    if not len(with_prompt):
        raise ValueError(
            f"the questions of {matrix!r} have no prompt, so nothing shows that their embeddings come from the encoder "
            f"{encoder}: bring data with a column 'prompt', the text of each question"
        )
    probes = with_prompt[np.linspace(0, len(with_prompt) - 1, min(_N_PROBES, len(with_prompt))).astype(int)]
    encoded = encode_questions(prompts.iloc[probes].tolist(), encoder, device=device)
    given = matrix.embeddings[probes]
    remedy = "name the encoder that made them, or make them anew with encode_questions"
    if given.shape != encoded.shape:
        raise ValueError(
            f"the embeddings of {matrix!r} do not come from the encoder {encoder}: they have width {given.shape[1]}, "
            f"and it gives width {encoded.shape[1]}; {remedy}"
        )
    cosines = (given * encoded).sum(axis=1) / (np.linalg.norm(given, axis=1) * np.linalg.norm(encoded, axis=1))
    if not (cosines > _SAME).all():
        worst = int(np.argmin(cosines))
        raise ValueError(
            f"the embeddings of {matrix!r} do not come from the encoder {encoder}: on question "
            f"{matrix.question_ids[probes[worst]]!r} the cosine between the two is {cosines[worst]:.3f}; {remedy}"
        )
