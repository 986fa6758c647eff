"""Sums of usage: `GET /api/v1/usage?by=model&since=...`, from rollups alone."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from analytics import usage
from analytics.models import RequestLog
from analytics.usage import Figures, Period, Where
from config.moments import moment, whole_moment
from config.money import usd
from gatewaysite.api.base import ApiView, answer
from gatewaysite.api.kinds import invalid
from gatewaysite.api.owners import key_ids, named, tenant_ids
from keys.models import ApiKey, Tenant

TIMES = ("hour", "day")
GROUPS = (*TIMES, *usage.DIMENSIONS)
MAX_STEPS = {"hour": 31 * 24, "day": 800}
MAX_GROUPS = 1000
_COUNTS = (
    *("requests", "errors", "refused", "limited", "cancelled", "streams", "hits", "misses", "attempts"),
    *(
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "unpriced",
    ),
)


class Usage(ApiView):
    """What traffic came to, in all and by one thing."""

    scopes = ("usage:read",)
    permission_models = (RequestLog,)
    for_members = True
    parameters = frozenset(
        {"by", "since", "until", "zone", "tenant", "key", "provider", "model", "tag", "latency"}
    )

    def get(self, request: Request) -> Response:
        """Answer with totals and groups."""
        asked = {name: str(text) for name, text in request.query_params.items() if text}
        by = asked.get("by", "day")
        if by not in GROUPS and not (by.startswith("tag:") and len(by) > len("tag:")):
            raise invalid("by", f"must be one of {', '.join(GROUPS)}, or tag:NAME")
        latency = _flag(asked, "latency")
        period = _period(asked, "hour" if by == "hour" else "day")
        where = self._where(asked)
        if where is None:
            whole: Figures = Figures()
            groups: list[tuple[Any, Figures]] = []
        elif by in TIMES:
            groups = list(usage.by_time(period, where, latency=latency))
            whole = usage.totals(period, where, latency=latency)
        else:
            groups = list(usage.by(by, period, where, latency=latency))
            whole = usage.totals(period, where, latency=latency)
        names = _names(by, groups[:MAX_GROUPS])
        return answer(
            {
                "since": whole_moment(period.since),
                "until": whole_moment(period.until),
                "zone": str(period.zone),
                "by": by,
                "totals": figures(whole, latency=latency),
                "groups": [
                    {"name": names(name), **figures(each, latency=latency)}
                    for name, each in groups[:MAX_GROUPS]
                ],
                "groups_left_out": max(len(groups) - MAX_GROUPS, 0),
            }
        )

    def _where(self, asked: Mapping[str, str]) -> Where | None:
        """Return whose figures are asked for; None where there can be none. Raises BadRequest."""
        tenants = tenant_ids(asked["tenant"]) if "tenant" in asked else None
        keys = key_ids(asked["key"]) if "key" in asked else None
        if tenants == [] or keys == []:
            return None
        tenant = tenants[0] if tenants else None
        if not self.seen.everything:
            own = self.seen.tenant_ids
            if tenant is None and len(own) > 1:
                raise invalid("tenant", "required, as you belong to several")
            if tenant is not None and tenant not in own:
                return None
            tenant = own[0] if tenant is None else tenant
        return Where(
            tenant_id=tenant,
            key_id=keys[0] if keys else None,
            provider=_text(asked, "provider"),
            model=_text(asked, "model"),
            tag=_tag(asked.get("tag", "")),
        )


def figures(sums: Figures, *, latency: bool) -> dict[str, Any]:
    """Return sums as JSON."""
    told: dict[str, Any] = {name: getattr(sums, name) for name in _COUNTS}
    told |= {
        "cost_usd": usd(sums.cost_nanousd),
        "unbilled_usd": usd(sums.unbilled_nanousd),
        "saved_usd": usd(sums.saved_nanousd),
    }
    if latency:
        told["latency_ms"] = {f"p{percent}": sums.latency_ms(percent / 100) for percent in (50, 95, 99)}
        told["ttft_ms"] = {f"p{percent}": sums.ttft_ms(percent / 100) for percent in (50, 95, 99)}
    return told


def _period(asked: Mapping[str, str], step: Any) -> Period:
    zone_name = asked.get("zone", "UTC")
    if zone_name not in available_timezones():
        raise invalid("zone", "is not a known time zone such as Europe/Berlin")
    zone = ZoneInfo(zone_name)
    now = timezone.now()
    usual = Period.hours(24, now=now, zone=zone) if step == "hour" else Period.days(30, now=now, zone=zone)
    until = _moment(asked, "until", zone) or usual.until
    since = _moment(asked, "since", zone) or (until - (usual.until - usual.since))
    since, until = _begin(since, zone, step), _end(until, zone, step)
    if since >= until:
        raise invalid("until", "must be after since")
    most = MAX_STEPS[step]
    if (until - since) > timedelta(hours=most) * (1 if step == "hour" else 24):
        raise invalid("since", f"must be at most {most} {step}s before until")
    return Period(since, until, zone, step)


def _moment(asked: Mapping[str, str], name: str, zone: ZoneInfo) -> datetime | None:
    """Return a moment; one without an offset is the zone's."""
    if name not in asked:
        return None
    try:
        parsed = datetime.fromisoformat(asked[name].strip())
        at = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
        at = moment(at.isoformat())
    except (ValueError, OverflowError):
        raise invalid(name, "must be a date or time such as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if not 1971 <= at.year <= 9990:
        raise invalid(name, "must be in the years 1971 to 9990")
    return at


def _begin(at: datetime, zone: ZoneInfo, step: str) -> datetime:
    """Return the beginning of the hour or day that a moment is in."""
    local = at.astimezone(zone)
    if step == "day":
        return Period.dates(local.date(), 1, zone).since
    past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return at - past


def _end(at: datetime, zone: ZoneInfo, step: str) -> datetime:
    """Return the end of the hour or day that a moment is in; a moment between two is the end of one."""
    begins = _begin(at, zone, step)
    if begins == at:
        return at
    return (
        begins + timedelta(hours=1)
        if step == "hour"
        else Period.dates(at.astimezone(zone).date(), 1, zone).until
    )


def _tag(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    name, equals, value = text.partition("=")
    if not equals or not name or "\0" in text:
        raise invalid("tag", "must be NAME=VALUE")
    return name, value


def _text(asked: Mapping[str, str], name: str) -> str:
    text = asked.get(name, "")
    if "\0" in text:
        raise invalid(name, "must not hold NUL")
    return text


def _flag(asked: Mapping[str, str], name: str) -> bool:
    word = asked.get(name, "false")
    if word not in {"true", "false"}:
        raise invalid(name, "must be true or false")
    return word == "true"


def _names(by: str, groups: list[tuple[Any, Figures]]) -> Any:
    """Return what turns a group's id into its name: of a row that is gone, the id; of none, null."""
    if by in TIMES:
        return whole_moment
    if by not in {"tenant", "key"}:
        return lambda name: name or None
    model = Tenant if by == "tenant" else ApiKey
    known = named(model, [name for name, _ in groups])
    return lambda pk: known.get(pk) or (f"#{pk}" if pk else None)
