"""Zips of answers to MMLU-Pro become labels, or one sentence that says why not."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from embedllm import load_dataset
from embedllm.datasets.formats.mmlu_pro import read_mmlu_pro


def entry(number, pred="A", answer="A", **other):
    fields = {
        "question_id": number,
        "question": f"Which is {number}?",
        "options": ["this", "that"],
        "answer": answer,
        "category": "computer science",
        "pred": pred,
    }
    return fields | other


@pytest.fixture
def write(tmp_path):
    """Return the function that writes a zip of a model; bytes are written as they are."""

    def write(model, entries, suffix="_5shots.zip", inside=None):
        path = tmp_path / f"model_outputs_{model}{suffix}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            content = entries if isinstance(entries, bytes) else json.dumps(entries)
            for name in [f"model_outputs_{model}.json"] if inside is None else inside:
                archive.writestr(name, content)
        return path

    return write


def reported(answers):
    return {what: (count, rule) for what, count, rule, _ in answers.report if count}


class TestLabels:
    def test_three_values(self, write):
        files = [
            write("b-7B", [entry(30), entry(2, "B"), entry(100, None)]),
            write("A-8B", [entry(2), entry(100, "")]),
        ]
        answers = read_mmlu_pro(files)
        assert answers.labels.index.tolist() == ["A-8B", "b-7B"]
        assert answers.labels.to_numpy().tolist() == [[1, -1, 0], [0, 1, 0]]
        assert answers.labels.columns.tolist() == ["0", "1", "2"]
        assert answers.questions["question_id"].tolist() == ["2", "30", "100"]  # by number, not as text
        assert answers.questions["benchmark"].unique().tolist() == ["computer_science"]
        assert answers.questions["prompt"]["0"] == "Which is 2?\n(A) this\n(B) that\nAnswer:"
        assert reported(answers) == {"replies from which no answer could be read": (2, "incorrect")}

    def test_no_answer_may_be_not_observed(self, write):
        answers = read_mmlu_pro([write("m", [entry(1), entry(2, None)])], no_answer="not observed")
        assert answers.labels.to_numpy().tolist() == [[1]]
        assert reported(answers) == {
            "replies from which no answer could be read": (1, "not observed"),
            "questions without an answer": (1, "left out"),
        }

    def test_each_file_keeps_its_own_key(self, write):
        files = [write("a", [entry(1, "A", "A")]), write("b", [entry(1, "B", "B")]), write("c", [entry(1, "A", "B")])]
        answers = read_mmlu_pro(files)
        assert answers.labels["0"].tolist() == [1, 1, 0]
        assert reported(answers) == {"questions with several answer keys": (1, "each file keeps its own")}

    def test_text_for_number_and_list(self, write):
        files = [write("a", [entry("7")]), write("b", [entry(7, options="['this', 'that']")])]
        answers = read_mmlu_pro(files)
        assert answers.labels.shape == (2, 1)
        assert reported(answers) == {}

    def test_prompt_of_the_first_file_by_name(self, write):
        files = [write("a", [entry(1, question="new?")]), write("B", [entry(1, question="old?")])]
        answers = read_mmlu_pro(files)
        assert answers.labels.index.tolist() == ["a", "B"]
        assert answers.questions["prompt"]["0"].startswith("old?")
        assert reported(answers) == {"questions in several wordings": (1, "that of the first file by name")}

    def test_entries_that_are_no_answers(self, write):
        answers = read_mmlu_pro([write("m", ["total", entry(1), None, 3.5])])
        assert reported(answers) == {"entries that are not answers": (3, "left out")}

    def test_leftovers_beside_the_json(self, write):
        assert read_mmlu_pro([write("m", [entry(1)], inside=["m.json", "__MACOSX/._m.json", "readme.txt"])]).labels.size

    @pytest.mark.parametrize("suffix", ["_5shots.zip", "_5-shots.zip", "_5shots.json.zip", "_0shots_00_35_03.zip"])
    def test_names(self, write, suffix):
        assert read_mmlu_pro([write("gpt4o(2024-05-13)", [entry(1)], suffix)]).labels.index[0] == "gpt4o(2024-05-13)"

    def test_rule_for_duplicates(self, write):
        path = write("m", [entry(1), entry(1, "B"), entry(1, "B")])
        assert read_mmlu_pro([path]).labels.to_numpy().tolist() == [[0]]
        assert read_mmlu_pro([path], duplicates="any").labels.to_numpy().tolist() == [[1]]
        assert read_mmlu_pro([path], duplicates="rows").labels.to_numpy().tolist() == [[1, 0, 0]]
        with pytest.raises(ValueError, match="model 'm' has 3 rows on question '0'"):
            read_mmlu_pro([path], duplicates="error")


class TestFaults:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pred": 3}, "entry 2: pred is a number: correct it, or remove the entry"),
            ({"answer": None}, "entry 2: answer is null"),
            ({"question_id": "seven"}, "entry 2: question_id 'seven' is not a whole number"),
            ({"question_id": True}, "entry 2: question_id is true or false"),
            ({"options": "['this', "}, "entry 2: options \"['this', \" is not a list of options"),
            ({"options": []}, "entry 2: options '[]' is not a list of options"),
            ({"options": {}}, "entry 2: options is an object"),
            ({"category": 1}, "entry 2: category is a number"),
        ],
    )
    def test_field(self, write, change, message):
        path = write("m", [entry(1), entry(2, **change)])
        with pytest.raises(ValueError, match=re.escape(f"{path}, {message}")):
            read_mmlu_pro([path])

    @pytest.mark.parametrize("name", ["pred", "answer", "question", "options", "category", "question_id"])
    def test_missing_field(self, write, name):
        fields = {key: value for key, value in entry(1).items() if key != name}
        path = write("m", [fields])
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))}, entry 1 has no '{name}'; it has \["):
            read_mmlu_pro([path])

    @pytest.mark.parametrize("value", [b"{}", b"[]", b'["total"]', b"null"])
    def test_no_list_of_answers(self, write, value):
        with pytest.raises(ValueError, match="holds no list of answers"):
            read_mmlu_pro([write("m", value)])

    def test_damaged_json(self, write):
        with pytest.raises(ValueError, match=r"model_outputs_m\.json is not JSON"):
            read_mmlu_pro([write("m", b"[{")])

    @pytest.mark.parametrize("inside", [[], ["a.json", "b.json"], ["__MACOSX/a.json"]])
    def test_not_one_json(self, write, inside):
        with pytest.raises(ValueError, match=r"holds [02] JSON files, .*: it must hold one"):
            read_mmlu_pro([write("m", [entry(1)], inside=inside)])

    @pytest.mark.parametrize("kept", [0, 10, 200, -30, -1])
    def test_truncated_zip(self, write, kept):
        path = write("m", [entry(number) for number in range(300)])
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(
            ValueError, match=rf"{re.escape(str(path))} is not a complete zip file .*: download it again"
        ):
            read_mmlu_pro([path])

    def test_every_flipped_byte_is_seen_or_harmless(self, write):
        path = write("m", [entry(number, "AB"[number % 2]) for number in range(40)])
        expected, content = read_mmlu_pro([path]).labels, path.read_bytes()
        for position in range(0, len(content), 7):
            path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
            try:
                assert read_mmlu_pro([path]).labels.equals(expected)
            except ValueError as error:
                assert str(path) in str(error)

    def test_zip_bomb(self, write):
        path = write("m", b"[" + b" " * 20_000_000 + b"]")
        with pytest.raises(ValueError, match=r"expands to more than 200 times its own bytes"):
            read_mmlu_pro([path])

    def test_zip_bomb_that_lies_about_its_size(self, write):
        path = write("m", b"[" + b" " * 10_000_000 + b"]")
        content = path.read_bytes().replace((10_000_002).to_bytes(4, "little"), (50_000).to_bytes(4, "little"))
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a complete zip file"):
            read_mmlu_pro([path])

    def test_encrypted(self, write):
        path = write("m", [entry(1)])
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match="encrypted"):
            read_mmlu_pro([path])

    def test_other_names(self, tmp_path, write):
        path = tmp_path / "answers.zip"
        path.write_bytes(io.BytesIO().getvalue())
        with pytest.raises(ValueError, match=r"answers\.zip is not named model_outputs_MODEL_5shots\.zip"):
            read_mmlu_pro([path])
        with pytest.raises(ValueError, match="are both of model 'm'"):
            read_mmlu_pro([write("m", [entry(1)]), write("m", [entry(1)], "_0shots.zip")])

    def test_unknown_rule(self, write):
        with pytest.raises(ValueError, match=r"no_answer must be one of \['incorrect', 'not observed'\], got 'skip'"):
            read_mmlu_pro([write("m", [entry(1)])], no_answer="skip")


def test_published_files_give_the_labels_of_the_pool(pool_folder):
    folder = pool_folder("mmlu_pro")
    files = sorted(Path(folder, "raw").glob("*.zip"))
    answers, pool = read_mmlu_pro(files), load_dataset(folder)
    assert answers.labels.shape == (2, 12_032)
    expected = pool.subset(models=answers.labels.index)
    assert (answers.labels.to_numpy() == expected.labels).all()
    assert answers.questions["benchmark"].tolist() == expected.benchmarks.tolist()
    assert answers.questions["question_id"].tolist() == expected.questions["question_id"].tolist()
    # A question is worded as in the first file by name; of all 48, for a few that is another one than of these two.
    assert (answers.questions["prompt"] != expected.questions["prompt"].to_numpy()).sum() <= 17
    assert reported(answers)["replies from which no answer could be read"] == (2061, "incorrect")
