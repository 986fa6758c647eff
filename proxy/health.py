"""What /health, /ready and /metrics say, and to whom."""

import hmac
import ipaddress
import time
from typing import Any

from django.http import HttpRequest

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
        "providers": providers(snapshot),
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
        "providers": providers(snapshot),
        "database": "up" if gateway.watcher.database_up else "down",
        "store": gateway.store.state(),
    }
    return status, body


def providers(snapshot: Snapshot | None) -> dict[str, Any]:
    """Return each provider and its state: its breaker's, or why it is not usable."""
    accounts = {} if snapshot is None else snapshot.accounts
    return {
        name: {"state": "closed", "usable": True}
        if account.usable
        else {"state": "unusable", "usable": False, "reason": account.why_unusable}
        for name, account in accounts.items()
    }


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
