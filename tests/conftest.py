"""Fixtures of the whole-system tests."""

from collections.abc import Iterator

import pytest

from tests.gateway import Gateway, running_gateway


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """One served gateway for all tests that change nothing in it: demo provider, demo key, no cache."""
    with running_gateway({"CACHE_MODE": "none"}) as served:
        yield served
