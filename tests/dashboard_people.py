"""A served gateway's tenant with people, prices, limits and a past, and a signed-in session: for browsers.

Run inside `manage.py shell`; what it prints is read by the tests.
"""

SCRIPT = """
import json, random
from datetime import datetime, timedelta, UTC
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cached_db import SessionStore
from analytics.models import RequestLog, UsageRollup
from analytics.tests.wide_sums import widen
from keys.models import ApiKey, Budget, BudgetWindow, Member, RateLimit, Tenant
from keys.calendar import bounds, zone_of
from providers.models import Price, Provider

tenant = Tenant.objects.create(name="acme", timezone="Europe/Berlin")
people = {}
for name, role in (("olga", "owner"), ("max", "member"), ("vera", "viewer")):
    people[name] = User.objects.create_user(name, f"{name}@example.com", "pass-for-tests-1")
    Member.objects.create(tenant=tenant, user=people[name], role=role)
User.objects.create_user("ida", "ida@example.com", "pass-for-tests-1")
Price.objects.create(
    provider=Provider.objects.get(name="demo"), model="*", input_nanousd_per_mtok=2 * 10**9,
    output_nanousd_per_mtok=8 * 10**9, effective_from=datetime(2020, 1, 1, tzinfo=UTC),
)
key, _ = ApiKey.issue(tenant=tenant, name="acme-web", allowed_models=["demo/*"])
key.save()
RateLimit.objects.create(tenant=tenant, kind="requests", amount=600, per="minute")
RateLimit.objects.create(key=key, kind="concurrent", amount=8)
now = datetime.now(UTC)
for amount, window, share in ((25, "month", 0.9), (5, "day", 0.2)):
    budget = Budget.objects.create(tenant=tenant, amount_nanousd=amount * 10**9, window=window)
    start, end = bounds(window, now, zone_of(tenant.timezone))
    BudgetWindow.objects.create(budget=budget, starts_at=start, spent_nanousd=int(share * amount * 10**9))
rng = random.Random(7)
hours = [now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=back) for back in range(1, 24 * 12)]
rows, days = [], {}
for hour in hours:
    for model in ("echo", "lorem"):
        busy = 1 + (hour.hour in range(7, 18)) * 4
        count = rng.randrange(3, 20) * busy
        figures = dict(
            requests=count, errors=count // 11, refused=count // 14, limited=count // 20, hits=count // 4,
            misses=count - count // 4, prompt_tokens=count * rng.randrange(200, 900),
            completion_tokens=count * rng.randrange(50, 400),
            cost_nanousd=count * rng.randrange(10**5, 4 * 10**6), saved_nanousd=count * 10**5,
            latency_300=count // 2, latency_1000=count // 3, latency_5000=count // 9,
            ttft_135=count,
        )
        who = dict(tenant_ref=tenant.pk, key_ref=key.pk, provider="demo", model=model)
        rows.append(UsageRollup(grain=60, starts_at=hour, **who, **figures))
        day = days.setdefault((hour.replace(hour=0), model), dict.fromkeys(figures, 0) | who)
        for name, number in figures.items():
            day[name] += number
rows += [UsageRollup(grain=1440, starts_at=at, **day) for (at, _), day in days.items()]
UsageRollup.objects.bulk_create(rows)
widen()
codes = ("rate_limit_exceeded", "upstream_timeout")
RequestLog.objects.bulk_create(
    RequestLog(
        completion_id=f"past-{number}", request_id=f"req-{number}", at=now - timedelta(minutes=17 * number),
        endpoint="chat.completions", tenant_ref=tenant.pk, key_ref=key.pk, requested_model="demo/lorem",
        provider="demo", model="lorem", status=429 if number % 7 == 3 else 504 if number % 11 == 5 else 200,
        outcome="error" if number % 7 == 3 or number % 11 == 5 else "ok",
        error_code=codes[0] if number % 7 == 3 else codes[1] if number % 11 == 5 else "",
        stream=number % 2 == 0, cache="hit" if number % 5 == 0 else "miss",
        prompt_tokens=412, completion_tokens=96,
        cost_nanousd=1_592_000, latency_ms=840.5, ttft_ms=120.25, overhead_ms=1.5,
        attempts=[
            {"provider": "demo", "model": "echo", "started_ms": 0.4, "latency_ms": 30.1, "status": 503,
             "outcome": "upstream_error", "error": "x"},
            {"provider": "demo", "model": "lorem", "started_ms": 31.0, "latency_ms": 809.0, "status": 200,
             "outcome": "ok", "error": ""},
        ],
    )
    for number in range(1, 120)
)

def session(user):
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    return store.session_key

print("SESSIONS " + json.dumps({name: session(user) for name, user in people.items()}))
"""
