"""What a process tells of itself, for the operators' first page."""

from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from proxy import worker_state as module
from proxy.models import WorkerState
from proxy.worker_state import FORGOTTEN_AFTER, REPORT_EVERY_S, WorkerReporter

NOW = 1_800_000_000.0
KNOWN = {"version": 3, "problem": "", "full": False}


def reporter(name="boot-0"):
    return WorkerReporter(name=name, host="h", worker=0, plane="all", started_at=NOW - 60)


@pytest.mark.django_db
def test_it_writes_one_row_for_as_long_as_it_lives():
    one = reporter()
    one.report(NOW, **KNOWN, segments=1, size=10)
    one.report(NOW + 10, **{**KNOWN, "version": 4, "problem": "routes[0]: no"}, segments=0, size=0)
    row = WorkerState.objects.get()
    assert (row.version, row.problem, row.spool_segments) == (4, "routes[0]: no", 0)
    assert row.started_at == datetime.fromtimestamp(NOW - 60, UTC)
    assert str(row) == "h/0"


@pytest.mark.django_db
def test_rows_of_those_that_have_ended_go():
    reporter("old-0").report(NOW - FORGOTTEN_AFTER.total_seconds() - 1, **KNOWN, segments=0, size=0)
    reporter().report(NOW, **KNOWN, segments=0, size=0)
    assert [row.name for row in WorkerState.objects.all()] == ["boot-0"]


@pytest.mark.django_db
def test_it_writes_now_and_then_and_at_once_when_something_changes():
    one = reporter()
    assert one.is_due(NOW, **KNOWN)
    one.report(NOW, **KNOWN, segments=0, size=0)
    assert not one.is_due(NOW + 1, **KNOWN)
    assert one.is_due(NOW + 1, **{**KNOWN, "version": 4})
    assert one.is_due(NOW + REPORT_EVERY_S, **KNOWN)


def test_a_database_that_is_down_ends_nothing(monkeypatch):
    def down(*_, **__):
        raise OperationalError("of the database")

    monkeypatch.setattr(module.WorkerState.objects, "bulk_create", down)
    reporter().report(NOW, **KNOWN, segments=0, size=0)
