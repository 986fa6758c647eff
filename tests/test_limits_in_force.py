"""Limits change in the rows while a gateway serves: every worker holds requests to what the rows say now."""

from collections.abc import Iterator

import httpx
import pytest
import yaml

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import eventually, redis

FIRST, SECOND = "the-first-key-0123456789", "the-second-key-0123456789"
MANY = 20  # connections of their own, so that each worker answers some
ROWS = {
    "version": 1,
    "tenants": [{"name": "acme"}],
    "keys": [
        {
            "name": "first",
            "tenant": "acme",
            "secret": FIRST,
            "rate_limits": [{"requests": 1_000_000, "per": "day"}],
        },
        {"name": "second", "tenant": "acme", "secret": SECOND},
    ],
}


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    with (
        redis() as store,
        running_gateway(
            {"CACHE_MODE": "none", "REDIS_URL": store.url()},
            workers=2,
            files={"config.yaml": yaml.safe_dump(ROWS)},
        ) as gateway,
    ):
        yield gateway


@pytest.fixture(autouse=True)
def limit(served: Gateway) -> str:
    """Have the first key limited to a million requests, and return the limit's id."""
    change(
        served,
        "RateLimit.objects.all().delete(); Budget.objects.all().delete();"
        "RateLimit.objects.create(key=first, amount=1_000_000, per='day')",
    )
    holds(served, FIRST, 1_000_000)
    holds(served, SECOND, None)
    return str(rows(served, "SELECT id FROM keys_ratelimit")[0]["id"])


def change(gateway: Gateway, code: str) -> None:
    """Change rows in another process, as a command of the control plane does."""
    start = (
        "from keys.models import ApiKey, Budget, RateLimit, Tenant\n"
        "first, second = ApiKey.objects.get(name='first'), ApiKey.objects.get(name='second')\n"
    )
    gateway.shell(start + code)


def ask(gateway: Gateway, key: str) -> httpx.Response:
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def holds(gateway: Gateway, key: str, amount: int | None) -> None:
    """Wait until every answer tells of this limit of requests, whoever gives it."""
    told = None if amount is None else str(amount)

    def everywhere() -> bool:
        answers = (ask(gateway, key) for _ in range(MANY))
        return all(each.headers.get("x-ratelimit-limit-requests") == told for each in answers)

    eventually(everywhere, what=f"the limit of {amount} everywhere")


def test_a_limit_changed_in_the_admin_is_in_force_in_every_worker(served: Gateway, limit: str) -> None:
    operator = AdminSession(served)
    path = f"/keys/ratelimit/{limit}/change/"
    operator.save(path, amount="2000000")
    holds(served, FIRST, 2_000_000)
    operator.save(path, enabled=None)
    holds(served, FIRST, None)
    operator.save(path, enabled="on")
    holds(served, FIRST, 2_000_000)
    operator.submit(f"/keys/ratelimit/{limit}/delete/", post="yes")
    holds(served, FIRST, None)
    operator.close()


def test_a_limit_that_moves_to_another_key_changes_both(served: Gateway) -> None:
    change(served, "limit = RateLimit.objects.get(); limit.key = second; limit.save()")
    holds(served, FIRST, None)
    holds(served, SECOND, 1_000_000)
    change(
        served, "limit = RateLimit.objects.get(); limit.key, limit.tenant = None, second.tenant; limit.save()"
    )
    holds(served, FIRST, 1_000_000)
    holds(served, SECOND, 1_000_000)


def test_bulk_updates_and_deletes_are_in_force(served: Gateway) -> None:
    change(served, "RateLimit.objects.create(key=second, amount=7_000_000, per='day')")
    holds(served, SECOND, 7_000_000)
    change(served, "RateLimit.objects.update(amount=3_000_000)")
    holds(served, FIRST, 3_000_000)
    holds(served, SECOND, 3_000_000)
    change(served, "RateLimit.objects.all().delete()")
    holds(served, FIRST, None)
    holds(served, SECOND, None)


def test_a_limit_refuses_and_one_that_is_raised_lets_through_again(served: Gateway) -> None:
    change(served, "RateLimit.objects.update(amount=1)")
    refused = eventually(
        lambda: (answer := ask(served, FIRST)).status_code == 429 and answer, what="a refusal", within_s=20
    )
    assert "1 requests per day for key first" in refused.json()["error"]["message"]
    assert ask(served, SECOND).status_code == 200
    change(served, "RateLimit.objects.update(amount=1_000_000)")
    eventually(
        lambda: all(ask(served, FIRST).status_code == 200 for _ in range(MANY)), what="the end of refusals"
    )


def test_both_secrets_of_a_rotated_key_are_taken_until_the_overlap_ends(served: Gateway) -> None:
    rotated = "the-rotated-key-0123456789"
    later = "from django.utils import timezone; from datetime import timedelta; now = timezone.now();"
    change(served, f"{later} first.rotate(until=now + timedelta(days=1), secret={rotated!r}); first.save()")
    holds(served, rotated, 1_000_000)
    holds(served, FIRST, 1_000_000)
    change(served, f"{later} first.previous_until = now; first.save()")
    eventually(
        lambda: (
            {ask(served, FIRST).json().get("error", {}).get("code") for _ in range(MANY)}
            == {"api_key_expired"}
        ),
        what="the end of the overlap",
    )
    assert ask(served, rotated).status_code == 200
    change(served, f"first.rotate(until=None, secret={FIRST!r}); first.save()")
    holds(served, FIRST, 1_000_000)
