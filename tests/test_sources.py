"""Named data sets, the paper's release through a stand-in for the Hub, and the published figures."""

import os
import subprocess
import sys
from importlib import resources

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from embedllm import CorrectnessMatrix, load_dataset, load_published
from embedllm.longform import benchmark_of
from embedllm.simulate import simulate_pool

CATALOGUE = yaml.safe_load(resources.files("embedllm.data").joinpath("sources.yml").read_text(encoding="utf-8"))
RELEASE = CATALOGUE["embedllm"]


class TestNames:
    def test_simulated_is_the_default(self, assert_same):
        expected = simulate_pool(scale=0.01, random_state=5)[0]
        assert_same(load_dataset("simulated", scale=0.01, random_state=5), expected)
        assert_same(load_dataset(scale=0.01, random_state=5), expected)

    @pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "Path"])
    def test_folder(self, tmp_path, toy, write_long_form, assert_same, kind):
        folder = write_long_form(tmp_path / "own", toy)
        assert_same(load_dataset(kind(folder)).subset(), load_dataset(folder))
        np.testing.assert_array_equal(load_dataset(kind(folder)).labels, toy.labels)

    def test_relative_folder(self, tmp_path, toy, write_long_form, monkeypatch):
        write_long_form(tmp_path / "own", toy)
        monkeypatch.chdir(tmp_path)
        np.testing.assert_array_equal(load_dataset("own").labels, toy.labels)

    @pytest.mark.parametrize("name", ["simulted", "no/such/folder"])
    def test_unknown_name_says_what_there_is(self, name):
        with pytest.raises(
            FileNotFoundError, match=f"no data set '{name}': use 'simulated', 'embedllm' or an existing folder"
        ):
            load_dataset(name)

    def test_file_is_no_folder(self, tmp_path):
        (tmp_path / "answers.csv").touch()
        with pytest.raises(FileNotFoundError, match="existing folder"):
            load_dataset(tmp_path / "answers.csv")


@pytest.fixture
def released(toy, tmp_path, write_csv):
    """The toy in the form of the paper's release: its columns, an unnamed index, embeddings as .pth, a split."""
    split = np.array(["train"] * 32 + ["val"] * 4 + ["test"] * 4)
    ids = [str(number) for number in range(40)]
    category = ["mmlu_anatomy" if benchmark == "bench-0" else "piqa" for benchmark in toy.benchmarks]
    for part in ("train", "val", "test"):
        rows = [["prompt_id", "model_id", "model_name", "category_id", "category", "label", "prompt"]]
        for q in np.flatnonzero(split == part):
            # In the release model ids need not be the same in every file: the name counts.
            for number, m in enumerate(np.random.default_rng(q).permutation(6)):
                rows.append([q, number, toy.model_names[m], q % 2, category[q], toy.labels[m, q], f"Question\n{q}?"])
        write_csv(tmp_path / f"{part}.csv", rows)
    models = [["", "model_id", "model_name"], *([m, m, name] for m, name in enumerate(toy.model_names))]
    write_csv(tmp_path / "model_order.csv", models)
    write_csv(tmp_path / "question_order.csv", [["prompt_id", "prompt"], *([i, f"Question\n{i}?"] for i in ids)])
    torch.save(torch.tensor(toy.embeddings), tmp_path / "question_embeddings.pth")
    questions = pd.DataFrame(
        {
            "benchmark": ["MMLU" if name == "mmlu_anatomy" else "PIQA" for name in category],
            "split": split,
            "prompt": [f"Question\n{i}?" for i in ids],
        },
        index=ids,
    )
    return tmp_path, CorrectnessMatrix(pd.DataFrame(toy.labels, toy.model_names, ids), questions, toy.embeddings)


class TestRelease:
    def test_asks_for_the_pinned_revision_and_the_needed_files_only(self, released, monkeypatch, assert_same):
        folder, expected = released
        asked = []

        def snapshot_download(repo_id, **rest):
            asked.append((repo_id, rest))
            return str(folder)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        matrix = load_dataset("embedllm")
        assert asked == [
            (
                RELEASE["repository"],
                {"repo_type": "dataset", "revision": RELEASE["revision"], "allow_patterns": RELEASE["files"]},
            )
        ]
        categories = matrix.questions.pop("category")
        assert categories.map(benchmark_of).tolist() == expected.benchmarks.tolist()
        assert_same(matrix, expected)
        assert RELEASE["repository"] in matrix.source
        assert RELEASE["revision"] in matrix.source

    def test_what_is_asked_for_is_what_the_reader_needs(self, released):
        folder, _ = released
        # The gigabytes of the release that are not needed stay where they are.
        assert set(RELEASE["files"]) == {path.name for path in folder.iterdir()}
        for path in list(folder.iterdir()):
            hidden = path.rename(path.with_suffix(".hidden"))
            with pytest.raises(FileNotFoundError):
                load_dataset(folder)
            hidden.rename(path)

    @pytest.mark.parametrize("kind", ["not cached", "network", "proxy"])
    def test_failure_says_what_to_do(self, monkeypatch, kind):
        if kind == "not cached":
            from huggingface_hub.errors import LocalEntryNotFoundError

            failure = LocalEntryNotFoundError("x")
        elif kind == "network":
            failure = OSError("x")
        else:
            # Of the errors of the HTTP client, snapshot_download hands this one on; it is no OSError.
            failure = pytest.importorskip("httpx2").ProxyError("x")

        def snapshot_download(*_, **__):
            raise failure

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        with pytest.raises(
            ConnectionError, match="connect this machine, set HF_ENDPOINT to a mirror, or copy"
        ) as error:
            load_dataset("embedllm")
        assert RELEASE["repository"] in str(error.value)
        assert error.value.__cause__ is failure

    def test_real_client_without_a_network(self, tmp_path):
        # The address is of this machine and nothing listens there; the client reads it when it is imported.
        environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
        for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            environment.pop(proxy, None)
        code = "from embedllm import load_dataset\nload_dataset('embedllm')"
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert run.returncode != 0
        assert "ConnectionError: the data set" in run.stderr
        assert "connect this machine" in run.stderr

    def test_local_data_needs_no_client(self, tmp_path, toy, write_long_form):
        folder = write_long_form(tmp_path / "own", toy)
        code = f"import sys\nfrom embedllm import load_dataset\nload_dataset({str(folder)!r})\nprint(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "embedllm.longform" in run.stdout.split()
        assert "huggingface_hub" not in run.stdout.split()


ENTRY = {"key": "dim", "figure": "Size", "value": 232, "unit": "", "where": "x", "seen_in": "y", "verified": True}


class TestPublished:
    def test_own_list_is_complete(self):
        table = load_published()
        assert table.index.is_unique
        assert list(table.columns) == ["figure", "value", "unit", "where", "seen_in", "verified"]
        assert table.drop(columns="unit").notna().all(axis=None)
        assert table.loc["mf_accuracy", "value"] == 74.09
        assert table.loc["knn_accuracy", "value"] == 71.52
        # A figure counts as verified only where its own record was read.
        assert not table[table["seen_in"].str.contains("secondary")]["verified"].any()

    def test_list_of_ones_own(self, tmp_path):
        (tmp_path / "own.yml").write_text(yaml.safe_dump([ENTRY]))
        table = load_published(tmp_path / "own.yml")
        assert table.index.tolist() == ["dim"]
        assert table.loc["dim", "value"] == 232

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ([{key: ENTRY[key] for key in ENTRY if key != "unit"}], r"own\.yml, entry 1 \(dim\) lacks unit"),
            ([{key: ENTRY[key] for key in ENTRY if key != "key"}], r"own\.yml, entry 1 \(None\) lacks key"),
            ([ENTRY, ENTRY], r"own\.yml, entry 2 \(dim\): a key is of letters, .* occurs once"),
            ([ENTRY | {"key": "two words"}], r"own\.yml, entry 1 \(two words\): a key is of letters"),
            ([ENTRY | {"verified": "yes"}], r"own\.yml, entry 1 \(dim\): verified is 'yes', not true or false"),
        ],
    )
    def test_malformed_entry_is_named(self, tmp_path, entries, message):
        (tmp_path / "own.yml").write_text(yaml.dump(entries, Dumper=yaml.SafeDumper))
        with pytest.raises(ValueError, match=message):
            load_published(tmp_path / "own.yml")

    def test_missing_list(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load_published(tmp_path / "nowhere.yml")
