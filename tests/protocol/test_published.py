"""The list of published values."""

import pytest
import yaml

from embedllm import load_published

ENTRY = {"key": "dim", "figure": "Size", "value": 232, "unit": "", "where": "x", "seen_in": "y", "verified": True}


class TestPublished:
    def test_own_list_is_complete(self):
        table = load_published()
        assert table.index.is_unique
        assert list(table.columns) == ["figure", "value", "unit", "where", "seen_in", "verified"]
        assert table.drop(columns="unit").notna().all(axis=None)
        assert table.loc["mf_accuracy", "value"] == 74.09
        assert table.loc["knn_accuracy", "value"] == 71.52
        # A number counts as verified only where its own record was read.
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
            ([ENTRY | {"page 3": None}], r"own\.yml, entry 1 \(dim\) has unknown keys \['page 3'\]: quote texts"),
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
