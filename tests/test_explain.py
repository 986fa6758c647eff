"""Explanations of a served gateway, held against what then becomes of the very same requests."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import ledger, logged, rows
from tests.servers import CHECKOUT, eventually
from tests.upstream import bearer, chat

CHAT, EXPLAIN = "/v1/chat/completions", "/api/v1/explain"
KEY, NARROW = "the-key-of-explanations-01234", "a-narrow-key-of-explanations-01"
WORDS = "6 words 0ms"
CONFIGURATION: dict[str, Any] = {
    "version": 1,
    "providers": [
        {"name": "demo", "dialect": "openai", "base_url": "demo://"},
        {"name": "spare", "dialect": "openai", "base_url": "demo://"},
        {"name": "failing", "dialect": "openai", "base_url": "demo://", "faults": {"status": 503}},
        {"name": "mirror", "dialect": "openai", "base_url": "demo://"},
    ],
    "routes": [
        {"match": "plain", "targets": [{"provider": "demo", "model": "lorem"}]},
        {
            "match": "rescued",
            "targets": [
                {"provider": "failing", "model": "lorem"},
                {"provider": "spare", "model": "lorem"},
            ],
        },
        {
            "match": "narrow",
            "targets": [
                {"provider": "demo", "model": "lorem", "context_window": 10},
                {"provider": "spare", "model": "lorem"},
            ],
        },
        {
            "match": "session",
            "sticky": "user",
            "targets": [{"provider": "demo", "model": "lorem"}, {"provider": "spare", "model": "lorem"}],
        },
        {
            "match": "mirrored",
            "targets": [{"provider": "demo", "model": "lorem"}],
            "shadow": [{"provider": "mirror", "model": "lorem"}],
        },
    ],
    "prices": [
        {"provider": name, "model": "lorem", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
        for name in ("demo", "mirror")
    ],
    "tenants": [{"name": "team"}],
    "keys": [
        {"name": "explaining", "tenant": "team", "secret": KEY},
        {"name": "narrow", "tenant": "team", "secret": NARROW, "allowed_models": ["other*"]},
    ],
}


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    variables = {"CACHE_MODE": "memory", "CB_ERROR_THRESHOLD": "1", "RPM_LIMIT": "6000"}
    with running_gateway(variables, files={"config.yaml": yaml.safe_dump(CONFIGURATION)}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=bearer(KEY), timeout=60) as made:
        assert made.post(CHAT, json=chat("demo/echo")).status_code == 200  # it serves by now
        yield made


def explain(client: httpx.Client, body: Any, **question: Any) -> dict[str, Any]:
    answer = client.post(EXPLAIN, json={"body": body, **question})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["health"] == "live"
    return told


def first(told: dict[str, Any]) -> tuple[str, str]:
    return told["verdict"]["provider"], told["verdict"]["model"]


def by(answer: httpx.Response) -> tuple[str, str]:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gateway-provider"], answer.headers["x-gateway-model"]


@pytest.mark.parametrize("model", ["plain", "narrow", "demo/echo"])
def test_it_goes_where_the_explanation_says(client: httpx.Client, served: Gateway, model: str) -> None:
    body = chat(model, WORDS)
    told = explain(client, body)
    answer = client.post(CHAT, json=body)
    assert by(answer) == first(told)
    assert answer.headers["x-gateway-cache"] == "miss"
    row = logged(served, answer.headers["x-request-id"])
    assert row["route"] == told["route"]["id"]


def test_the_cache_has_what_the_explanation_says(client: httpx.Client) -> None:
    body = chat("plain", f"{WORDS} of the cache")
    before = explain(client, body)
    assert (before["cache"]["stored"], before["cache"]["hit"]) == (False, False)
    assert client.post(CHAT, json=body).headers["x-gateway-cache"] == "miss"
    after = explain(client, {**body, "stream": True})
    assert after["cache"]["key"] == before["cache"]["key"]
    assert after["verdict"]["kind"] == "cached"
    assert client.post(CHAT, json=body).headers["x-gateway-cache"] == "hit"
    bypassing = {"cache-control": "no-store"}
    assert "no-store" in explain(client, body, headers=bypassing)["cache"]["bypassed_because"]
    assert client.post(CHAT, json=body, headers=bypassing).headers["x-gateway-cache"] == "bypass"


def test_an_open_breaker_is_explained_and_passed_over(client: httpx.Client) -> None:
    body = chat("rescued", f"{WORDS} after a failure")
    assert first(explain(client, body)) == ("failing", "lorem")
    answer = client.post(CHAT, json=body)
    assert (by(answer), answer.headers["x-gateway-attempts"]) == (("spare", "lorem"), "2")
    other = chat("rescued", f"{WORDS} with an open breaker")
    told = explain(client, other)
    assert first(told) == ("spare", "lorem")
    skipped = next(each for each in told["targets"] if each["provider"] == "failing")
    assert skipped["state"] == "skipped"
    assert skipped["reasons"][0].startswith("its circuit breaker is open for")
    answer = client.post(CHAT, json=other)
    assert (by(answer), answer.headers["x-gateway-attempts"]) == (("spare", "lorem"), "1")


@pytest.mark.parametrize("session", ["alice", "bob", "carol", "dave"])
def test_a_session_goes_where_the_explanation_says(client: httpx.Client, session: str) -> None:
    body = chat("session", f"{WORDS} for {session}", user=session)
    told = explain(client, body)
    assert by(client.post(CHAT, json=body)) == first(told)


def test_it_costs_what_the_explanation_allows(client: httpx.Client, served: Gateway) -> None:
    body = chat("plain", f"{WORDS} for a price", max_tokens=50)
    price = explain(client, body)["targets"][0]["price"]
    row = logged(served, client.post(CHAT, json=body).headers["x-request-id"])
    (entry,) = ledger(served, row["completion_id"])
    assert 0 < entry["cost_nanousd"] <= float(price["at_most_usd"]) * 1e9


@pytest.mark.parametrize("model", ["plain", "nothing-is-called-so"])
def test_a_refusal_is_what_the_explanation_says(client: httpx.Client, model: str) -> None:
    for body in (chat(model), {"model": model, "messages": "no list"}):
        verdict = explain(client, body, key="")["verdict"]
        narrow = client.post(EXPLAIN, json={"body": body}, headers=bearer(NARROW)).json()["verdict"]
        answer = client.post(CHAT, json=body, headers=bearer(NARROW))
        error = answer.json()["error"]
        told = {name: narrow[name] for name in error}
        assert (narrow["status"], told) == (answer.status_code, error)
        assert verdict["kind"] in ("asked", "refused", "cached")


def test_nothing_is_sent_or_recorded_for_an_explanation(client: httpx.Client, served: Gateway) -> None:
    marker = "nobody has ever seen this"
    for _ in range(3):
        explain(client, chat("plain", marker))
    answer = client.post(CHAT, json=chat("demo/echo", f"after {marker}"))
    logged(served, answer.headers["x-request-id"])
    assert not rows(served, "SELECT id FROM analytics_requestlog WHERE endpoint LIKE '%explain%'")
    assert client.post(CHAT, json=chat("plain", marker)).headers["x-gateway-cache"] == "miss"


def test_an_operator_explains_in_the_admin(client: httpx.Client, served: Gateway) -> None:
    operator = AdminSession(served)
    key = rows(served, "SELECT id FROM keys_apikey WHERE name = 'narrow'")[0]["id"]
    page = operator.submit(
        "/proxy/route/explain/", body=json.dumps(chat("plain")), headers="", key=str(key)
    ).text
    assert "It is refused. 403 model_not_allowed" in page
    page = operator.submit(
        "/proxy/route/explain/", body=json.dumps(chat("mirrored")), headers="", key=""
    ).text
    assert "demo/lorem is asked first." in page
    assert "gets a copy of 100 % of the requests" in page.lower()
    for secret in (KEY, NARROW):
        assert secret not in page
    operator.close()


def test_a_mirrored_request_is_recorded_beside_its_own(client: httpx.Client, served: Gateway) -> None:
    headers = {"x-request-id": "mirrored-once"}
    answer = client.post(CHAT, json=chat("mirrored", f"{WORDS} twice"), headers=headers)
    assert by(answer) == ("demo", "lorem")
    sql = "SELECT * FROM analytics_requestlog WHERE request_id = ?"
    eventually(lambda: len(rows(served, sql, "mirrored-once")) == 2, what="both records", within_s=20)
    found = {row["route"]: row for row in rows(served, sql, "mirrored-once")}
    own, shadow = found["exact:mirrored"], found["shadow:exact:mirrored"]
    assert (shadow["provider"], shadow["key_ref"], shadow["tenant_ref"]) == ("mirror", None, None)
    assert own["key_ref"] is not None
    (entry,) = ledger(served, shadow["completion_id"])
    assert entry["kind"] == "shadow"
    assert entry["cost_nanousd"] == ledger(served, own["completion_id"])[0]["cost_nanousd"] > 0
    metrics = client.get("/metrics").text
    assert 'gateway_shadow_total{outcome="ok",provider="mirror"} 1.0' in metrics


# ---------------------------------------------------------------- docs/operations.md


def test_the_documented_question_is_answered(served: Gateway) -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    section = text.partition("## Explain a request")[2].partition("\n## ")[0]
    pattern = r"^<!-- run by: tests/test_explain\.py -->\n^```sh\n(.*?)^```$"
    (command,) = re.findall(pattern, section, re.MULTILINE | re.DOTALL)
    told = json.loads(served.bash(command))
    assert first(told) == ("demo", "echo")
    assert told["targets"][0]["state"] == "first"
    assert told["targets"][0]["price"].keys() >= {"at_most_usd", "known"}
