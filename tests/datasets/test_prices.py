"""Tables of prices: what is not known is an error or a default that is named, never free."""

import numpy as np
import pandas as pd
import pytest

from embedllm.datasets.prices import affordable, complete_prices, price_penalties, read_prices


def test_table_is_read(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("price,note,model\n0.5,x,a\n,unknown,b\n2e-3,,模型\n0,free,c\n", encoding="utf-8")
    assert read_prices(path) == {"a": 0.5, "模型": 0.002, "c": 0.0}
    pd.DataFrame({"model": ["a"], "price": ["0.5"]}).to_parquet(tmp_path / "prices.parquet")
    assert read_prices(tmp_path / "prices.parquet") == {"a": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,price\na,1\nb,free\n", "prices.csv, row 2: 'free' is not a price: use a number of at least 0"),
        ("model,price\na,-1\n", "row 1: '-1' is not a price"),
        ("model,price\na,inf\n", "row 1: 'inf' is not a price"),
        ("model,price\na,1\na,2\n", "row 2: model 'a' occurs twice: remove one"),
        ("model,cost\na,1\n", "'price'"),
    ],
)
def test_bad_table_is_named(tmp_path, content, message):
    (tmp_path / "prices.csv").write_text(content)
    with pytest.raises(ValueError) as caught:
        read_prices(tmp_path / "prices.csv")
    assert message in str(caught.value)


class TestComplete:
    def test_in_the_order_of_the_models(self):
        found = complete_prices({"a": 1, "b": 0, "other": -5}, ["b", "a"])
        assert found.index.tolist() == ["b", "a"]
        assert found.tolist() == [0, 1]
        assert found.dtype == float

    @pytest.mark.parametrize("prices", [{"a": 1.0}, {"a": 1.0, "b": None}, pd.Series({"a": 1.0, "b": np.nan})])
    def test_unknown_is_an_error_or_the_default(self, prices):
        with pytest.raises(ValueError, match=r"no price of model 'b' is known: add it .*--default-price.*--exclude"):
            complete_prices(prices, ["a", "b"])
        assert complete_prices(prices, ["a", "b"], default=7).to_dict() == {"a": 1, "b": 7}

    @pytest.mark.parametrize("price", [-1, float("inf"), "1", True])
    def test_what_is_no_price(self, price):
        with pytest.raises(ValueError, match=r"the price of model 'a' is .*: use a number of at least 0"):
            complete_prices({"a": price}, ["a"])
        with pytest.raises(ValueError, match="the price of model 'a' is "):
            complete_prices({}, ["a"], default=price)


def test_affordable():
    prices = pd.Series({"a": 0.1, "b": 0.3, "c": 2.0})
    assert affordable(prices).equals(prices)
    assert affordable(prices, 0.3).index.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"no model costs at most 0.05; the cheapest, 'a', costs 0.1: raise max_cost"):
        affordable(prices, 0.05)


def test_penalties():
    assert price_penalties(np.array([2.0, 5.0]), 0.1).tolist() == pytest.approx([0, 0.3])
    for tradeoff in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="tradeoff must be a finite number of at least 0, got"):
            price_penalties(np.array([1.0]), tradeoff)
