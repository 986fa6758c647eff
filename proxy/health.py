"""What /health, /ready and /metrics say, and to whom."""

import hmac
import ipaddress
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.http import HttpRequest

from providers.upstream import Account
from proxy.fleet.breaker import State
from proxy.fleet.lookout import Condition
from proxy.gateway import Gateway
from proxy.snapshot import Snapshot
from proxy.spool import backlog


def health(gateway: Gateway, version: str) -> dict[str, Any]:
    """Return the whole state, for operators."""
    snapshot = gateway.snapshot
    spool = gateway.env.data_dir / "spool"
    return {
        "status": "ok" if snapshot is not None and not gateway.watcher.problem else "degraded",
        "version": version,
        "uptime_s": round(time.time() - gateway.started_at, 1),
        "configuration": {
            "version": None if snapshot is None else snapshot.version,
            "problem": gateway.watcher.problem or None,
            "warnings": [] if snapshot is None else list(snapshot.warnings),
        },
        "providers": providers(snapshot, gateway.oversight.lookout.conditions(), time.time()),
        "store": {"kind": gateway.store.name, "state": gateway.store.state()},
        "database": "up" if gateway.watcher.database_up else "down",
        "spool": {**backlog(spool), "full": gateway.spool.full},
    }


def readiness(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    """Return 200 while requests can be served, else 503, and what is degraded."""
    snapshot = gateway.snapshot
    problems = []
    if snapshot is None:
        problems.append("starting")
    if gateway.spool.full:
        problems.append("spool_full")
    status = 503 if problems else 200
    body = {
        "ready": not problems,
        "problems": problems,
        "providers": providers(snapshot, gateway.oversight.lookout.conditions(), time.time()),
        "database": "up" if gateway.watcher.database_up else "down",
        "store": gateway.store.state(),
    }
    return status, body


def providers(
    snapshot: Snapshot | None, conditions: Iterable[Condition], now: float
) -> dict[str, dict[str, Any]]:
    """Return each provider and its state at an epoch second: unusable, or that of its worst upstream."""
    ailing: dict[str, list[Condition]] = {}
    for each in conditions:
        ailing.setdefault(each.provider, []).append(each)
    accounts = {} if snapshot is None else snapshot.accounts
    return {
        name: _provider(account, sorted(ailing.get(name, ()), key=lambda each: each.upstream), now)
        for name, account in accounts.items()
    }


def _provider(account: Account, conditions: Sequence[Condition], now: float) -> dict[str, Any]:
    state: dict[str, Any] = {"state": "closed", "usable": account.usable}
    if not account.usable:
        state.update(state="unusable", reason=account.why_unusable)
    elif conditions:
        worst = max(each.state_at(now) for each in conditions)
        refused = any((each.refused_until or 0) > now for each in conditions)
        if worst is not State.CLOSED:
            state["state"] = worst.name.lower()
        elif refused or any((each.cooling_until or 0) > now for each in conditions):
            state["state"] = "cooling"
        if refused:
            state["reason"] = "it has refused a credential"
    upstreams = {each.upstream: _upstream(each, now) for each in conditions if each.ails}
    return {**state, "upstreams": upstreams} if upstreams else state


def _upstream(condition: Condition, now: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "state": condition.state_at(now).name.lower(),
        "failures": condition.failures,
    }
    if condition.held:
        found["held"] = True
    for name, until in (("retry_in_s", condition.open_until), ("cooling_s", condition.cooling_until)):
        if until is not None and until > now:
            found[name] = round(until - now, 1)
    if condition.reason:
        found["reason"] = condition.reason
    return found


def may_see_detail(gateway: Gateway, request: HttpRequest) -> bool:
    """May this client see metrics and the detail of /health? On loopback everyone may."""
    env = gateway.env
    authorization = request.headers.get("authorization") or ""
    if env.metrics_token and hmac.compare_digest(
        authorization.encode("latin-1", "replace"), f"Bearer {env.metrics_token}".encode()
    ):
        return True
    return env.on_loopback or _on_loopback(request.META.get("REMOTE_ADDR", ""))


def _on_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
