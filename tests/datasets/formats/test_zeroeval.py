"""Replies are graded as ZeroEval grades them, or one sentence says why not."""

import json
import re

import pytest

from embedllm import load_dataset
from embedllm.datasets.formats.zeroeval import SAME_MODEL, is_correct, read_answer, read_zeroeval


def entry(number, reply='{"answer": "7"}', answer="7", **other):
    return {"id": f"q#{number}", "question": f"How many, {number}?", "answer": answer, "output": [reply]} | other


@pytest.fixture
def write(tmp_path):
    """Return the function that writes the file of a model on a benchmark; bytes are written as they are."""

    def write(benchmark, model, entries):
        path = tmp_path / benchmark / f"{model}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(entries if isinstance(entries, bytes) else json.dumps(entries).encode())
        return path

    return write


class TestAnswer:
    @pytest.mark.parametrize(
        ("reply", "answer"),
        [
            ('{"reasoning": "7 + 8", "answer": "15"}', "15"),
            ('Sure: ```json\n{\n"reasoning": "a {nested} one",\n"answer": 15\n}\n```', "15"),
            ('{"answer": "1"} and then {"answer": "2"}', "1"),
            ('} {"answer": "1"}', "1"),
            ('{"answer": [1, 2]}', "[1, 2]"),
            ('{"answer": null}', "None"),
            ('{"reasoning": "cut short", "answer": "15"', "15"),
            ('{"reasoning": "a "quoted" word", "answer": "15"}', "15"),
            ('{"reasoning": "a "quoted" word", "answer": 15, "x": 1}', "15"),
            ("The answer: 15, as asked", "15"),
            ('"answer": "', '"'),
            ('{"reasoning": "no more"}', None),
            (r"So it is \boxed{15}.", None),
            ("", None),
            ("{" * 5000 + "}" * 5000, None),
            ('{"n": ' + "9" * 5000 + "}", None),
        ],
    )
    def test_read(self, reply, answer):
        assert read_answer(reply, "any-model") == answer

    @pytest.mark.parametrize(
        ("reply", "answer"),
        [
            (r"So it is \boxed{15}.", "15"),
            (r"\boxed{15} is what we get, and this sentence is too long to count", None),
            (r"So it is \boxed{\frac{1}{2}}.", None),
            (r'{"answer": "3"} \boxed{15}', "3"),
        ],
    )
    def test_box_of_one_family(self, reply, answer):
        assert read_answer(reply, "Meta-Llama-3.1-8B-Instruct") == answer

    @pytest.mark.parametrize(
        ("answer", "key", "correct"),
        [
            ("15", "# 15", True),
            ("15.0", "15", True),
            ("$1,200 a day", "# 1,200", True),
            ("-15", "15", False),
            ("about 15 of 20", "15", True),
            ("1/4", "0.25", True),
            ("((2 * 2000) + 500 - 600) / 15", "260", True),
            ("-(6 / 2)", "-3", True),
            ("1/0", "1", True),  # no number, so the text counts: its first number is 1
            ("1/2 mile", "0.5", False),
            ("2**3/2", "2", True),  # no plain arithmetic
            ("__import__('os')/1", "1", True),
            ("12 / (3", "12", True),
            ("none", "15", False),
            ("", "15", False),
        ],
    )
    def test_numbers(self, answer, key, correct):
        assert is_correct(answer, key, "gsm") is correct

    @pytest.mark.parametrize(
        ("answer", "key", "correct"),
        [("'ab'", '"ab"', True), ("[1,2]", "[1, 2]", False), ("a\nb", "'a\\nb'", True), ("", "''", True)],
    )
    def test_texts(self, answer, key, correct):
        assert is_correct(answer, key, "crux") is correct


class TestFiles:
    def test_matrix(self, write):
        files = [
            write("math-l5", "yi", [{"id": 0, "problem": "Half?", "answer": "1/2", "output": ['{"answer": 0.5}']}]),
            write("gsm", "yi", [entry(0), entry(1, '{"answer": "8"}'), entry(2, "no")]),
            write("gsm", "Yi-1.5", [entry(0), entry(1)]),
            write("crux", "A", [entry(9, '{"answer": "[1]"}', "[1]")]),
        ]
        answers = read_zeroeval(files)
        assert answers.labels.index.tolist() == ["A", "yi", "Yi-1.5"]
        assert answers.labels.to_numpy().tolist() == [[-1, -1, -1, -1, 1], [1, 0, 0, 1, -1], [1, 1, -1, -1, -1]]
        assert answers.questions["benchmark"].tolist() == ["gsm", "gsm", "gsm", "math-l5", "crux"]
        assert answers.questions["prompt"]["3"] == "Half?"
        counts = [(what, count) for what, count, *_ in answers.report if count]
        assert counts == [("replies from which no answer could be read", 1)]
        other = read_zeroeval(files, no_answer="not observed")
        assert other.labels.to_numpy().tolist() == [[-1, -1, -1, 1], [1, 0, 1, -1], [1, 1, -1, -1]]

    def test_runs_of_one_model_are_joined(self, write):
        files = [write("gsm", file, [entry(0)]) for file in SAME_MODEL] + [write("crux", "gemma-2-27b-it", [entry(0)])]
        answers = read_zeroeval([path for path in files if path.stem != "Llama-3.1-405B-Inst-fp8"])
        assert set(answers.labels.index) == set(SAME_MODEL.values())
        assert (answers.labels.loc["gemma-2-27b-it"] != -1).all()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"output": []}, "output does not begin with a text"),
            ({"output": [None]}, "output does not begin with a text"),
            ({"output": "7"}, "output is a text"),
            ({"answer": 7}, "answer is a number"),
            ({"id": None}, "id is null"),
            ({"question": ["How many?"]}, "question is a list"),
        ],
    )
    def test_field(self, write, change, message):
        path = write("gsm", "m", [entry(0), "stray", entry(1, **change)])
        with pytest.raises(ValueError, match=re.escape(f"{path}, entry 3: {message}")):
            read_zeroeval([path])

    def test_one_id_for_two_questions(self, write):
        files = [write("gsm", "a", [entry(0)]), write("gsm", "b", [entry(0, question="Another?")])]
        with pytest.raises(ValueError, match=r"b\.json, entry 1: id 'q#0' stands for another question"):
            read_zeroeval(files)

    def test_missing_field_and_other_content(self, write):
        with pytest.raises(ValueError, match=r"m\.json, entry 1 has no 'problem'; it has \['id', 'question'"):
            read_zeroeval([write("math-l5", "m", [entry(0)])])
        with pytest.raises(ValueError, match=r"m\.json is not JSON .*was it cut short"):
            read_zeroeval([write("gsm", "m", b'[{"id": 1,')])
        with pytest.raises(ValueError, match=r"m\.json holds no list of answers"):
            read_zeroeval([write("gsm", "m", {"error": "not found"})])
        with pytest.raises(ValueError, match="is in no folder named after a benchmark"):
            read_zeroeval([write("zebra-grid", "m", [entry(0)])])


# Accuracies in percent, from result_dirs/*.summary.json of the pinned commit.
@pytest.mark.parametrize(
    ("benchmark", "model", "published"),
    [("crux", "gemma-2-2b-it", 21.50), ("numersense-v2", "gpt-3.5-turbo-0125", 65.62)],
)
def test_published_files_give_the_published_accuracy(pool_folder, tmp_path, benchmark, model, published):
    folder = pool_folder("zeroeval")
    path = tmp_path / benchmark / f"{model}.json"
    path.parent.mkdir()
    path.symlink_to(folder / "raw" / f"{benchmark}_{model}.json")
    answers = read_zeroeval([path])
    assert 100 * answers.labels.to_numpy().mean() == pytest.approx(published, abs=0.01)
    pool = load_dataset(folder)
    expected = pool.subset(models=[model], questions=pool.benchmarks == benchmark)
    assert answers.labels.to_numpy().tolist() == expected.labels.tolist()
    assert answers.questions["prompt"].tolist() == expected.questions["prompt"].tolist()
