"""Several keys of one provider, and a vendor's word on when to come back, through a served gateway."""

from collections.abc import Iterator

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.resilience import (
    CALM,
    ask,
    attempts_of,
    client_of,
    configuration,
    error_of,
    provider,
    route,
    shown,
    text_of,
    told,
    treat,
)
from tests.upstream import FakeVendor, unique

# What a vendor says to one of our keys. One that is refused is refused for all of its account: each of these
# has a provider of its own.
FAULTS = {
    "limited": {"fail": "99x429"},
    "waiting": {"fail": "99x429", "retry_after": "30"},
    "refused": {"fail": "99x401"},
    "barred": {"fail": "99x403"},
    "broke": {"fail": "99x402"},
}
ANSWERED = ("json", "stream")


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    names = [f"{fault}-{kind}" for fault in FAULTS for kind in ANSWERED]
    twins = [*names, "hopeless", "exhausted"]
    providers = [provider(vendor, name, further=["second"]) for name in twins]
    providers += [provider(vendor, "single"), provider(vendor, "after")]
    routes = [route(f"{name}-*", name, "after") for name in twins]
    routes += [
        route("hurried-*", "single", timeouts={"total": 5}),
        route("rescued-*", "single", "after", timeouts={"total": 5}),
    ]
    with running_gateway(CALM, files=configuration(providers, routes)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


@pytest.mark.parametrize("kind", ANSWERED)
@pytest.mark.parametrize("fault", FAULTS)
def test_it_shows_the_second_key_before_it_goes_to_the_next_provider(
    client: httpx.Client, vendor: FakeVendor, fault: str, kind: str
) -> None:
    """While the first one cools, later requests begin with the second."""
    name, stream = f"{fault}-{kind}", kind == "stream"
    model = unique(f"{name}-model")
    treat(vendor, model, name, **FAULTS[fault])
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200, name, "2")
    assert len(text_of(answer).split()) == 20
    assert shown(vendor, model) == [name, f"{name}-second"]
    assert told(ask(client, model, stream=stream)) == (200, name, "1")
    assert shown(vendor, model)[2:] == [f"{name}-second"]


def test_it_goes_to_the_next_provider_when_all_keys_are_refused(
    client: httpx.Client, vendor: FakeVendor, served: Gateway
) -> None:
    model = unique("hopeless-model")
    for each in ("hopeless", "hopeless-second"):
        treat(vendor, model, each, fail="99x401")
    answer = ask(client, model)
    assert told(answer) == (200, "after", "3")
    assert shown(vendor, model) == ["hopeless", "hopeless-second", "after"]
    outcomes = [(each["provider"], each["outcome"]) for each in attempts_of(served, answer)]
    assert outcomes == [*[("hopeless", "upstream_auth_failed")] * 2, ("after", "ok")]
    assert told(ask(client, model)) == (200, "after", "1")


def test_one_models_limit_says_nothing_of_the_next_model(client: httpx.Client, vendor: FakeVendor) -> None:
    """Vendors limit models, but refuse accounts."""
    limited, other = unique("exhausted-model"), unique("exhausted-model")
    for each in ("exhausted", "exhausted-second"):
        treat(vendor, limited, each, fail="99x429", retry_after="60")
    assert told(ask(client, limited)) == (200, "after", "3")
    assert told(ask(client, limited)) == (200, "after", "1")
    assert told(ask(client, other)) == (200, "exhausted", "1")
    assert shown(vendor, other) == ["exhausted"]


@pytest.mark.parametrize("stream", [False, True])
def test_it_asks_again_when_the_vendor_has_said(
    client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    model = unique("hurried-model~fail=1x429~retry_after=1")
    assert told(ask(client, model, stream=stream)) == (200, "single", "2")
    first, second = vendor.asked(model)
    assert second["t"] - first["t"] >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_it_does_not_wait_beyond_the_deadline(client: httpx.Client, vendor: FakeVendor, stream: bool) -> None:
    model = unique("hurried-model~fail=99x429~retry_after=40")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (429, "single", "1")
    assert answer.headers["retry-after"] == "40"
    assert error_of(answer)["type"] == "rate_limit_error"
    # The vendor's word is kept for those who come later: it is not asked at all.
    again = ask(client, model, stream=stream)
    assert (again.status_code, error_of(again)["code"]) == (429, "upstream_rate_limited")
    assert 30 <= int(again.headers["retry-after"]) <= 44  # spread a little, lest all come back at once
    assert len(vendor.asked(model)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("retry_after", [1, 40])
def test_it_asks_the_next_target_rather_than_wait(
    client: httpx.Client, vendor: FakeVendor, retry_after: int, stream: bool
) -> None:
    model = unique(f"rescued-model~fail=1x429~retry_after={retry_after}")
    assert told(ask(client, model, stream=stream)) == (200, "after", "2")
    assert shown(vendor, model) == ["single", "after"]
