"""One story on both installations: SQLite alone, and PostgreSQL, Redis, a Celery worker and two web workers.

first start -> key -> chat and stream -> log, ledger and budget -> admin -> metrics
"""

import contextlib
import html
import re
from collections.abc import Iterator, Mapping

import httpx
import pytest
from openai import OpenAI

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import by_name, ledger, logged, rows
from tests.servers import celery_worker, eventually, postgres, redis
from tests.upstream import FakeVendor, bearer, chat, data_lines, unique, wired

CHAT = "/v1/chat/completions"
# 7 prompt tokens at $2 and 5 completion tokens at $10 per million: 64,000 nano-dollars.
COST = 64_000
USAGE = "~prompt=7~tokens=5"
PRICED = {
    "prices": [
        {
            "provider": "replay",
            "model": "synthetic*",
            "input_usd_per_mtok": "2",
            "output_usd_per_mtok": "10",
            "effective_from": "2020-01-01T00:00:00Z",
        }
    ]
}


@contextlib.contextmanager
def embedded(vendor: FakeVendor) -> Iterator[Gateway]:
    with running_gateway({"CB_ERROR_THRESHOLD": "0"}, files=wired(vendor, **PRICED), fresh=True) as gateway:
        yield gateway


@contextlib.contextmanager
def full(vendor: FakeVendor) -> Iterator[Gateway]:
    with postgres() as database, redis() as store:
        variables = {
            "CB_ERROR_THRESHOLD": "0",
            "DATABASE_URL": database.create("gateway"),
            "REDIS_URL": store.url(0),
            "CACHE_MODE": "redis",
            "CELERY_BROKER_URL": store.url(1),
        }
        with (
            running_gateway(variables, workers=2, files=wired(vendor, **PRICED)) as gateway,
            celery_worker(gateway.env) as worker,
        ):
            yield gateway
            assert "analytics.tasks" in worker.output, "the rows came another way than through Celery"


INSTALLATIONS = (
    pytest.param(embedded, id="embedded"),
    pytest.param(full, id="full", marks=[pytest.mark.postgres, pytest.mark.broker]),
)


@pytest.fixture(scope="module", params=INSTALLATIONS)
def served(request: pytest.FixtureRequest, vendor: FakeVendor) -> Iterator[Gateway]:
    with request.param(vendor) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def operator(served: Gateway) -> Iterator[AdminSession]:
    session = AdminSession(served)
    yield session
    session.close()


@pytest.fixture(scope="module")
def key(served: Gateway) -> str:
    """A key as an operator makes one."""
    lines = served.manage("create_key", "--tenant", "team", "--name", "end-to-end").splitlines()
    return next(line for line in reversed(lines) if line.startswith("sk-gw-"))


def test_the_first_start_prints_all_a_stranger_needs(served: Gateway) -> None:
    said = served.log()
    assert served.key.startswith("sk-gw-")
    assert served.admin_password
    curl = re.search(r"curl .*", said)
    assert curl is not None
    assert f"{served.url}/v1/chat/completions" in curl[0]
    assert f"{served.url}/admin/" in said
    answer = httpx.post(f"{served.url}{CHAT}", json=chat("demo/echo", "Hello"), headers=served.headers)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_logged_and_paid_for(served: Gateway, key: str, stream: bool) -> None:
    model = unique(f"synthetic{USAGE}")
    with OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=f"replay/{model}",
            messages=[{"role": "user", "content": "Hello"}],
            stream=stream,
            extra_headers={"x-request-id": f"end-to-end-{stream}"},
        )
        answer = raw.parse()
        assert list(answer) if stream else answer
    row = logged(served, f"end-to-end-{stream}")
    assert (row["outcome"], row["status"], bool(row["stream"])) == ("ok", 200, stream)
    assert (row["provider"], row["model"], row["requested_model"]) == ("replay", model, f"replay/{model}")
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost_nanousd"]) == (7, 5, COST)
    assert not row["usage_estimated"]
    assert (row["ttft_ms"] is not None) is stream
    assert row["latency_ms"] >= row["overhead_ms"] > 0
    names = by_name(rows(served, "SELECT id, name, tenant_id FROM keys_apikey"), "id")
    assert names[row["key_ref"]]["name"] == "end-to-end"
    assert row["tenant_ref"] == names[row["key_ref"]]["tenant_id"]
    (entry,) = ledger(served, row["completion_id"])
    assert (entry["kind"], entry["cost_nanousd"], entry["prompt_tokens"]) == ("spent", COST, 7)
    assert entry["key_ref"] == row["key_ref"]


def test_an_unpriced_answer_has_no_cost_rather_than_none(served: Gateway, key: str) -> None:
    headers = {**bearer(key), "x-request-id": "unpriced"}
    assert httpx.post(f"{served.url}{CHAT}", json=chat("spare/synthetic"), headers=headers).status_code == 200
    row = logged(served, "unpriced")
    assert row["completion_tokens"] > 0
    assert row["cost_nanousd"] is None


def test_a_budgets_window_sums_what_was_spent(served: Gateway, operator: AdminSession, key: str) -> None:
    ids = by_name(rows(served, "SELECT id, name FROM keys_apikey"), "name")
    operator.save(
        "/keys/budget/add/", key=str(ids["end-to-end"]["id"]), amount_nanousd="5.00", window="total"
    )
    (budget,) = rows(served, "SELECT id FROM keys_budget")
    for number in range(3):
        body = chat(f"replay/{unique('synthetic' + USAGE)}", stream=number == 1)
        assert httpx.post(f"{served.url}{CHAT}", json=body, headers=bearer(key)).status_code == 200

    def spent() -> int:
        sql = "SELECT spent_nanousd FROM keys_budgetwindow WHERE budget_id = ?"
        return sum(int(row["spent_nanousd"]) for row in rows(served, sql, budget["id"]))

    eventually(lambda: spent() >= 3 * COST, what="the sum of the budget's window")
    assert spent() % COST == 0


def test_failures_and_departures_are_logged_too(served: Gateway, key: str, vendor: FakeVendor) -> None:
    url = f"{served.url}{CHAT}"
    refused = httpx.post(url, json=chat("no-such-model"), headers={**bearer(key), "x-request-id": "refused"})
    assert refused.status_code == 404
    row = logged(served, "refused")
    assert (row["outcome"], row["status"], row["error_code"]) == ("error", 404, "model_not_found")
    model = unique("synthetic~tokens=200~delay=50")
    headers = {**bearer(key), "x-request-id": "left"}
    with httpx.stream("POST", url, json=chat(f"replay/{model}", stream=True), headers=headers) as response:
        next(line for line in response.iter_lines() if '"content":"' in line)
    vendor.wait_for_outcome(model, "client-gone")
    row = logged(served, "left")
    assert (row["outcome"], row["status"]) == ("cancelled", 499)
    (entry,) = ledger(served, row["completion_id"])
    assert entry["estimated"]
    assert entry["cost_nanousd"] > 0


# What a client may choose freely must fit into its column, whatever the database.
AWKWARD = {
    "long": ("m" * 256, {404, 200}),
    "emoji": ("\N{GRINNING FACE}" * 60, {404, 200}),
    "quotes": ("a\\c\"d'e{%}", {404, 200}),
    "NUL": ("a\0b", {400}),
    "tabs and lines": ("a\tb\nc", {400}),
}


@pytest.mark.parametrize("case", AWKWARD.values(), ids=AWKWARD.keys())
def test_no_name_is_too_awkward_for_the_log(served: Gateway, key: str, case: tuple[str, set[int]]) -> None:
    name, statuses = case
    for prefix in ("", "spare/"):
        model = f"{prefix}{name}"[:256]
        answer = httpx.post(f"{served.url}{CHAT}", json=chat(model), headers=bearer(key))
        assert answer.status_code in statuses
        row = logged(served, answer.headers["x-request-id"])
        assert row["status"] == answer.status_code
        assert row["requested_model"] == "" or model.startswith(row["requested_model"])


def test_the_admin_shows_what_happened(served: Gateway, operator: AdminSession) -> None:
    page = html.unescape(operator.get("/analytics/requestlog/?q=end-to-end-False"))
    assert "end-to-end-False" in page
    assert "7 → 5" in page
    assert "$0.000064" in page
    assert "end-to-end" in operator.get("/keys/ledgerentry/")


def test_metrics_count_each_request_once_whichever_worker_served_it(served: Gateway, key: str) -> None:
    model = unique("synthetic" + USAGE)
    body = chat(f"replay/{model}")
    before = metrics(served)
    for number in range(20):  # a new connection each: with two workers, either may get it
        sent = {**body, "stream": number % 2 == 0, "seed": number}
        assert httpx.post(f"{served.url}{CHAT}", json=sent, headers=bearer(key)).status_code == 200
    eventually(
        lambda: metrics(served).get(("gateway_requests_total", model), 0) >= 20,
        what="20 requests in the metrics",
    )
    after = metrics(served)
    assert after["gateway_requests_total", model] == 20
    assert after["gateway_attempts_total", model] == 20
    assert after["gateway_tokens_total", model] == 20 * 12
    assert after["gateway_request_seconds_count", model] == 20
    assert after["gateway_ttft_seconds_count", model] == 10
    assert after["gateway_in_flight", ""] == 0
    assert total(after) == total(before) + 20


def total(samples: Mapping[tuple[str, str], float]) -> float:
    return sum(value for (name, _), value in samples.items() if name == "gateway_requests_total")


def metrics(gateway: Gateway) -> dict[tuple[str, str], float]:
    """Return the samples by name and model; each scrape must tell the same whoever answers it."""
    text = httpx.get(f"{gateway.url}/metrics", timeout=30).text
    found: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        sample = re.fullmatch(r"(gateway_\w+)(?:\{(.*)\})? (\S+)", line)
        if sample and not sample[1].endswith("_bucket"):
            model = re.search(r'model="([^"]*)"', sample[2] or "")
            name = (sample[1], model[1] if model else "")
            found[name] = found.get(name, 0.0) + float(sample[3])
    return found


def test_health_and_readiness_tell_the_installation(served: Gateway) -> None:
    health = httpx.get(f"{served.url}/health").json()
    assert (health["status"], health["database"], health["store"]["state"]) == ("ok", "up", "up")
    assert health["providers"]["replay"]["usable"]
    for path in ("/ready", "/readiness"):
        ready = httpx.get(f"{served.url}{path}")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        assert ready.json()["providers"]["replay"]


def test_a_stream_is_whole_and_the_spool_runs_empty(served: Gateway, key: str) -> None:
    body = chat(f"replay/{unique()}", stream=True)
    with httpx.stream("POST", f"{served.url}{CHAT}", json=body, headers=bearer(key)) as response:
        assert data_lines(list(response.iter_lines()))[-1] == "[DONE]"
    eventually(
        lambda: httpx.get(f"{served.url}/health").json()["spool"]["segments"] == 0, what="an empty spool"
    )


def test_it_stops_and_starts_again_with_all_it_knew(served: Gateway, key: str) -> None:
    assert served.stop() == 0
    served.start()
    assert httpx.post(f"{served.url}{CHAT}", json=chat("demo/echo"), headers=bearer(key)).status_code == 200
    assert served.log().count("Demo key:") == 1
