"""How the gateway itself does: providers and their breakers, workers and their configuration, the spool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.timesince import timesince

from config.models import current_version
from providers.models import Provider
from proxy.models import UpstreamState, WorkerState
from proxy.spool import backlog
from proxy.worker_state import ALIVE_FOR

MOST_PROVIDERS, MOST_AILING, MOST_WORKERS = 100, 200, 50
# A backlog as large is one that grows: a segment is closed every second, and shipped at once.
LATE_SEGMENTS = 20


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """One provider: the state of its worst upstream, in a word and with its colour, and why."""

    name: str
    url: str
    word: str
    colour: str
    reasons: Sequence[str]


def providers_health(now: datetime) -> list[ProviderHealth]:
    """Return the providers in use, those that ail first."""
    ailing: dict[str, list[UpstreamState]] = {}
    well = {"state": UpstreamState.State.CLOSED, "held_open": False, "cooling_until": None}
    rows = UpstreamState.objects.exclude(**well)
    for row in rows[:MOST_AILING]:
        ailing.setdefault(row.upstream.partition("/")[0], []).append(row)
    providers = Provider.objects.filter(enabled=True).only("pk", "name").order_by("name")
    found = [_health(each, ailing.get(each.name, []), now) for each in providers[:MOST_PROVIDERS]]
    order = {"danger": 0, "warning": 1}
    return sorted(found, key=lambda each: order.get(each.colour, 2))


def _health(provider: Provider, rows: Sequence[UpstreamState], now: datetime) -> ProviderHealth:
    words = [(row, *_condition(row, now)) for row in rows]
    words = [each for each in words if each[1]]
    reasons = [_reason(row, word) for row, word, _ in words][:5]
    colours = [colour for *_, colour in words]
    url = reverse("admin:providers_provider_change", args=[provider.pk])
    if "danger" in colours:
        return ProviderHealth(provider.name, url, "failing", "danger", reasons)
    if colours:
        return ProviderHealth(provider.name, url, "recovering", "warning", reasons)
    return ProviderHealth(provider.name, url, "well", "success", reasons)


def _condition(row: UpstreamState, now: datetime) -> tuple[str, str]:
    if row.held_open:
        return "held open by an operator", "danger"
    if row.state == UpstreamState.State.OPEN and (row.open_until is None or row.open_until > now):
        return "breaker open", "danger"
    if row.state != UpstreamState.State.CLOSED:
        return "breaker half open", "warning"
    if row.cooling_until is not None and row.cooling_until > now:
        return f"cooling down until {row.cooling_until:%H:%M:%S}", "warning"
    return "", ""


def _reason(row: UpstreamState, word: str) -> str:
    return f"{row.upstream}: {word}{f', {row.reason}' if row.reason else ''}"


def workers_alive(now: datetime) -> list[WorkerState]:
    """Return the rows of those that have just been heard of."""
    return list(WorkerState.objects.filter(reported_at__gte=now - ALIVE_FOR)[:MOST_WORKERS])


def workers_health(alive: Sequence[WorkerState], now: datetime) -> dict[str, Any]:
    """Return the workers that live, the configuration's version, and what waits to be booked."""
    version = current_version()
    workers = [_worker(row, version, now) for row in alive]
    return {"version": version, "workers": workers, **_spool(alive)}


def _worker(row: WorkerState, version: int, now: datetime) -> dict[str, Any]:
    behind = row.version is None or row.version < version
    word = "behind" if behind else "in force"
    if row.problem:
        word = "refused"
    return {
        "name": str(row),
        "plane": row.plane,
        "version": "none yet" if row.version is None else row.version,
        "word": word,
        "colour": "danger" if row.problem else "warning" if behind else "success",
        "problem": row.problem,
        "since": timesince(row.started_at, now),
    }


def _spool(workers: Sequence[WorkerState]) -> dict[str, Any]:
    """Add up the spools of all hosts: those of one host share theirs."""
    waiting: dict[str, tuple[int, int]] = {}
    for row in workers:
        if row.plane != "control":
            known = waiting.get(row.host, (0, 0))
            waiting[row.host] = max(known, (row.spool_segments, row.spool_bytes))
    directory = settings.GATEWAY.data_dir / "spool"
    if not waiting and directory.is_dir():
        here: Mapping[str, int] = backlog(directory)
        waiting["here"] = here["segments"], here["bytes"]
    segments = sum(each for each, _ in waiting.values())
    return {
        "spool_segments": segments,
        "spool_size": filesizeformat(sum(size for _, size in waiting.values())),
        "spool_late": segments >= LATE_SEGMENTS,
        "spool_full": any(row.spool_full for row in workers),
    }
