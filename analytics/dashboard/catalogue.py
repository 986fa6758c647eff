"""The models that a tenant's keys may use, with what they cost: as GET /v1/models tells each key."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics.dashboard.access import Seat, seated
from analytics.dashboard.names import is_id
from analytics.dashboard.pages import page
from config.words import dollars
from keys.caller import Caller
from keys.models import ApiKey, Tenant
from providers.pricing import Rates
from proxy import model_list
from proxy.callers import compile_callers
from proxy.errors import GatewayError
from proxy.explaining.sources import compiled, serving_here
from proxy.key_rows import read_some
from proxy.routing import resolve
from proxy.snapshot import Snapshot

KEYS_LOOKED_AT = 200
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Offer:
    """A model, and what a million of its tokens cost now."""

    model: str
    input: str
    cached_input: str
    output: str
    note: str


@require_safe
@seated("look")
def models(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Show what one key may use, or what any key of the tenant may."""
    ref = request.GET.get("key", "")
    key = ApiKey.objects.filter(tenant=seat.tenant, pk=int(ref)).first() if is_id(ref) else None
    keys = [key] if key else _keys(seat.tenant)
    problem, offers = "", list[Offer]()
    try:
        offers = offered(keys, now=timezone.now())
    except GatewayError as error:
        problem = error.message
    context = {
        "key": key,
        "key_choices": ApiKey.objects.filter(tenant=seat.tenant).values_list("pk", "name")[:KEYS_LOOKED_AT],
        "offers": offers,
        "problem": problem,
        "no_keys": not keys,
    }
    return page(request, seat, "models", context)


def offered(keys: Sequence[ApiKey], *, now: datetime) -> list[Offer]:
    """Return what any of `keys` may use, by name. Raises Unavailable where the configuration is broken."""
    gateway = serving_here()
    snapshot = compiled() if gateway is None or gateway.snapshot is None else gateway.snapshot
    found = {served.id for caller in _callers(keys) for served in model_list.usable(snapshot, caller)}
    return [_offer(snapshot, model, now) for model in sorted(found)]


def _keys(tenant: Tenant) -> list[ApiKey]:
    """Return keys of which each may use something else: one for each set of terms."""
    alike: dict[tuple[str, str, str], ApiKey] = {}
    for key in ApiKey.objects.filter(tenant=tenant, enabled=True).order_by("pk")[:KEYS_LOOKED_AT]:
        alike.setdefault((str(key.allowed_models), str(key.denied_models), key.forced_route), key)
    return list(alike.values())


def _callers(keys: Iterable[ApiKey]) -> Iterable[Caller]:
    for row in read_some([str(key.pk) for key in keys]):
        yield next(iter(compile_callers(row).values()))


def _offer(snapshot: Snapshot, model: str, now: datetime) -> Offer:
    try:
        resolved = resolve(snapshot, model)
    except GatewayError as problem:
        return Offer(model, UNKNOWN, UNKNOWN, UNKNOWN, problem.message)
    rates = [each.prices.at(now.timestamp()) for each in resolved.upstreams]
    known = [each for each in rates if each is not None]
    targets = {each.id for each in resolved.upstreams}
    notes = []
    if targets != {model}:
        notes.append(f"answered by {', '.join(sorted(targets))}")
    if known and len(known) < len(rates):
        notes.append("some of them without a known price")
    if any(each.tiers for each in known):
        notes.append("long prompts cost more")
    return Offer(
        model,
        _range(each.input for each in known),
        _range(_cached(each) for each in known),
        _range(each.output for each in known),
        "; ".join(notes),
    )


def _cached(rates: Rates) -> int:
    return rates.base.cached_input


def _range(costs: Iterable[int]) -> str:
    """Return the least and the most that it may cost."""
    known = sorted(set(costs))
    if not known:
        return UNKNOWN
    return dollars(known[0]) if len(known) == 1 else f"{dollars(known[0])} to {dollars(known[-1])}"
