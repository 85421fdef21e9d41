"""A pool of three models, and a router that was fitted to it."""

import pytest
from fits import exact, sums_and_capitals

from embedllm import Router


@pytest.fixture(scope="module")
def matrix(small_encoder):
    return sums_and_capitals(small_encoder)


@pytest.fixture(scope="module")
def router(matrix, small_encoder):
    return Router.fit(matrix, exact(), encoder=small_encoder, device="cpu")
