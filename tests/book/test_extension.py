"""What the extension offers to the pages."""

import pandas as pd

from embedllm.book.extension import published_table


def test_published_table_escapes_its_delimiter():
    entry = {"figure": "p|q", "value": 74.09, "unit": "%", "where": "paper", "seen_in": "a summary", "verified": False}
    table = published_table(pd.DataFrame([entry], ["accuracy"])).splitlines()
    assert table[0] == "| published | value | where | seen in |"
    assert table[2] == "| p&#124;q | 74.09 % (unverified) | paper | a summary |"
