"""What tests of the importers share: inputs, what they come to, and an encoder that takes no time."""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd

from embedllm import CorrectnessMatrix

TEXTS = ["plain", "N/A", "two\nlines", "commas, \"quotes\", 'both'", "提示文字", "🦙🙂", " spaces ", "x" * 200_000]
NAMES = ["NA", "null", "nan", "org__model@v1.0 (chat)", "模型 七", "007"]


def vectors_of(texts) -> np.ndarray:
    """A vector that each text determines: (n, 8)."""
    digests = [hashlib.sha256(text.encode()).digest()[:8] for text in texts]
    return np.array([list(digest) for digest in digests], dtype=np.float32).reshape(-1, 8) + 1


def expect(models, ids, labels, benchmarks, prompts, **more) -> CorrectnessMatrix:
    questions = pd.DataFrame({"benchmark": benchmarks, "prompt": prompts, **more}, index=ids)
    return CorrectnessMatrix(pd.DataFrame(labels, models, ids), questions, vectors_of(prompts))


def reports(matrix) -> list:
    """The lines of a report but the last, which says what all that was read has become."""
    return matrix.report_[:-1].to_numpy().tolist()


def account(matrix) -> str:
    return "{1:,} {0} {2}".format(*matrix.report_.iloc[-1])


def csv_bytes(rows, header) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


SHARED = "questions that share their text with another"
PUT_TOGETHER = "kept; a random division puts them into one part"
OTHER_RUNS = "one without a limit counts, with the most questions, the latest; passed over: "
TIME = "2024-07-01T12-30-45.123456"


def sample(doc_id, *, doc=None, context="Question?", filter="none", **metrics):
    """A line as the harness writes it: multiple choice if it has `acc`, otherwise text that was generated."""
    doc = {"question": f"doc {doc_id}"} if doc is None else doc
    if "acc" in metrics:
        arguments = {f"gen_args_{n}": {"arg_0": context, "arg_1": f" choice {n}"} for n in range(4)}
        answers = {"resps": [[["-1.5", "False"]]] * 4, "filtered_resps": [["-1.5", "False"]] * 4, "target": "2"}
    else:
        arguments = {"gen_args_0": {"arg_0": context, "arg_1": {"until": ["\n"], "temperature": 0.0}}}
        answers = {"resps": [["so 4"]], "filtered_resps": ["4"], "target": "4"}
    digest = hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest()
    hashes = {"doc_hash": digest, "prompt_hash": "p", "target_hash": "t"}
    named = {"filter": filter, "metrics": list(metrics)}
    return {"doc_id": doc_id, "doc": doc, "arguments": arguments, **answers, **named, **hashes, **metrics}


def write_samples(folder: Path, model: str, task: str, lines, time: str = TIME, suffix: str = ".jsonl") -> Path:
    """Write a file of samples in the folder of a model."""
    path = folder / model / f"samples_{task}_{time}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    return path


def write_results(folder: Path, time: str = TIME, name: str = "results", limit=None, shots=None, **about) -> None:
    """Write the results file of a run; `about` has its model_args, model_name, chat_template_sha and so on."""
    config = {"model": "hf", "limit": limit, "model_args": about.pop("model_args", "")}
    config |= {key: about.pop(key) for key in ("gen_kwargs", "model_revision") if key in about}
    put(folder / f"{name}_{time}.json", {"results": {}, "config": config, "n-shot": shots or {}, **about})


def put(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
