"""Fixtures of the whole-system tests."""

from collections.abc import Iterator

import pytest

from tests.gateway import Gateway, running_gateway
from tests.rawhttp import RawConnection, connection
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, fake_vendor, wired


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """One served gateway for all tests that change nothing in it: demo provider, demo key, no cache."""
    with running_gateway({"CACHE_MODE": "none"}) as served:
        yield served


@pytest.fixture(scope="session")
def vendor() -> Iterator[FakeVendor]:
    """The conformance kit's fake vendor: replays, makes up answers, and breaks them on demand."""
    with fake_vendor() as running:
        yield running


@pytest.fixture(scope="session")
def wired_gateway(vendor: FakeVendor) -> Iterator[Gateway]:
    """One served gateway before the fake vendor, for all tests that change nothing in it."""
    with running_gateway({**QUIET, "MAX_BODY_BYTES": "64KiB"}, files=wired(vendor)) as served:
        served.key = TEAM_KEY
        yield served


@pytest.fixture(scope="module")
def kept_alive(wired_gateway: Gateway) -> Iterator[RawConnection]:
    """One connection for all tests of a module: each leaves it usable for the next."""
    with connection(wired_gateway) as opened:
        yield opened
