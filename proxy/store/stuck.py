"""Frees what workers hold in Redis that are gone, where no worker is left to do it (proxy.store.leases).

Living workers free what a dead one holds fifteen seconds after its last sign of life. Where all have died, or
the one that is left was away itself, it stays until somebody comes, and budgets look fuller than they are.
In one process the holds go with it, and there is nothing to free.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from django.conf import settings

from config.jobs import counted
from keys.models import BudgetWindow
from proxy.store.plans import purse_name
from proxy.store.redis import CONNECTION_ERRORS, sync_client
from proxy.store.scripts import SPENT, SWEEP

# After a worker has been taken for gone: others have had the time, and the ledger what was spent.
GRACE_S = 45.0
_SUMS_LAST_MS = 400 * 86_400_000
_PREFIX = purse_name("")

log = structlog.get_logger()


class StoreAway(Exception):
    """Redis does not answer."""


def sweep() -> str:
    """Free it, and say what was done. Raises StoreAway."""
    url = settings.GATEWAY.redis_url
    if not url:
        return "nothing to do: holds are in the processes themselves"
    client = sync_client(url)
    try:
        freed = [worker for worker in _gone(client) if _swept(client, worker)]
    except CONNECTION_ERRORS as problem:
        raise StoreAway(type(problem).__name__) from None
    finally:
        client.close()
    if not freed:
        return "nothing to do: no dead process holds anything"
    return f"freed what {counted(len(freed), 'dead worker')} held"


def _gone(client: Any) -> Sequence[str]:
    seconds, microseconds = client.time()
    latest = seconds * 1_000_000 + microseconds - int(GRACE_S * 1e6)
    return [worker.decode() for worker in client.zrangebyscore("gw:workers", "-inf", latest)]


def _swept(client: Any, worker: str) -> bool:
    """Free its slots, then its money, once Redis has heard from the ledger what was spent of that."""
    purses = _run(client, worker, money=False)
    if purses == -1:
        return False  # it is back
    if purses:
        sums = _sums([purse.decode().removeprefix(_PREFIX) for purse in purses])
        client.eval(SPENT.text, 0, _SUMS_LAST_MS, orjson.dumps(sums))
        if _run(client, worker, money=True) == -1:
            return False
    log.warning("worker_gone", worker=worker, budgets=len(purses), freed_by="sweep-holds")
    return True


def _run(client: Any, worker: str, *, money: bool) -> Any:
    return client.eval(SWEEP.text, 0, worker, f"gw:holds:{worker}", int(money), 0)


def _sums(keys: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return what the ledger says of these windows: names, spent, and what of it are corrections."""
    found = []
    for key in keys:
        budget, _, starts_at = key.partition("@")
        at = datetime.fromtimestamp(int(starts_at), UTC)
        row = BudgetWindow.objects.filter(budget_id=int(budget), starts_at=at).first()
        if row is not None:
            found.append((purse_name(key), row.spent_nanousd, row.corrected_nanousd))
    return found
