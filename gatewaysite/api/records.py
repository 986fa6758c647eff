"""What happened: the request log, the ledger, the audit log, jobs. Read by pages, never counted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from auditlog import get_logentry_model
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.models import RequestLog
from config.models import JobRun
from config.moments import whole_moment
from config.money import usd
from gatewaysite.api import pages
from gatewaysite.api.base import ApiView, answer
from gatewaysite.api.owners import Names, of_seen
from gatewaysite.api.record_filters import AuditFilters, LedgerFilters, LogFilters
from keys.models import LedgerEntry
from proxy.errors import NotFound

LogEntry = get_logentry_model()


class Records(ApiView):
    """A list of rows that only grows, newest first."""

    filterset_class: ClassVar[Any]
    ordering: ClassVar[Sequence[str]]

    @property
    def parameters(self) -> Any:  # type: ignore[override]  # the filters'
        """The names of the filters, and of pages."""
        return {*self.filterset_class.base_filters, *pages.PARAMETERS}

    def get_queryset(self) -> QuerySet[Any]:
        """Return the rows that may be seen."""
        raise NotImplementedError

    def get(self, request: Request) -> Response:
        """Answer with a page."""
        narrowed = self.filterset_class(request.query_params, queryset=self.get_queryset(), request=request)
        if not narrowed.is_valid():
            raise ValidationError(narrowed.errors)
        found, cursor = pages.page(request, narrowed.qs, self.ordering)
        return answer({"items": self.shown(found), "next_cursor": cursor})

    def shown(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Return a page's rows as JSON."""
        raise NotImplementedError


class Logs(Records):
    """The request log."""

    scopes = ("usage:read",)
    permission_models = (RequestLog,)
    for_members = True
    filterset_class = LogFilters
    ordering = ("-at", "-id")

    def get_queryset(self) -> QuerySet[RequestLog]:
        """Return the rows that may be seen, without what only one row's page shows."""
        return of_seen(RequestLog.objects.defer("attempts", "limits"), self.seen)

    def shown(self, rows: Sequence[RequestLog]) -> list[dict[str, Any]]:
        """Return the rows."""
        names = Names(rows)
        return [log_row(row, names) for row in rows]


class LogItem(ApiView):
    """One request, with its attempts."""

    scopes = ("usage:read",)
    permission_models = (RequestLog,)
    for_members = True

    def get(self, request: Request, completion_id: str) -> Response:  # noqa: ARG002 - REST framework's contract
        """Answer with it."""
        rows = of_seen(RequestLog.objects.all(), self.seen)
        row = None if "\0" in completion_id else rows.filter(completion_id=completion_id).first()
        if row is None:
            raise NotFound(f"There is no request {completion_id}.", code="not_found")
        return answer(
            {
                **log_row(row, Names([row])),
                "attempts": [_attempt(each) for each in row.attempts],
                "limits": row.limits,
            }
        )


_AS_THEY_ARE = (
    *("completion_id", "request_id", "endpoint", "requested_model", "route", "provider", "model", "status"),
    *("outcome", "error_code", "stream", "cache", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("cache_write_tokens", "reasoning_tokens", "usage_estimated", "latency_ms", "ttft_ms", "overhead_ms"),
    "queue_ms",
)


def log_row(row: RequestLog, names: Names) -> dict[str, Any]:
    """Return a request as JSON, without its attempts."""
    return {
        "at": whole_moment(row.at),
        **{name: getattr(row, name) for name in _AS_THEY_ARE},
        **names.of(row),
        "tags": row.tags or {},
        "cost_usd": _usd(row.cost_nanousd),
        "saved_usd": _usd(row.saved_nanousd),
    }


def _attempt(each: dict[str, Any]) -> dict[str, Any]:
    columns = ("provider", "model", "started_ms", "latency_ms", "status", "outcome", "error")
    return {**{name: each.get(name) for name in columns}, "cost_usd": _usd(each.get("cost_nanousd"))}


def _usd(nanousd: int | None) -> str | None:
    return None if nanousd is None else usd(nanousd)


class Ledger(Records):
    """What was spent."""

    scopes = ("usage:read",)
    permission_models = (LedgerEntry,)
    for_members = True
    filterset_class = LedgerFilters
    ordering = ("-at", "-id")

    def get_queryset(self) -> QuerySet[LedgerEntry]:
        """Return the rows that may be seen."""
        return of_seen(LedgerEntry.objects.all(), self.seen)

    def shown(self, rows: Sequence[LedgerEntry]) -> list[dict[str, Any]]:
        """Return the rows."""
        names = Names(rows)
        return [_ledger_row(row, names) for row in rows]


_LEDGER = (
    *("id", "completion_id", "attempt", "kind", "revision", "provider", "model", "requested_model"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("estimated", "own_credential", "shadow"),
)


def _ledger_row(row: LedgerEntry, names: Names) -> dict[str, Any]:
    return {
        "at": whole_moment(row.at),
        **{name: getattr(row, name) for name in _LEDGER},
        **names.of(row),
        "tags": row.tags or {},
        "cost_usd": _usd(row.cost_nanousd),
    }


class Audit(Records):
    """Who changed what. Secrets are hidden in it already."""

    scopes = ("audit:read",)
    permission_models = (LogEntry,)
    filterset_class = AuditFilters
    ordering = ("-timestamp", "-id")

    def get_queryset(self) -> QuerySet[Any]:
        """Return all rows, without the serialised copies that nobody is shown."""
        rows: QuerySet[Any] = LogEntry.objects.select_related("actor", "content_type").defer(
            "serialized_data"
        )
        return rows

    def shown(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the rows."""
        return [
            {
                "id": row.pk,
                "at": whole_moment(row.timestamp),
                "actor": row.actor.username if row.actor else None,
                "remote_addr": row.remote_addr,
                "action": row.get_action_display(),
                "kind": row.content_type.model,
                "object_id": str(row.object_pk),
                "name": row.object_repr,
                "changes": _changes(row.changes_dict),
            }
            for row in rows
        ]


def _changes(changes: Any) -> dict[str, dict[str, str | None]]:
    """Return column -> what it was and what it is; of lists of rows, those that were taken out or put in."""
    told = {}
    for name, change in sorted((changes or {}).items()):
        if isinstance(change, dict):
            listed = ", ".join(map(str, change.get("objects", ())))
            gone = change.get("operation") == "delete"
            pair = (listed, None) if gone else (None, listed)
        else:
            pair = change[0], change[1]
        told[name] = {"before": _told(pair[0]), "after": _told(pair[1])}
    return told


def _told(value: Any) -> str | None:
    return None if value in (None, "None") else str(value)


class Jobs(ApiView):
    """How the periodic jobs' last runs went."""

    scopes = ("config:read",)
    permission_models = (JobRun,)
    parameters = pages.PARAMETERS

    def get(self, request: Request) -> Response:
        """Answer with a page."""
        found, cursor = pages.page(request, JobRun.objects.all(), ("name",))
        return answer({"items": [_job(row) for row in found], "next_cursor": cursor})


def _job(row: JobRun) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in ("name", "state", "result", "problem", "runs", "failures")},
        **{name: _at(getattr(row, name)) for name in ("started_at", "finished_at", "failing_since")},
    }


def _at(at: datetime | None) -> str | None:
    return None if at is None else whole_moment(at)
