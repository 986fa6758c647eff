"""The exact cache of a served gateway: what it answers from, in which form, for whom, and what it forgets."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import ledger, logged
from tests.servers import eventually
from tests.upstream import (
    LIMITED_KEY,
    OTHER_KEY,
    QUIET,
    TEAM_KEY,
    FakeVendor,
    bearer,
    chat,
    data_lines,
    unique,
    wired,
)

CHAT = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    variables = {
        **QUIET,
        "CACHE_MODE": "memory",
        "CACHE_MAX_BYTES": "2MiB",
        "CACHE_EXCLUDE_EXACT": "replay/never-kept, other",
        "CACHE_EXCLUDE_PATTERNS": "-live$,^replay/private",
    }
    with running_gateway(variables, files=wired(vendor)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=bearer(TEAM_KEY), timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def operator(served: Gateway) -> Iterator[AdminSession]:
    session = AdminSession(served)
    yield session
    session.close()


def ask(client: httpx.Client, body: dict[str, Any], **headers: str) -> httpx.Response:
    response = client.post(CHAT, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response


def cache_of(response: httpx.Response) -> str:
    return response.headers["x-gateway-cache"]


def text_of(response: httpx.Response) -> str:
    """Return the answer's text, whichever form it came in."""
    if response.headers["content-type"].startswith("application/json"):
        text: str = response.json()["choices"][0]["message"]["content"]
        return text
    *lines, done = data_lines(response.text.splitlines())
    assert done == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    return "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])


def test_it_answers_a_second_time_from_the_cache(client: httpx.Client, vendor: FakeVendor) -> None:
    body = chat(f"replay/{(model := unique())}")
    first = ask(client, body)
    second = ask(client, body)
    assert (cache_of(first), cache_of(second)) == ("miss", "hit")
    assert "age" not in first.headers
    assert int(second.headers["age"]) >= 0
    assert (first.headers["x-gateway-attempts"], second.headers["x-gateway-attempts"]) == ("1", "0")
    assert second.headers["x-gateway-provider"] == "replay"
    assert second.json() == first.json()
    assert len(vendor.asked(model)) == 1


@pytest.mark.parametrize("first", ["JSON", "stream"])
def test_streams_and_json_share_an_entry(client: httpx.Client, vendor: FakeVendor, first: str) -> None:
    model = unique("synthetic~tokens=12~prompt=5")
    whole = chat(f"replay/{model}")
    stream = {**whole, "stream": True}
    order = [whole, stream, stream, whole] if first == "JSON" else [stream, whole, whole, stream]
    answers = [ask(client, body) for body in order]
    assert [cache_of(each) for each in answers] == ["miss", "hit", "hit", "hit"]
    assert len({text_of(each) for each in answers}) == 1
    assert text_of(answers[0])
    assert len(vendor.asked(model)) == 1
    for answer in answers:
        if answer.headers["content-type"].startswith("application/json"):
            assert answer.json()["usage"]["completion_tokens"] == 12
            assert answer.json()["object"] == "chat.completion"


def test_a_replayed_stream_shows_usage_only_to_those_who_ask(client: httpx.Client) -> None:
    body = chat(f"replay/{unique('synthetic~tokens=4~prompt=3')}", stream=True)
    ask(client, body)
    for options, expected in ((None, False), ({"include_usage": True}, True)):
        response = ask(client, body if options is None else {**body, "stream_options": options})
        assert cache_of(response) == "hit"
        chunks = [json.loads(line) for line in data_lines(response.text.splitlines())[:-1]]
        assert any(chunk.get("usage") for chunk in chunks) is expected
        assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("first", [False, True])
def test_tool_calls_survive_the_change_of_form(client: httpx.Client, first: bool) -> None:
    body = chat(f"replay/{unique('synthetic~tool=2')}", tools=TOOLS)
    ask(client, {**body, "stream": first})
    response = ask(client, {**body, "stream": not first})
    assert cache_of(response) == "hit"
    if first:
        choice = response.json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["look", "look"]
        assert all(
            json.loads(call["function"]["arguments"]) == {} for call in choice["message"]["tool_calls"]
        )
    else:
        chunks = [json.loads(line) for line in data_lines(response.text.splitlines())[:-1]]
        deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
        calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        assert {call["index"] for call in calls} == {0, 1}


def test_embeddings_are_cached(client: httpx.Client) -> None:
    body = {"model": "demo/embed", "input": ["cached", "twice"]}
    first, second = (client.post("/v1/embeddings", json=body) for _ in range(2))
    assert (cache_of(first), cache_of(second)) == ("miss", "hit")
    assert second.json() == first.json()


def test_the_simple_chat_says_what_came_from_the_cache(served: Gateway) -> None:
    with httpx.Client(base_url=served.url) as stranger:
        first, second = (stranger.post("/api/chat", json={"message": "From memory?"}) for _ in range(2))
    assert (first.json()["cached"], second.json()["cached"]) == (False, True)
    assert second.json()["message"] == first.json()["message"]


SAME = {
    "the user": {"user": "someone-else"},
    "metadata": {"metadata": {"trace": "2"}},
    "an explicit stream": {"stream": False},
}
DIFFERENT = {
    "temperature": {"temperature": 0.5},
    "a seed": {"seed": 7},
    "a tool": {"tools": TOOLS},
    "what nobody knows": {"future_parameter": 1},
    "another text": {"messages": [{"role": "user", "content": "Hello there!"}]},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_does_not_shape_an_answer_does_not_split_the_cache(
    client: httpx.Client, change: dict[str, Any]
) -> None:
    body = chat(f"replay/{unique()}")
    ask(client, body)
    # The order of keys is nobody's meaning either.
    assert cache_of(ask(client, dict(reversed({**body, **change}.items())))) == "hit"


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_everything_else_splits_the_cache(client: httpx.Client, change: dict[str, Any]) -> None:
    body = chat(f"replay/{unique()}")
    ask(client, body)
    assert cache_of(ask(client, {**body, **change})) == "miss"


def test_it_obeys_no_store(client: httpx.Client, vendor: FakeVendor) -> None:
    body = chat(f"replay/{(model := unique())}")
    asked = [ask(client, body, **{"cache-control": "no-store"}) for _ in range(2)]
    assert [cache_of(each) for each in asked] == ["bypass", "bypass"]
    assert cache_of(ask(client, body)) == "miss"
    assert cache_of(ask(client, body, **{"cache-control": "no-store"})) == "bypass"
    assert len(vendor.asked(model)) == 4


def test_it_obeys_no_cache(client: httpx.Client, vendor: FakeVendor) -> None:
    body = chat(f"replay/{(model := unique())}")
    ask(client, body)
    renewed = ask(client, body, **{"cache-control": "no-cache"})
    assert cache_of(renewed) == "bypass"
    after = ask(client, body)
    assert cache_of(after) == "hit"
    assert after.json()["id"] == renewed.json()["id"]
    assert len(vendor.asked(model)) == 2


def test_it_obeys_max_age(client: httpx.Client, vendor: FakeVendor) -> None:
    body = chat(f"replay/{unique()}")
    ask(client, body)
    assert cache_of(ask(client, body, **{"cache-control": "max-age=600"})) == "hit"
    assert cache_of(ask(client, body, **{"cache-control": "max-age=0"})) != "hit"
    # What was stored meanwhile is young; a second later it no longer is.
    eventually(
        lambda: int(ask(client, body).headers.get("age", 0)) >= 1, what="an entry that is a second old"
    )
    assert cache_of(ask(client, body, **{"cache-control": "private, max-age=1"})) == "miss"


def test_it_keeps_tenants_apart_and_a_tenants_keys_together(served: Gateway) -> None:
    body = chat("demo/echo", "Whose is this?")
    url = f"{served.url}{CHAT}"
    kept = [
        cache_of(httpx.post(url, json=body, headers=bearer(key)))
        for key in (TEAM_KEY, OTHER_KEY, LIMITED_KEY, OTHER_KEY)
    ]
    assert kept == ["miss", "miss", "hit", "hit"]


def test_a_key_gets_nothing_from_the_cache_that_it_may_not_use(served: Gateway, client: httpx.Client) -> None:
    body = chat(f"replay/{unique()}")
    ask(client, body)
    assert cache_of(ask(client, body)) == "hit"
    assert httpx.post(f"{served.url}{CHAT}", json=body, headers=bearer(LIMITED_KEY)).status_code == 403


@pytest.mark.parametrize("model", ["replay/never-kept", "replay/gpt-live", "replay/private-model"])
def test_it_never_keeps_what_the_environment_excludes(client: httpx.Client, model: str) -> None:
    assert [cache_of(ask(client, chat(model))) for _ in range(2)] == ["bypass", "bypass"]


@pytest.mark.parametrize("row", [("exact", "replay/excluded-later"), ("regex", "excluded-l.*r$")])
def test_it_never_keeps_what_a_row_excludes(
    client: httpx.Client, operator: AdminSession, row: tuple[str, str]
) -> None:
    body = chat("replay/excluded-later", row[0])
    assert [cache_of(ask(client, body)) for _ in range(2)] == ["miss", "hit"]
    operator.save("/proxy/cacheexclusion/add/", kind=row[0], pattern=row[1])
    path = operator.change_path("proxy/cacheexclusion", row[1])
    eventually(lambda: cache_of(ask(client, body)) == "bypass", what="the exclusion", within_s=5)
    operator.submit(path.replace("/change/", "/delete/"), post="yes")
    eventually(lambda: cache_of(ask(client, body)) == "hit", what="the end of the exclusion", within_s=5)


def test_an_operator_purges_the_cache(client: httpx.Client, operator: AdminSession) -> None:
    body = chat(f"replay/{unique()}")
    assert [cache_of(ask(client, body)) for _ in range(2)] == ["miss", "hit"]
    operator.press("/proxy/cacheexclusion/purge_cache/")
    eventually(lambda: cache_of(ask(client, body)) == "miss", what="the purge", within_s=5)
    assert cache_of(ask(client, body)) == "hit"


def test_a_changed_route_has_a_cache_of_its_own(client: httpx.Client, operator: AdminSession) -> None:
    body = chat(unique("pair"))
    assert [cache_of(ask(client, body)) for _ in range(2)] == ["miss", "hit"]
    operator.save(operator.change_path("proxy/route", "pair*"), strategy="least_busy")
    eventually(lambda: cache_of(ask(client, body)) == "miss", what="the change", within_s=5)


def test_a_row_sets_how_long_answers_are_kept(client: httpx.Client, operator: AdminSession) -> None:
    operator.save("/proxy/gatewaysettings/1/change/", cache_ttl_s="1")
    body = chat(f"replay/{unique()}")

    def expires() -> bool:
        ask(client, body)
        return cache_of(ask(client, body)) == "hit" and bool(
            eventually(lambda: cache_of(ask(client, body)) == "miss", what="its end", within_s=5)
        )

    eventually(expires, what="an answer that is kept for a second")
    operator.save("/proxy/gatewaysettings/1/change/", cache_ttl_s="")
    other = chat(f"replay/{unique()}")
    assert [cache_of(ask(client, other)) for _ in range(2)] == ["miss", "hit"]


def refused_twice(client: httpx.Client, body: dict[str, Any]) -> None:
    for _ in range(2):
        response = client.post(CHAT, json=body)
        assert response.headers["x-gateway-cache"] == "miss"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["~fail=1x500", "~finish=content_filter", "~json=trunc", "~huge=1"])
def test_it_keeps_clean_finishes_alone(
    client: httpx.Client, vendor: FakeVendor, fault: str, stream: bool
) -> None:
    name = "brief/" if fault == "~fail=1x500" else "replay/"
    body = chat(name + (model := unique(f"synthetic{fault}")), stream=stream)
    if fault == "~fail=1x500":
        # A retry's answer is as good as a first one's.
        assert [cache_of(ask(client, body)) for _ in range(2)] == ["miss", "hit"]
        assert len(vendor.asked(model)) == 2
    else:
        refused_twice(client, body)


def test_it_keeps_no_stream_that_broke_or_was_left(client: httpx.Client, vendor: FakeVendor) -> None:
    refused_twice(client, chat(f"replay/{unique('synthetic~tokens=30~end=3000')}", stream=True))
    body = chat(f"replay/{(model := unique('synthetic~tokens=100~delay=30'))}", stream=True)
    with client.stream("POST", CHAT, json=body) as response:
        next(response.iter_raw())
    vendor.wait_for_outcome(model, "client-gone")
    with client.stream("POST", CHAT, json=body) as response:
        assert cache_of(response) == "miss"


def test_a_hit_costs_nothing_and_is_counted(served: Gateway, client: httpx.Client) -> None:
    body = chat(f"replay/{unique('synthetic~prompt=11~tokens=3')}")
    ask(client, body)
    before = hits(served)
    hit = ask(client, body)
    assert cache_of(hit) == "hit"
    row = logged(served, hit.headers["x-request-id"])
    assert (row["cache"], row["outcome"], row["cost_nanousd"]) == ("hit", "ok", 0)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (11, 3)
    assert json.loads(row["attempts"]) == []
    assert not [entry for entry in ledger(served, row["completion_id"]) if entry["cost_nanousd"]]
    assert hits(served) == before + 1


def hits(gateway: Gateway) -> float:
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith('gateway_cache_total{result="hit"}')
    )
