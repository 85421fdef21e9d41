"""Logs of the lm-evaluation-harness become the data set they stand for, or one sentence that says why not."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from import_helpers import TEXTS, TIME, expect, reports, sample, write_samples

from embedllm.datasets.importers import import_lm_eval

pytestmark = pytest.mark.usefixtures("encoded")


@pytest.fixture
def logs(tmp_path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


class TestLogs:
    def test_tasks_of_both_kinds(self, tmp_path, logs, assert_imported):
        rng = np.random.default_rng(0)
        tasks = {"mmlu_law": ("MMLU", "acc", 12), "gsm8k": ("GSM8K", "exact_match", 3), "own_task_v2": (None, "acc", 2)}
        models = ["meta__Llama-3.1_8B", "a__b__c", "NA"]
        labels, ids, facts = {}, [], []
        for task, (benchmark, metric, n_docs) in sorted(tasks.items()):
            for doc_id in range(n_docs):
                ids.append(f"{task}/{doc_id}")
                prompt = f"{TEXTS[doc_id % len(TEXTS)]}\u2028{task}"
                facts.append((benchmark or task, task, prompt))
                for model in models:
                    labels[model, ids[-1]] = int(rng.integers(0, 2))
            for model in models:
                # Processes that share the work write their questions in turns.
                order = rng.permutation(n_docs)
                write_samples(logs / "runs", model, task, [
                    sample(int(n), context=f"{TEXTS[n % len(TEXTS)]}\u2028{task}", filter="none",
                           **{metric: float(labels[model, f"{task}/{n}"]), "acc_norm": 1.0})
                    for n in order
                ])  # fmt: skip
        models = sorted(models)
        cells = [[labels[model, name] for name in ids] for model in models]
        benchmarks, categories, prompts = map(list, zip(*facts, strict=True))
        expected = expect(models, ids, cells, benchmarks, prompts, category=categories)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert_imported(matrix, expected, tmp_path / "out")
        assert (matrix.source, reports(matrix)) == ("logs", [])

    def test_limited_run_is_not_observed(self, tmp_path, logs):
        write_samples(logs, "A", "t", [sample(n, acc=1.0) for n in range(4)])
        write_samples(logs, "B", "t", [sample(n, acc=0.0) for n in range(2)])
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1, 1, 1, 1], [0, 0, -1, -1]]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"gen_args_0": {"arg_0": "the text", "arg_1": " A"}, "gen_args_1": {"arg_0": "other", "arg_1": " B"}},
            [["the text", " A"], ["other", " B"]],
            [["the text"]],
            {"gen_args_0": {"arg_0": ["the text"], "arg_1": {"until": []}}},
            [[["the text"], {"until": []}]],
        ],
        ids=["by name", "list", "rolling", "chat by name", "chat in a list"],
    )
    def test_prompt_is_the_first_context(self, tmp_path, logs, arguments):
        write_samples(logs, "A", "t", [{**sample(0, acc=1.0), "arguments": arguments}])
        assert import_lm_eval(logs, tmp_path / "out").questions["prompt"].tolist() == ["the text"]

    @pytest.mark.parametrize(
        ("metrics", "metric", "label"),
        [
            ({"acc": 1.0, "acc_norm": 0.0}, None, 1),
            ({"acc": 1.0, "acc_norm": 0.0}, "acc_norm", 0),
            ({"acc_norm": 1.0, "exact_match": 0.0}, None, 0),
            ({"acc_norm": 1, "bleu": 0.3}, None, 1),
            ({"prompt_level_strict_acc": True, "acc": 0.0}, "prompt_level_strict_acc", 1),
            ({"exact_match": "False"}, None, 0),
        ],
    )
    def test_metric(self, tmp_path, logs, metrics, metric, label):
        write_samples(logs, "A", "t", [sample(0, **metrics)])
        assert import_lm_eval(logs, tmp_path / "out", metric=metric).labels.tolist() == [[label]]

    def test_filter(self, tmp_path, logs):
        # The harness writes all lines of one filter, then all of the next; other tasks have other filters, or none.
        lines = [sample(n, filter=name, exact_match=float(name == "flexible-extract"))
                 for name in ("strict-match", "flexible-extract") for n in range(2)]  # fmt: skip
        write_samples(logs, "A", "gsm8k", lines)
        write_samples(logs, "A", "bbh", [sample(0, filter="get-answer", exact_match=1.0)])
        write_samples(logs, "A", "piqa", [sample(0, acc=1.0)])
        strict = import_lm_eval(logs, tmp_path / "strict", filter="strict-match")
        flexible = import_lm_eval(logs, tmp_path / "flexible", filter="flexible-extract")
        assert strict.question_ids.tolist() == ["bbh/0", "gsm8k/0", "gsm8k/1", "piqa/0"]
        assert strict.labels.tolist() == [[1, 0, 0, 1]]
        assert flexible.labels.tolist() == [[1, 1, 1, 1]]
        assert reports(strict) == [["files without filter 'strict-match'", 1, "the only filter that they hold"]]

    def test_log_without_names_of_filters_and_metrics(self, tmp_path, logs):
        line = sample(0, acc=1.0)
        del line["filter"], line["metrics"]
        write_samples(logs, "A", "t", [line])
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1]]

    def test_newest_run_counts(self, tmp_path, logs):
        for folder, time, value in [
            ("one", "2024-07-01T12-30-45", 0.0),
            ("one", "2024-07-01T12-30-45.5", 1.0),
            ("two", "2023-12-31T23-59-59.999999", 0.0),
        ]:
            write_samples(logs / folder, "A", "t", [sample(0, acc=value)], time)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.labels.tolist() == [[1]]
        assert reports(matrix) == [["older runs of a model on a task", 2, "the newest counts"]]

    def test_other_contexts_are_counted(self, tmp_path, logs):
        write_samples(logs, "B", "t", [sample(0, acc=1.0, context="first"), sample(1, acc=1.0)])
        write_samples(logs, "A", "t", [sample(0, acc=1.0, context="few shots"), sample(1, acc=1.0)])
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.questions["prompt"].tolist() == ["few shots", "Question?"]
        assert reports(matrix) == [["questions asked in several contexts", 1, "the prompt of the first model by name"]]

    def test_folder_of_one_model(self, tmp_path, logs, monkeypatch):
        write_samples(logs, "org__model", "t", [sample(0, acc=1.0)])
        assert import_lm_eval(logs / "org__model", tmp_path / "one").model_names.tolist() == ["org__model"]
        monkeypatch.chdir(logs / "org__model")
        assert import_lm_eval(".", tmp_path / "two").model_names.tolist() == ["org__model"]

    def test_a_run_that_is_linked_keeps_its_name(self, tmp_path, logs):
        path = write_samples(tmp_path / "elsewhere", "x", "t", [sample(0, acc=1.0)])
        (logs / "A").mkdir()
        os.symlink(path, logs / "A" / path.name)
        assert import_lm_eval(logs, tmp_path / "out").model_names.tolist() == ["A"]


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
TASK_FILE = rf"samples_t_{TIME}\.jsonl"


MALFORMED = {
    "no logs": (harness_case(), r"logs holds no samples_TASK_TIME\.jsonl: .*--log_samples --output_path"),
    "other name": (
        harness_case(("A", "t", [LINE], "yesterday")),
        r"samples_t_yesterday\.jsonl is not named samples_TASK_TIME\.jsonl",
    ),
    "empty file": (harness_case(("A", "t", [])), rf"{TASK_FILE} is empty"),
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
    "no doc_hash": (harness_case(("A", "t", [{"doc_id": 0, "acc": 1.0}])), r"line 1 has no doc_hash: repeat"),
    "fraction": (
        harness_case(("A", "t", [LINE, sample(1, acc=0.5, f1=0.2)])),
        r"line 2: acc is 0\.5, neither correct \(1\) nor incorrect \(0\): name another metric of \['acc', 'f1'\]",
    ),
    "not a number": (
        harness_case(("A", "t", [sample(0, acc=float("nan"))])),
        r"line 1: acc is nan, neither correct",
    ),
    "no usual metric": (
        harness_case(("A", "t", [sample(0, bleu=1.0, ter=0.0)])),
        r"line 1 has no metric acc or exact_match or acc_norm; it has \['bleu', 'ter'\]: name one of these \(metric=",
    ),
    "metric that is not there": (
        harness_case(("A", "t", [LINE]), metric="exact_match"),
        r"line 1 has no metric exact_match; it has \['acc'\]",
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
        r"no file in .*logs holds answers by filter 'loose'; there are \['none'\]",
    ),
    "question twice": (
        harness_case(("A", "t", [sample(n, filter="f", exact_match=1.0) for n in (0, 1, 0)])),
        rf"{TASK_FILE}, line 3: doc_id 0 stands in line 1 too: keep one$",
    ),
    "question twice, without names of filters": (
        harness_case(("A", "t", [LINE, LINE])),
        r"line 2: doc_id 0 stands in line 1 too: .* versions before 0\.4\.7 do not name",
    ),
    "other question": (
        harness_case(("A", "t", [LINE]), ("B", "t", [sample(0, doc={"question": "another"}, acc=1.0)])),
        rf"B.{TASK_FILE}, line 1: doc_id 0 is another question than in .*A.{TASK_FILE} \(their doc_hash differs\)",
    ),
    "no context": (
        harness_case(("A", "t", [{**LINE, "arguments": {}}])),
        "line 1: the first context in its arguments is no text or empty",
    ),
    "empty context": (harness_case(("A", "t", [sample(0, acc=1.0, context="")])), "line 1: the first context"),
    "contexts of no known form": (
        harness_case(("A", "t", [{**LINE, "arguments": [[]]}])),
        "the first context",
    ),
}


@pytest.mark.parametrize(("prepare", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_named(tmp_path, assert_refused, prepare, message):
    assert_refused(prepare(tmp_path), message)
