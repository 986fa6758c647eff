"""Keeps each provider's list of models fresh, in the background."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta

import structlog
from celery import shared_task
from django.db import DatabaseError, transaction
from django.utils import timezone

from config.jobs import counted, job
from config.models import ConfigChange
from providers.builtin_prices import write_new_builtin_prices
from providers.models import Provider, ProviderModel
from providers.probe import ProbeResult, probe

MAX_AGE = timedelta(minutes=10)
# A vendor that failed is asked again sooner; its last known list serves meanwhile.
RETRY_AFTER = timedelta(minutes=1)
PARALLEL = 8
MAX_MODELS = 20_000
_LARGEST = 2**53

log = structlog.get_logger()


@shared_task
@job(
    "refresh-model-lists",
    title="Refresh model lists",
    does="Asks each provider which models it has, every ten minutes and after each change of its row.",
    told=lambda asked: counted(asked, "provider") + " asked" if asked else "",
)
def refresh_model_lists() -> int:
    """Fetch the model lists that are due and store those that differ; return how many were fetched.

    Safe to run at any time and several times at once: the rows end up as a vendor last said.
    """
    now = timezone.now()
    due = _due(now)
    if not due:
        return 0
    with ThreadPoolExecutor(max_workers=min(PARALLEL, len(due)), thread_name_prefix="probe") as pool:
        asked = {pool.submit(_ask, provider): provider for provider in due}
        for answer in as_completed(asked):
            try:
                _store(asked[answer], answer.result(), asked_at=now)
            except DatabaseError as problem:
                log.error("model_list_not_stored", provider=asked[answer].name, problem=str(problem))
    return len(due)


@shared_task(name="providers.tasks.write_builtin_prices")
@job(
    "write-builtin-prices",
    title="Built-in prices",
    does="Writes the built-in prices of providers that are new, or whose address has changed.",
    told=lambda written: "prices written" if written else "",
)
def write_builtin_prices() -> bool:
    """Write the built-in prices of providers that are new or moved; was there one?"""
    return write_new_builtin_prices()


def _due(now: datetime) -> list[Provider]:
    edited_at = (
        ConfigChange.objects.filter(part=Provider.snapshot_part)
        .order_by("-version")
        .values_list("at", flat=True)
        .first()
    )
    return [
        provider for provider in Provider.objects.filter(enabled=True) if _is_due(provider, now, edited_at)
    ]


def _is_due(provider: Provider, now: datetime, edited_at: datetime | None) -> bool:
    asked_at = provider.models_refreshed_at
    if asked_at is None or (edited_at is not None and edited_at >= asked_at):
        return True
    return now - asked_at >= (RETRY_AFTER if provider.models_error else MAX_AGE)


def _ask(provider: Provider) -> ProbeResult:
    try:
        return probe(provider)
    except Exception:  # a background loop: one provider never stops the others
        log.exception("probe_failed", provider=provider.name)
        return ProbeResult(ok=False, latency_ms=0.0, error="The gateway could not ask; its log says why.")


def _store(provider: Provider, result: ProbeResult, *, asked_at: datetime) -> None:
    with transaction.atomic():
        current = Provider.objects.select_for_update().filter(pk=provider.pk).first()
        if current is None or _connection(current) != _connection(provider):
            return  # deleted or edited meanwhile: the answer is to another question
        if result.ok:
            _replace_models(current, result.models)
        Provider.objects.filter(pk=provider.pk).update(
            models_refreshed_at=asked_at, models_error=result.error
        )
    if not result.ok:
        log.warning("model_list_refused", provider=provider.name, problem=result.error)


def _connection(provider: Provider) -> tuple[object, ...]:
    return (
        provider.enabled,
        provider.dialect,
        provider.base_url,
        provider.credential,
        provider.auth_header,
        provider.extra_headers,
    )


def _replace_models(provider: Provider, models: Sequence[Mapping[str, object]]) -> None:
    said = {row.name: row for row in _rows(provider, models)}
    known = {row.name: row for row in ProviderModel.objects.filter(provider=provider)}
    gone = [known[name].pk for name in known.keys() - said.keys()]
    changed = [
        _updated(known[name], said[name])
        for name in known.keys() & said.keys()
        if _differ(known[name], said[name])
    ]
    new = [said[name] for name in sorted(said.keys() - known.keys())]
    if gone:
        ProviderModel.objects.filter(pk__in=gone).delete()
    if changed:
        ProviderModel.objects.bulk_update(changed, ["created", "owned_by"], batch_size=500)
    if new:
        ProviderModel.objects.bulk_create(new, batch_size=500)


def _rows(provider: Provider, models: Sequence[Mapping[str, object]]) -> Iterable[ProviderModel]:
    for model in models[:MAX_MODELS]:
        name, created = str(model["id"]), model.get("created")
        # No vendor has such names; a broken one must not make the whole list unstorable.
        if not name or len(name) > 200 or "\x00" in name:
            continue
        yield ProviderModel(
            provider=provider,
            name=name,
            created=min(max(created, 0), _LARGEST) if isinstance(created, int) else 0,
            owned_by=str(model.get("owned_by") or "").replace("\x00", "")[:100],
        )


def _differ(known: ProviderModel, said: ProviderModel) -> bool:
    return (known.created, known.owned_by) != (said.created, said.owned_by)


def _updated(known: ProviderModel, said: ProviderModel) -> ProviderModel:
    known.created, known.owned_by = said.created, said.owned_by
    return known
