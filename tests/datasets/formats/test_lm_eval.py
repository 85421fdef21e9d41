"""Logs of the lm-evaluation-harness become the data set they stand for, or one sentence that says why not."""

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from import_helpers import (
    OTHER_RUNS,
    PUT_TOGETHER,
    SHARED,
    TEXTS,
    TIME,
    account,
    expect,
    put,
    reports,
    sample,
    write_results,
    write_samples,
)

from embedllm.__main__ import main
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
                # Of GSM8K the field with the question is known, of the other documents here it is not.
                prompt = f"doc {doc_id}" if task == "gsm8k" else f"{TEXTS[doc_id % len(TEXTS)]}\u2028{task}"
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
        assert (matrix.source, account(matrix)) == ("logs", "51 samples read = 51 cells")
        assert reports(matrix) == [
            ["samples by acc", 42, "mmlu_law, own_task_v2"],
            ["samples by exact_match", 9, "gsm8k"],
            [SHARED, 8, PUT_TOGETHER],
        ]

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
            ({"acc": 1.0, "acc_norm": 0.0}, (), 1),
            ({"acc": 1.0, "acc_norm": 0.0}, "acc_norm", 0),
            ({"acc_norm": 1.0, "exact_match": 0.0}, (), 0),
            ({"acc_norm": 1, "bleu": 0.3}, (), 1),
            ({"prompt_level_strict_acc": True, "acc": 0.0}, "prompt_level_strict_acc", 1),
            ({"exact_match": "False"}, (), 0),
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
        assert account(strict) == "6 samples read = 4 cells + 2 by other filters"
        file = f"A/samples_bbh_{TIME}.jsonl"
        assert ["files without filter 'strict-match'", 1, f"their only filter counts: {file}"] in reports(strict)
        mixed = import_lm_eval(logs, tmp_path / "mixed", filter=["gsm8k*=flexible-extract", "bbh=get-answer"])
        assert mixed.labels.tolist() == [[1, 1, 1, 1]]

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
        matrix = import_lm_eval(logs, tmp_path / "out", one_model_a_folder=True)
        assert matrix.labels.tolist() == [[1]]
        names = "one/A/samples_t_2024-07-01T12-30-45.jsonl, two/A/samples_t_2023-12-31T23-59-59.999999.jsonl"
        assert ["rows of other runs", 2, OTHER_RUNS + names] in reports(matrix)
        assert account(matrix) == "3 samples read = 1 cells + 2 of other runs"

    def test_other_contexts_are_counted(self, tmp_path, logs):
        write_samples(logs, "B", "t", [sample(0, acc=1.0, context="first"), sample(1, acc=1.0)])
        write_samples(logs, "A", "t", [sample(0, acc=1.0, context="few shots"), sample(1, acc=1.0)])
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.questions["prompt"].tolist() == ["few shots", "Question?"]
        assert ["questions asked in several contexts", 1, "that of the first model by name"] in reports(matrix)

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


class TestTasks:
    """A metric, a prompt and a key for each task; what has none is left out and counted."""

    def test_one_task_of_each_kind(self, tmp_path, logs):
        def write(task, metrics, model="org__a", **more):
            write_samples(logs, model, task, [sample(n, **metrics, **more) for n in range(3)])

        write("arc_challenge", {"acc": 0.0, "acc_norm": 1.0})
        write("humaneval", {"pass@1": 1.0}, filter="create_test")
        write("leaderboard_ifeval", {"prompt_level_strict_acc": True, "inst_level_strict_acc": [True, False]})
        write("truthfulqa_mc2", {"acc": 0.25})
        write("wikitext", {"word_perplexity": [-321.5, 120]})
        write("predicted", {"bypass": 999})
        (logs / "org__a" / f"samples_crashed_{TIME}.jsonl").touch()
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.benchmark_names == ["arc_challenge", "humaneval", "leaderboard_ifeval"]
        assert matrix.labels.tolist() == [[1] * 9]
        fraction = (
            f"left out: acc is 0.25 in {logs}/org__a/samples_truthfulqa_mc2_{TIME}.jsonl, line 1, neither correct (1) "
            f"nor incorrect (0); fractions need a threshold (threshold=..., --threshold)"
        )
        lines = [
            ["samples by acc_norm", 3, "arc_challenge"],
            ["samples by pass@1", 3, "humaneval"],
            ["samples by prompt_level_strict_acc", 3, "leaderboard_ifeval"],
            [
                "samples of predicted",
                3,
                "left out: no metric of correctness; they have ['bypass'] (metric=..., --metric)",
            ],
            ["samples of truthfulqa_mc2", 3, fraction],
            ["samples of wikitext", 3, WIKITEXT],
            ["empty files of samples", 1, f"passed over: org__a/samples_crashed_{TIME}.jsonl"],
            [SHARED, 6, PUT_TOGETHER],
        ]
        assert reports(matrix) == lines
        assert account(matrix) == "18 samples read = 9 cells + 9 without a usable metric"

        matrix = import_lm_eval(logs, tmp_path / "two", threshold=0.25, metric=["arc*=acc", "acc"], strict=True)
        assert matrix.benchmark_names == ["arc_challenge", "humaneval", "leaderboard_ifeval", "truthfulqa_mc2"]
        assert matrix.labels.tolist() == [[0] * 3 + [1] * 9]

    @pytest.mark.parametrize("threshold", [0.5, 0.6])
    def test_repeats(self, tmp_path, logs, threshold):
        values = [0.0, 0.5, 1.0]
        lines = [sample(n, exact_match=v, scores_per_repeat={"exact_match": [0, 1]}) for n, v in enumerate(values)]
        write_samples(logs, "A", "gsm8k", lines)
        labels = import_lm_eval(logs, tmp_path / "out", threshold=threshold).labels.tolist()
        assert labels == [[0, int(threshold == 0.5), 1]]

    def test_a_task_with_fractions_of_one_model_is_left_out_for_all(self, tmp_path, logs):
        for model, value in (("A", 0.0), ("B", 0.3)):
            write_samples(logs, model, "mbpp", [sample(0, pass_at_1=value)])
            write_samples(logs, model, "t", [sample(0, acc=1.0)])
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.question_ids.tolist() == ["t/0"]
        assert account(matrix) == "4 samples read = 2 cells + 2 without a usable metric"

    def test_a_metric_that_only_some_models_have_does_not_count(self, tmp_path, logs):
        write_samples(logs, "A", "arc_easy", [sample(0, acc=1.0, acc_norm=0.0)])
        write_samples(logs, "B", "arc_easy", [sample(0, acc=1.0)])
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1], [1]]

    def test_prompts(self, tmp_path, logs):
        docs = {
            "mmlu_law": {"question": "Which?", "choices": ["one", "two"]},
            "leaderboard_musr_x": {"narrative": "Once.", "question": "Who?", "choices": "['a', 'b']"},
            "own": {"question": "Why?", "text": "Because?"},
            "blimp_x": {"sentence_good": "It is.", "sentence_bad": "It are."},
        }
        for task, doc in docs.items():
            context = "" if task == "blimp_x" else "Example. Example. Which?"
            write_samples(logs, "A", task, [sample(0, doc=doc, context=context, acc=1.0)])
        prompts = import_lm_eval(logs, tmp_path / "out").questions["prompt"]
        assert prompts.to_dict() == {
            "leaderboard_musr_x/0": "Once.\nWho?\n['a', 'b']",
            "mmlu_law/0": "Which?\none\ntwo",
            "own/0": "Example. Example. Which?",
        }
        fields = ["question", "blimp*=sentence_good", "own=text"]
        prompts = import_lm_eval(logs, tmp_path / "two", prompt_field=fields).questions["prompt"]
        assert prompts.to_dict() == {
            "blimp_x/0": "It is.",
            "leaderboard_musr_x/0": "Who?",
            "mmlu_law/0": "Which?",
            "own/0": "Because?",
        }

    def test_key_where_choices_are_shuffled(self, tmp_path, logs):
        for model, choices in (("A", "xy"), ("B", "yx")):
            for task, name in (("gpqa_main_zeroshot", "Question"), ("own", "q")):
                doc = {name: "Which?", "choice1": choices[0], "choice2": choices[1]}
                write_samples(logs, model, task, [sample(0, doc=doc, acc=1.0)])
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.question_ids.tolist() == ["gpqa_main_zeroshot/0", "own/0", "own/0 (2)"]
        assert matrix.labels[:, 0].tolist() == [1, 1]
        assert sorted(matrix.labels[:, 1:].tolist()) == [[-1, 1], [1, -1]]
        assert [row[:2] for row in reports(matrix)] == [
            ["samples by acc", 4],
            ["numbers of several documents", 1],
            [SHARED, 2],
        ]
        assert import_lm_eval(logs, tmp_path / "two", key_field="q").labels.tolist() == [[1, 1], [1, 1]]
        with pytest.raises(ValueError, match="strict: 1 numbers of several documents"):
            import_lm_eval(logs, tmp_path / "three", strict=True)

    def test_a_question_is_its_document_whatever_its_number(self, tmp_path, logs):
        """Versions before 0.4.9 count the questions that `--samples` chose from 0."""
        docs = [{"question": text} for text in "abb"]  # a document may occur twice
        write_samples(logs, "A", "t", [sample(n, doc=doc, acc=float(n == 2)) for n, doc in enumerate(docs)])
        write_samples(logs, "B", "t", [sample(0, doc=docs[1], acc=1.0)])
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.question_ids.tolist() == ["t/0", "t/1", "t/2"]
        assert matrix.labels.tolist() == [[0, 0, 1], [-1, 1, -1]]

    def test_equal_embeddings_are_warned_of(self, tmp_path, logs, monkeypatch):
        lines = [sample(n, context=f"long prefix {n}", acc=1.0) for n in range(50)]
        write_samples(logs, "A", "t", lines)
        for n_equal, warned in ((0, False), (1, True)):

            def encode(texts, *_, n_equal=n_equal, **__):
                return np.arange(1, 1 + len(texts)).clip(1, len(texts) - n_equal)[:, None].astype(np.float32)

            monkeypatch.setattr("embedllm.datasets.importers.encode_questions", encode)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                import_lm_eval(logs, tmp_path / f"out{n_equal}")
            messages = [str(warning.message) for warning in caught]
            assert any("1 of 50 different questions have the embedding" in text for text in messages) == warned


WIKITEXT = "left out: no metric of correctness; they have ['word_perplexity'] (metric=..., --metric)"


class TestFiles:
    @pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".json.gz"])
    def test_kinds(self, tmp_path, logs, suffix):
        write_samples(logs, "A", "t", [sample(n, acc=1.0) for n in range(2)], suffix=suffix)
        assert import_lm_eval(logs, tmp_path / "out").labels.tolist() == [[1, 1]]

    def test_other_files_are_listed(self, tmp_path, logs):
        write_samples(logs, "A", "t", [sample(0, acc=1.0)])
        for name in ("notes.txt", "A/plot.png", ".cache/x", "A/other.jsonl"):
            put(logs / name, "{}")
        rule = "passed over: A/other.jsonl, A/plot.png, notes.txt"
        assert reports(import_lm_eval(logs, tmp_path / "out"))[1] == ["files that are not samples", 3, rule]

    def test_copies_of_a_file_are_duplicates(self, tmp_path, logs):
        for suffix in (".jsonl", ".jsonl.gz"):
            write_samples(logs, "A", "t", [sample(n, acc=1.0) for n in range(2)], suffix=suffix)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert (matrix.labels.tolist(), account(matrix)) == ([[1, 1]], "4 samples read = 2 cells + 2 duplicates")

    def test_copies_of_a_file_with_nan(self, tmp_path, logs):
        lines = [sample(n, acc=1.0, f1=float("nan")) for n in range(2)]
        lines.append(sample(2, acc=float("nan"), f1=0.0))
        for suffix in (".jsonl", ".jsonl.gz"):
            write_samples(logs, "A", "t", lines, suffix=suffix)
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.labels.tolist() == [[1, 1]]
        assert account(matrix) == "6 samples read = 2 cells + 2 without a score + 2 duplicates"

    def test_metric_of_a_task_that_crashed(self, tmp_path, logs):
        write_samples(logs, "A", "t_one", [sample(0, acc=1.0)])
        write_samples(logs, "A", "t_two", [])
        assert import_lm_eval(logs, tmp_path / "out", metric="t_*=acc").labels.tolist() == [[1]]

    def test_questions_that_a_larger_run_did_not_reach(self, tmp_path, logs):
        """As `--samples` chooses them: the run with more of them decides, and the other fills in."""
        for numbers, label, day in (((0, 1, 2, 3), 1.0, 1), ((3, 4), 0.0, 2)):
            write_samples(logs, "A", "t", [sample(n, acc=label) for n in numbers], f"2026-05-0{day}T10-00-00")
        matrix = import_lm_eval(logs, tmp_path / "out", one_model_a_folder=True)
        assert matrix.labels.tolist() == [[1, 1, 1, 1, 0]]
        assert account(matrix) == "6 samples read = 5 cells + 1 of other runs"

    def test_cut_gz(self, tmp_path, logs):
        path = write_samples(logs, "A", "t", [sample(n, acc=1.0) for n in range(99)], suffix=".jsonl.gz")
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=r"t_.*\.jsonl\.gz is not a complete \.gz file \(.*\): was it cut short\?"):
            import_lm_eval(logs, tmp_path / "out")

    def test_versions_up_to_0_4_2(self, tmp_path, logs):
        """A list in a file named after the arguments of the model; one results file, of the run that came last."""
        for model, label in (("org/a", 1.0), ("org/b", 0.0)):
            for task in ("arc_easy", "arc_easy_v2"):
                line = sample(0, doc={"question": "q"}, acc=label)
                old = {key: line[key] for key in ("doc_id", "doc", "target", "resps", "filtered_resps", "acc")}
                old["arguments"] = [["context", " x"]]
                put(logs / f"pretrained__{model.replace('/', '__')},revision__v{label:.0f}_{task}.jsonl", [old])
        with pytest.raises(ValueError, match=r"up to 0\.4\.2 write them, and no results\.json beside it"):
            import_lm_eval(logs, tmp_path / "out")
        put(logs / "results.json", {"results": {"arc_easy": {}, "arc_easy_v2": {}}, "config": {"model_args": "x=y"}})
        matrix = import_lm_eval(logs, tmp_path / "out")
        assert matrix.model_names.tolist() == ["org/a", "org/b"]
        assert matrix.labels.tolist() == [[1, 1], [0, 0]]
        assert matrix.questions["prompt"].tolist() == ["q", "q"]

    def test_runs_of_old_versions_are_named_by_their_own_files(self, tmp_path, logs):
        for model in "ab":
            put(logs / f"pretrained__{model}_t.jsonl", [sample(n, acc=1.0) for n in range(2)])
            write_samples(logs / "new", model, "t", [sample(n, acc=0.0) for n in range(3)])
        put(logs / "results.json", {"results": {"t": {}}})
        matrix = import_lm_eval(logs, tmp_path / "out")
        names = "pretrained__a_t.jsonl, pretrained__b_t.jsonl"
        assert ["rows of other runs", 4, OTHER_RUNS + names] in reports(matrix)
        assert matrix.labels.tolist() == [[0, 0, 0]] * 2


def test_report_of_the_page(tmp_path, capsys, monkeypatch):
    """The page on own models shows what such logs print."""
    monkeypatch.chdir(tmp_path)
    gsm8k = [{"filter": name, "exact_match": 1.0} for name in ("strict-match", "flexible-extract")]
    tasks = {
        "arc_challenge": [{"acc": 0.0, "acc_norm": 1.0}],
        "gsm8k": gsm8k,
        "humaneval": [{"filter": "create_test", "pass@1": 0.0}],
        "truthfulqa_mc2": [{"acc": 0.3719}],
        "wikitext": [{"word_perplexity": [-321.5, 120]}],
    }
    for day, (revision, limit) in enumerate((("v1", None), ("v2", None), ("v2", 2)), start=1):
        time = f"2026-05-0{day}T10-00-00.000001"
        for task, kinds in tasks.items():
            docs = [{"question": f"{task} {n}?", "prompt": f"def {task}_{n}():"} for n in range(limit or 6)]
            lines = [sample(n, doc=doc, context="", **kind) for kind in kinds for n, doc in enumerate(docs)]
            write_samples(Path("logs"), "org__small", task, lines, time)
        args = f"pretrained=org/small,revision={revision}"
        write_results(Path("logs/org__small"), time, limit=limit, model_name="org/small", model_args=args)
    page = (Path(__file__).parents[3] / "book" / "own-models.md").read_text(encoding="utf-8")
    command = re.search(r"^python -m embedllm (import lm-eval .*)$", page, re.MULTILINE)[1]
    assert main(command.split()) == 0
    assert f"```text\n{capsys.readouterr().out}```\n" in page
