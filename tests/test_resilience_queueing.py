"""Calls wait in line for a busy provider, fairly, and for a vendor's quota; the line has an end."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import logged
from tests.resilience import (
    CALM,
    KEY,
    SECOND_KEY,
    ask,
    client_of,
    configuration,
    error_of,
    metric,
    provider,
    route,
    shown,
    told,
    treat,
)
from tests.servers import eventually
from tests.upstream import FakeVendor, bearer, unique

STREAMED = pytest.mark.parametrize("stream", [False, True])
SLOW = "synthetic~first=800"


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    providers = [
        provider(vendor, "narrow", max_concurrency=2, max_queue=3),
        provider(vendor, "fair", max_concurrency=1, max_queue=100, queue_timeout=60),
        provider(vendor, "hasty", max_concurrency=1, max_queue=10, queue_timeout=0.3),
        provider(vendor, "grown", max_concurrency=1, max_queue=0),
        provider(vendor, "metered"),
        provider(vendor, "spare"),
    ]
    routes = [route("relieved*", "grown", "spare"), route("metered*", "metered")]
    routes += [
        route("helped*", "metered", "spare"),
        route("pressed*", "metered", timeouts={"total": 5}),
    ]
    tenants = [{"name": "team", "queue_weight": 1}, {"name": "other", "queue_weight": 3}]
    files = configuration(providers, routes, tenants=tenants)
    with running_gateway(CALM, files=files) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


def at_once(client: httpx.Client, model: str, count: int, **more: Any) -> list[httpx.Response]:
    """Send so many requests at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: ask(client, model, **more), range(count)))


@STREAMED
def test_the_line_has_an_end(client: httpx.Client, served: Gateway, vendor: FakeVendor, stream: bool) -> None:
    """Two are served, three wait, and the others are told when to come back."""
    refused, waited = (
        'gateway_queue_refused_total{provider="narrow"}',
        'gateway_queue_wait_seconds_count{provider="narrow"}',
    )
    before = metric(served, refused), metric(served, waited)
    model = unique(SLOW)
    answers = at_once(client, f"narrow/{model}", 10, stream=stream)
    counted = Counter(answer.status_code for answer in answers)
    assert counted == {200: 5, 503: 5}
    for answer in answers:
        if answer.status_code == 503:
            assert error_of(answer)["code"] == "provider_busy"
            assert int(answer.headers["retry-after"]) >= 1
    entries = vendor.asked(model)
    assert len(entries) == 5
    eventually(
        lambda: (metric(served, refused), metric(served, waited)) == (before[0] + 5, before[1] + 3),
        what="the counts",
    )
    assert metric(served, 'gateway_queue_depth{provider="narrow"}') == 0
    # Records tell how long each has waited: that is no time of the gateway's own.
    rows = [logged(served, each.headers["x-request-id"]) for each in answers if each.status_code == 200]
    queued = [row for row in rows if row["queue_ms"] is not None]
    assert len(queued) == 3
    assert all(row["queue_ms"] > 400 for row in queued)  # behind calls of twice that
    assert all(row["queue_ms"] + row["overhead_ms"] <= row["latency_ms"] for row in queued)


def test_never_more_are_at_the_vendor_than_may_be(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("synthetic~first=100")
    answers = at_once(client, f"narrow/{model}", 5)
    assert {answer.status_code for answer in answers} == {200}
    spans = [(each["t"], each["t"] + each["ms"] / 1000) for each in vendor.asked(model)]
    for began, _ in spans:
        assert sum(start <= began < end for start, end in spans) <= 2


def test_a_call_waits_only_for_so_long(client: httpx.Client, vendor: FakeVendor) -> None:
    slow, late = unique("synthetic~first=3000"), unique()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client, f"hasty/{slow}")
        eventually(lambda: vendor.asked(slow), what="the slow call")
        answer = ask(client, f"hasty/{late}")
        assert (answer.status_code, error_of(answer)["code"]) == (503, "provider_busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert first.result().status_code == 200
    assert not vendor.asked(late)


def test_a_busy_target_gives_way_to_the_next(client: httpx.Client, vendor: FakeVendor) -> None:
    """Whoever is free is asked before anybody waits."""
    slow = unique("synthetic~first=2000")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client, f"grown/{slow}")
        eventually(lambda: vendor.asked(slow), what="the slow call")
        assert told(ask(client, unique("relieved"))) == (200, "spare", "1")
        assert first.result().status_code == 200
    assert told(ask(client, unique("relieved"))) == (200, "grown", "1")


def test_tenants_share_a_line_by_their_weights(served: Gateway, vendor: FakeVendor) -> None:
    """Of the first turns three in four are the one's whose weight is three; in the end all are served."""
    models = {KEY: unique("synthetic~first=15"), SECOND_KEY: unique("synthetic~first=15")}
    holding = unique("synthetic~first=2500")
    with (
        httpx.Client(base_url=served.url, timeout=60, limits=httpx.Limits(max_connections=100)) as client,
        ThreadPoolExecutor(50) as pool,
    ):

        def send(key: str, model: str) -> int:
            body = {"model": f"fair/{model}", "messages": [{"role": "user", "content": "Hello"}]}
            return client.post("/v1/chat/completions", json=body, headers=bearer(key)).status_code

        first = pool.submit(send, KEY, holding)
        eventually(lambda: vendor.asked(holding), what="the call that holds the slot")
        sent = [pool.submit(send, key, model) for _ in range(20) for key, model in models.items()]
        depth = 'gateway_queue_depth{provider="fair"}'
        eventually(lambda: metric(served, depth) == 40 or first.done(), what="the line")
        assert not first.done(), "the line was too slow to form"
        assert {each.result() for each in [first, *sent]} == {200}
    turns = [
        name
        for _, name in sorted(
            (entry["seq"], key) for key, model in models.items() for entry in vendor.asked(model)
        )
    ]
    assert len(turns) == 40
    assert 14 <= turns[:20].count(SECOND_KEY) <= 16


# ---------------------------------------------------------------- the vendor's own limits


@STREAMED
def test_it_waits_for_a_vendors_quota_instead_of_collecting_a_refusal(
    client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    """Nothing is left for a second, says the answer: the next call goes out when there is."""
    model = unique("metered")
    spent_after(vendor, model, reset="1s", stream=stream)
    assert told(ask(client, model, stream=stream)) == (200, "metered", "1")
    assert told(ask(client, model, stream=stream)) == (200, "metered", "1")
    first, second = vendor.asked(model)
    assert second["t"] - first["t"] >= 1


def test_those_who_wait_for_a_quota_do_not_all_go_at_once(client: httpx.Client, vendor: FakeVendor) -> None:
    """One a second is the vendor's limit, and none of them is refused."""
    model = unique("metered")
    spent_after(vendor, model, reset="1s")
    assert told(ask(client, model)) == (200, "metered", "1")
    assert {told(each) for each in at_once(client, model, 3)} == {(200, "metered", "1")}
    times = sorted(each["t"] for each in vendor.asked(model))
    assert min(after - before for before, after in pairwise(times)) >= 0.9


@STREAMED
def test_a_spent_quota_sends_calls_to_the_next_target(
    client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    model = unique("helped")
    spent_after(vendor, model, reset="50s", stream=stream)
    assert told(ask(client, model, stream=stream)) == (200, "metered", "1")
    assert told(ask(client, model, stream=stream)) == (200, "spare", "1")
    assert shown(vendor, model) == ["metered", "spare"]


def test_a_spent_quota_beyond_the_deadline_is_told(client: httpx.Client, vendor: FakeVendor) -> None:
    """The vendor would have said the same, one call later."""
    model = unique("pressed")
    spent_after(vendor, model, reset="50s")
    assert told(ask(client, model)) == (200, "metered", "1")
    answer = ask(client, model)
    assert (answer.status_code, error_of(answer)["code"]) == (429, "upstream_rate_limited")
    assert 40 <= int(answer.headers["retry-after"]) <= 55
    assert len(vendor.asked(model)) == 1


def spent_after(vendor: FakeVendor, model: str, *, reset: str, stream: bool = False) -> None:
    """Have an answer of the provider say that its quota of one call is used up until its reset."""
    headers = {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": reset,
    }
    head = {"id": "chatcmpl-spent", "object": "chat.completion.chunk", "created": 1, "model": "spent"}
    if stream:
        said = {"index": 0, "delta": {"role": "assistant", "content": "spent"}, "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        events = [f"data: {json.dumps({**head, 'choices': [each]})}\n\n" for each in (said, last)]
        body, kind = "".join([*events, "data: [DONE]\n\n"]), "text/event-stream"
    else:
        message = {"role": "assistant", "content": "spent"}
        answer = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({**head, "object": "chat.completion", "choices": [answer]})
        kind = "application/json"
    case = f"spent-{reset}-{'stream' if stream else 'json'}"
    vendor.learn(case, provider="openai", status=200, body=body, content_type=kind, headers=headers)
    treat(vendor, model, "metered", case=case)


# ---------------------------------------------------------------- operators


def test_an_operator_widens_a_provider(client: httpx.Client, served: Gateway) -> None:
    """In the admin, in force within a second: who waits goes in at once."""
    operator = AdminSession(served)
    path = operator.change_path("providers/provider", "grown")
    assert Counter(each.status_code for each in at_once(client, f"grown/{unique(SLOW)}", 4))[503] == 3
    operator.save(path, max_concurrency="4")
    eventually(
        lambda: {each.status_code for each in at_once(client, f"grown/{unique(SLOW)}", 4)} == {200},
        what="the wider gate",
    )
    operator.close()
