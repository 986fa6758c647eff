"""Fixtures of the whole-system tests."""

from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter
from anthropic import Anthropic
from openai import OpenAI

from tests import sizes
from tests.dialects import all_dialects, dropping_at, providers_at
from tests.gateway import Gateway, running_gateway
from tests.rawhttp import RawConnection, connection
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, fake_vendor, wired


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """At full size, tell the counts that were run."""
    if sizes.SOAK and sizes.sizes:
        terminalreporter.section("counts")
        for line in sizes.table():
            terminalreporter.write_line(line)


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


@pytest.fixture(scope="session")
def every_dialect(vendor: FakeVendor) -> Iterator[Gateway]:
    """One served gateway with a provider of each dialect, all at the fake vendor; each is tried once."""
    providers = [*providers_at(vendor.url), *dropping_at(vendor.url)]
    files = all_dialects(vendor.url, providers=providers)
    with running_gateway({**QUIET, "MAX_RETRIES": "1"}, files=files) as served:
        yield served


@pytest.fixture(scope="session")
def openai_sdk(every_dialect: Gateway) -> Iterator[OpenAI]:
    """OpenAI's SDK, before `every_dialect`: what fails is not tried again."""
    url = f"{every_dialect.url}/v1"
    with OpenAI(base_url=url, api_key=every_dialect.key, max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture(scope="session")
def anthropic_sdk(every_dialect: Gateway) -> Iterator[Anthropic]:
    """Anthropic's SDK, likewise."""
    url = every_dialect.url
    with Anthropic(base_url=url, api_key=every_dialect.key, max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def kept_alive(wired_gateway: Gateway) -> Iterator[RawConnection]:
    """One connection for all tests of a module: each leaves it usable for the next."""
    with connection(wired_gateway) as opened:
        yield opened
