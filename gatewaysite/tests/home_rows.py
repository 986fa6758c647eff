"""A believable day for tests of the first page: sums of usage, requests, what ails, and a budget."""

import random
from datetime import datetime, timedelta

from django.utils import timezone

from analytics.models import RequestLog, UsageRollup
from analytics.tests.wide_sums import widen
from keys.models import ApiKey, Budget, BudgetWindow, LedgerEntry, RateLimit, Tenant
from providers.models import Price, Provider
from proxy.models import UpstreamState, WorkerState

HOUR, DAY = UsageRollup.Grain.HOUR, UsageRollup.Grain.DAY
MODELS = (
    ("openai", "gpt-4o-mini", 20),
    ("anthropic", "claude-haiku-4-5", 60),
    ("mistral", "mistral-small", 9),
)


def usage_row(starts_at: datetime, *, grain: int = HOUR, **columns: object) -> UsageRollup:
    """Return sums that were not saved: ten requests and what goes with them."""
    usual: dict[str, object] = {
        "requests": 10,
        "errors": 1,
        "misses": 8,
        "hits": 2,
        "prompt_tokens": 900,
        "completion_tokens": 300,
        "cost_nanousd": 12_345_678,
        "saved_nanousd": 1_000_001,
        "latency_700": 6,
        "latency_2300": 4,
        "ttft_300": 5,
        "streams": 5,
    }
    return UsageRollup(**{"grain": grain, "starts_at": starts_at, "provider": "openai", **usual, **columns})


def fill(now: datetime | None = None, *, keys: int = 3, hours: int = 48) -> RequestLog:
    """Write it all, and return a request with two attempts."""
    now = now or timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    rng = random.Random(7)
    tenant = Tenant.objects.create(name="acme")
    made = [ApiKey.issue(tenant=tenant, name=f"service-{number}")[0] for number in range(keys)]
    for key in made:
        key.save()
    for name, _, _ in MODELS:
        Provider.objects.get_or_create(
            name=name, defaults={"dialect": "openai", "base_url": "http://v.test/v1"}
        )
    rows = []
    for back in range(hours):
        for provider, model, price in MODELS:
            key = rng.choice(made)
            count = rng.randint(20, 400)
            errors = rng.randint(0, count // 12)
            rows.append(
                usage_row(
                    hour - timedelta(hours=back),
                    provider=provider,
                    model=model,
                    tenant_ref=tenant.pk,
                    key_ref=key.pk,
                    requests=count,
                    errors=errors,
                    refused=errors // 2,
                    limited=errors // 4,
                    hits=count // 5,
                    misses=count - count // 5,
                    prompt_tokens=count * 800,
                    completion_tokens=count * 210,
                    cost_nanousd=count * price * 10**4 + rng.randint(0, 999),
                    saved_nanousd=count * price * 10**3,
                    latency_700=count // 2,
                    latency_1000=count // 3,
                    latency_5000=count // 10,
                    ttft_300=count // 3,
                    ttft_700=count // 9,
                )
            )
    UsageRollup.objects.bulk_create(rows)
    widen()
    budget = Budget.objects.create(tenant=tenant, amount_nanousd=100 * 10**9, window="total")
    start = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    BudgetWindow.objects.create(budget=budget, starts_at=start, spent_nanousd=87 * 10**9)
    UpstreamState.report(
        [
            UpstreamState(
                upstream="mistral/mistral-small",
                state="open",
                failures=5,
                reason="upstream_timeout",
                open_until=now + timedelta(minutes=5),
                reported_at=now,
            )
        ]
    )
    limit = RateLimit.objects.create(kind="requests", amount=1000, per="hour", each="key")
    WorkerState.objects.create(
        name="boot-0",
        host="gateway-1",
        worker=0,
        plane="all",
        started_at=now - timedelta(hours=3),
        reported_at=now,
        version=10**6,
        near_limits=[
            near_limit(limit, now, who=str(key.pk), used=999 - number) for number, key in enumerate(made)
        ],
    )
    return request_row(now, made[0])


def request_row(now: datetime, key: ApiKey) -> RequestLog:
    """Write a streamed request that moved on from a busy vendor, and its cost."""
    provider = Provider.objects.get(name="openai")
    price = Price.objects.create(
        provider=provider,
        model="gpt-4o-mini",
        input_nanousd_per_mtok=150_000_000,
        output_nanousd_per_mtok=600_000_000,
    )
    attempts = [
        {
            "provider": "mistral",
            "model": "mistral-small",
            "started_ms": 4.0,
            "latency_ms": 830.5,
            "status": 503,
            "outcome": "overloaded",
            "error": "Service tier capacity exceeded for this model.",
        },
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "started_ms": 980.0,
            "latency_ms": 410.0,
            "status": 200,
            "outcome": "ok",
            "error": "",
        },
    ]
    row = RequestLog.objects.create(
        completion_id="boot-0-1f",
        request_id="req-7",
        at=now,
        endpoint="chat",
        tenant_ref=key.tenant_id,
        key_ref=key.pk,
        tags={"team": "search"},
        requested_model="fast",
        route="fast",
        provider="openai",
        model="gpt-4o-mini",
        status=200,
        outcome="ok",
        stream=True,
        cache="miss",
        attempts=attempts,
        prompt_tokens=1043,
        completion_tokens=262,
        cached_tokens=0,
        cost_nanousd=313_650,
        latency_ms=2310.4,
        ttft_ms=1390.0,
        overhead_ms=12.3,
        queue_ms=40.0,
        limits=[{"limit": "60 requests per minute for the key", "refused": False}],
    )
    LedgerEntry.objects.create(
        completion_id="boot-0-1f",
        attempt=1,
        at=now,
        tenant_ref=key.tenant_id,
        key_ref=key.pk,
        provider="openai",
        model="gpt-4o-mini",
        prompt_tokens=1043,
        completion_tokens=262,
        price_ref=price.pk,
        cost_nanousd=313_650,
    )
    return row


def near_limit(limit: RateLimit, now: datetime, *, who: str = "", used: int = 0) -> dict[str, object]:
    """Return how a worker tells of a limit that is `used`: see proxy.near_limits."""
    return {
        "key": f"rate:{limit.pk}/{who}/100000",
        "limit": f"rate:{limit.pk}",
        "words": f"{limit} for {limit.scope}",
        "each": limit.each,
        "who": who,
        "amount": limit.amount,
        "used": used,
        "frees_at": now.timestamp() + 720,
        "resets_at": now.timestamp() + 3600,
    }
