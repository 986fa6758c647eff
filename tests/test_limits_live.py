"""What docs/limits.md (limits.md) shows is what a served gateway says and does, on both stores."""

import contextlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from openai import OpenAI, RateLimitError

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.receivers import Receiver, webhook_receiver
from tests.records import bump, rows
from tests.servers import CHECKOUT, eventually, redis

PAGE = (CHECKOUT / "docs" / "limits.md").read_text()
CI, TRIAL, SPENT = "the-key-of-acme-0123456789", "the-key-of-the-trial-01234", "the-key-of-the-spent-01234"
ASKED: dict[str, Any] = {
    "model": "demo/echo",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello"}],
}
_NUMBER = re.compile(r"(?<=may cost \$)[\d.]*\d|\d+(?:\.\d+)? seconds|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_CHANGES = {"at", "starts_at", "resets_at", "frees_after_s", "window_starts_at", "window_ends_at"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


RATE_REFUSAL, BUDGET_REFUSAL, ALERT, LIMITS = (json.loads(block) for block in blocks("json"))
(CONFIG,) = blocks("yaml")


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.broker)])
def limited(request: pytest.FixtureRequest, hook: Receiver) -> Iterator[Gateway]:
    """The gateway of the page's configuration."""
    env = {"CACHE_MODE": "none", "BUDGET_ALERT_WEBHOOK_URL": hook.url}
    files = {"config.yaml": CONFIG}
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            env["REDIS_URL"] = stack.enter_context(redis()).url()
        yield stack.enter_context(running_gateway(env, files=files))


def masked(told: Any) -> Any:
    """Return it without what differs from one moment to the next, but whether there is something."""
    if isinstance(told, dict):
        return {
            name: (value is not None) if name in _CHANGES else masked(value) for name, value in told.items()
        }
    if isinstance(told, list):
        return [masked(each) for each in told]
    return _NUMBER.sub("...", told) if isinstance(told, str) else told


def ask(gateway: Gateway, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json=ASKED)


def limits(gateway: Gateway, key: str, **query: str) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.get(f"{gateway.url}/v1/limits", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def settled(gateway: Gateway, key: str) -> Any:
    """Return the limits once nothing is held: an answer's hold is given back just after it."""

    def found() -> Any:
        told = limits(gateway, key)
        return told if all(each["held_usd"] == "0" for each in told["budgets"]) else None

    return eventually(found, what="the settlement")


def test_a_key_is_told_what_the_page_shows_and_what_the_ledger_says(limited: Gateway) -> None:
    before = limits(limited, CI)
    assert [each["used"] for each in before["limits"]] == [0, 0, 0, 0]
    answer = ask(limited, CI)
    assert answer.status_code == 200, answer.text
    told = settled(limited, CI)
    assert masked(told) == masked(LIMITS)
    assert told["limits"][2]["used"] == answer.json()["usage"]["total_tokens"]
    assert answer.headers["x-ratelimit-remaining-requests"] == str(told["limits"][1]["left"])
    (spent,) = eventually(
        lambda: rows(limited, "SELECT cost_nanousd FROM keys_ledgerentry"), what="the ledger's row"
    )
    assert Decimal(told["budgets"][0]["spent_usd"]) == Decimal(spent["cost_nanousd"]) / 10**9
    client = OpenAI(base_url=f"{limited.url}/v1", api_key=CI)
    with client:
        assert masked(client.get("/limits", cast_to=object)) == masked(LIMITS)
    narrowed = limits(limited, CI, model="demo/echo")
    assert {each["id"] for each in narrowed["limits"]} == {each["id"] for each in LIMITS["limits"]}


def test_a_key_over_its_limit_is_told_what_the_page_shows(limited: Gateway) -> None:
    assert ask(limited, TRIAL).status_code == 200
    refused = ask(limited, TRIAL)
    assert refused.status_code == 429
    assert masked(refused.json()) == masked(RATE_REFUSAL)
    assert 0 < int(refused.headers["retry-after"]) <= 3606
    told = limits(limited, TRIAL)
    assert told["bites_first"]["id"] == "rate:5"
    assert (told["limits"][1]["used"], told["limits"][1]["left"]) == (1, 0)


def test_an_operator_sees_who_is_near_a_limit(limited: Gateway) -> None:
    ask(limited, TRIAL)
    bump(limited, "settings")  # a process tells of itself at once when it takes up another configuration
    told = eventually(lambda: _near(limited, "rate:5"), what="the worker's row")
    assert (told["used"], told["amount"], told["who"]) == (1, 1, "")
    with contextlib.closing(AdminSession(limited)) as admin:
        home = " ".join(re.sub(r"<[^>]+>", " ", admin.get("/")).split())
    assert "Closest to a rate limit" in home
    assert "key acme-trial : 1 requests per hour 100 % 1 of 1 used all of it is free in" in home[-2000:]


def _near(gateway: Gateway, limit: str) -> Any:
    found = rows(gateway, "SELECT near_limits FROM proxy_workerstate")
    told = [each for row in found for each in json.loads(row["near_limits"])]
    return next((each for each in told if each["limit"] == limit), None)


def test_a_key_over_its_budget_is_told_what_the_page_shows(limited: Gateway) -> None:
    with (
        OpenAI(base_url=f"{limited.url}/v1", api_key=SPENT) as client,
        pytest.raises(RateLimitError) as raised,
    ):
        client.chat.completions.create(**ASKED)
    assert masked(raised.value.response.json()) == masked(BUDGET_REFUSAL)
    assert raised.value.response.headers["x-should-retry"] == "false"
    told = limits(limited, SPENT)
    assert told["budgets"][1]["left_usd"] == "0.0001"


def test_a_webhook_is_told_what_the_page_shows(limited: Gateway, hook: Receiver) -> None:
    hook.requests.clear()
    limited.manage(
        "shell",
        "-c",
        "from django.utils import timezone; from keys.models import Budget, BudgetWindow;"
        "from keys.alerting import ceiling_of; from datetime import UTC, datetime;"
        "b = Budget.objects.get(key__name='acme-ci');"
        "start = ceiling_of(b).span_at(timezone.now().timestamp()).start;"
        "BudgetWindow.objects.update_or_create(budget=b, starts_at=datetime.fromtimestamp(start, UTC),"
        " defaults={'spent_nanousd': 4_100_000_000})",
    )
    (request,) = eventually(lambda: hook.requests, what="the webhook")
    assert masked(request.json) == masked(ALERT)


@pytest.mark.parametrize(("key", "model", "status"), [(CI, "no-such/model", 404), ("no-key", "", 401)])
def test_it_refuses_as_everywhere(limited: Gateway, key: str, model: str, status: int) -> None:
    answer = httpx.get(
        f"{limited.url}/v1/limits", headers={"authorization": f"Bearer {key}"}, params={"model": model}
    )
    assert answer.status_code == status
