"""Communities from the metadata of the models."""

import numpy as np
import pandas as pd

from embedllm.datasets.communities import PAPER, find_communities


class TestFind:
    def test_sizes(self):
        sizes = {"a": 0.5, "b": 0.99, "c": 1.0, "d": 6.5, "e": 7.1, "f": 70, "g": np.nan, "h": 2.5, "i": np.inf}
        found = {c.name: c.members for c in find_communities(pd.DataFrame({"params_b": sizes})) if c.kind == "size"}
        assert list(found) == ["<1B", "1B", "3B", "7B", "13B", "70B"]
        assert found["<1B"] == {"a", "b"}
        assert found["7B"] == {"d", "e"}
        assert found["3B"] == {"h"}
        assert found["13B"] == set()  # one of the paper's

    def test_tags(self):
        tags = {"a": "chat;code", "b": " code ; code", "c": "", "d": None, "e": np.nan, "f": ";math;"}
        frame = pd.DataFrame({"tags": pd.Series(tags, dtype=object)})
        found = {c.name: c.members for c in find_communities(frame) if c.kind == "specialization"}
        assert found == {"biomed": set(), "chat": {"a"}, "code": {"a", "b"}, "math": {"f"}, "physics": set()}

    def test_nothing_known(self):
        found = find_communities(pd.DataFrame(index=["a", "b"]))
        assert {c.name for c in found} == set(PAPER)
        assert not any(c.members for c in found)
