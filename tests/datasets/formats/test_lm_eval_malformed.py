"""Damaged and contradictory logs of the lm-evaluation-harness: each is named, with the file and the row."""

import json

import pytest
from import_helpers import TIME, sample, write_samples

from embedllm.datasets.importers import import_lm_eval

pytestmark = pytest.mark.usefixtures("encoded")


def harness_case(*runs, raw=None, **options):
    """`runs`: (model, task, lines); `raw`: what the file of the last of them holds instead."""

    def prepare(folder):
        (folder / "logs").mkdir()
        for run in runs:
            path = write_samples(folder / "logs", *run)
        if raw is not None:
            path.write_bytes(raw)
        return import_lm_eval, folder / "logs", options

    return prepare


LINE = sample(0, acc=1.0)
TWICE = sample(0, filter="f", exact_match=1.0)
TASK_FILE = rf"samples_t_{TIME}\.jsonl"


MALFORMED = {
    "no logs": (harness_case(), r"logs holds no samples_TASK_TIME\.jsonl: .*--log_samples --output_path"),
    "other name": (
        harness_case(("A", "t", [LINE], "yesterday")),
        r"samples_t_yesterday\.jsonl is not named samples_TASK_TIME\.jsonl",
    ),
    "empty file": (harness_case(("A", "t", [])), r"logs holds no samples that can be used: all files are empty"),
    "cut line": (
        harness_case(("A", "t", [LINE]), raw=json.dumps(LINE).encode() + b'\n{"doc_id": 1, "do'),
        rf"{TASK_FILE}, line 2 is not JSON \(.*\): was it cut short",
    ),
    "not an object": (
        harness_case(("A", "t", []), raw=b"\n[1]\n"),
        rf"{TASK_FILE}, line 2 is a list, not an object",
    ),
    "latin-1": (harness_case(("A", "t", []), raw='{"é": 1}'.encode("latin-1")), "line 1 is not UTF-8"),
    "no doc_id": (
        harness_case(("A", "t", [LINE, {"acc": 1.0}])),
        rf"{TASK_FILE}, line 2: doc_id must be a whole number, and it is None",
    ),
    "doc_id of another type": (harness_case(("A", "t", [{**LINE, "doc_id": True}])), "line 1: doc_id .* True"),
    "fraction": (
        harness_case(("A", "t", [LINE, sample(1, acc=0.5, f1=0.2)])),
        r"task t: acc is 0\.5 in .*line 2, neither correct \(1\) nor incorrect \(0\); fractions need a threshold",
    ),
    "not a number": (
        harness_case(("A", "t", [sample(0, acc=float("nan"))]), threshold=0.5),
        r"holds no answer that was observed: 1 samples read = 0 cells \+ 1 without a score",
    ),
    "above 1": (harness_case(("A", "t", [sample(0, acc=50.0)]), threshold=0.5), r"task t: acc is 50\.0 in"),
    "threshold": (harness_case(("A", "t", [LINE]), threshold=50), "threshold must be above 0 and at most 1, got 50"),
    "no usual metric": (
        harness_case(("A", "t", [sample(0, bleu=1.0, ter=0.0)])),
        r"task t: no metric of correctness; they have \['bleu', 'ter'\] \(metric=",
    ),
    "metric that is not there": (
        harness_case(("A", "t", [LINE]), metric="exact_match"),
        r"no file has 'exact_match' \(metric=\.\.\., --metric\); there are \['acc'\]",
    ),
    "metric that a task has not": (
        harness_case(("A", "t", [LINE]), metric="t*=exact_match"),
        r"task t has no 'exact_match'; it has \['acc'\]: name one of these \(metric=\.\.\., --metric\)",
    ),
    "task that is not there": (
        harness_case(("A", "t", [LINE]), metric=["acc", "u*=acc"]),
        r"no task is named 'u\*' \(metric=\.\.\., --metric\); there are \['t'\]",
    ),
    "field that is not there": (
        harness_case(("A", "t", [LINE]), prompt_field="text"),
        r"no file has 'text' \(prompt_field=\.\.\., --prompt-field\); there are \['question'\]",
    ),
    "key that is not there": (
        harness_case(("A", "t", [LINE]), key_field="t=id"),
        r"line 1 has no 'id'; it has \['question'\]: name one of these \(key_field=\.\.\., --key-field\)",
    ),
    "filter not named": (
        harness_case(("A", "t", [sample(0, filter=name, exact_match=1.0) for name in ("strict", "flexible")])),
        rf"{TASK_FILE} holds answers by several filters, \['strict', 'flexible'\]: name one of them \(filter=",
    ),
    "filter that is not there": (
        harness_case(("A", "t", [sample(0, filter=f, exact_match=1.0) for f in ("strict", "none")]), filter="loose"),
        r"holds answers by several filters, \['strict', 'none'\]",
    ),
    "filter that is nowhere": (
        harness_case(("A", "t", [LINE]), filter="loose"),
        r"no file has 'loose' \(filter=\.\.\., --filter\); there are \['none'\]",
    ),
    "question twice": (
        harness_case(("A", "t", [sample(n, filter="f", exact_match=float(n)) for n in (0, 1)] + [TWICE])),
        rf"{TASK_FILE}, line 3: doc_id 0 stands in .*line 1 too: keep one, that of one filter",
    ),
    "question twice, without names of filters": (
        harness_case(("A", "t", [LINE, sample(0, acc=0.0)])),
        r"line 2: doc_id 0 stands in .*line 1 too: .* versions before 0\.4\.7 do not name",
    ),
    "no context": (
        harness_case(("A", "t", [{**LINE, "arguments": {}}])),
        r"task t: no text of the question; name the field of doc that has it \(prompt_field=",
    ),
    "empty context": (harness_case(("A", "t", [sample(0, acc=1.0, context="")])), "task t: no text of the question"),
    "contexts of no known form": (
        harness_case(("A", "t", [{**LINE, "arguments": [[]]}])),
        "task t: no text of the question",
    ),
    "pointer": (
        harness_case(("A", "t", [LINE]), raw=b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        rf"{TASK_FILE} is a Git LFS pointer",
    ),
}


@pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_named(tmp_path, assert_refused, prepare, message):
    assert_refused(prepare(tmp_path), message)
