"""The rows that the admin shows, as one worker after another writes them."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from auditlog.models import LogEntry
from django.db import DatabaseError, OperationalError

from config.models import current_version
from proxy import upstream_reports
from proxy.fleet.breaker import State
from proxy.fleet.lookout import Condition
from proxy.models import UpstreamState
from proxy.tests.fakes import Log
from proxy.upstream_reports import CONFIRM_S, LIST_AGAIN_S, LIST_EVERY_S, PAUSE_S, RETIRE_EVERY_S, Reporter

pytestmark = pytest.mark.django_db

NOW = 1_800_000_000.0
OPEN = Condition(
    upstream="openai/gpt", state=State.OPEN, failures=5, reason="upstream_error", open_until=NOW + 30
)
COOLING = Condition(upstream="mistral/large", cooling_until=NOW + 20)


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(upstream_reports, "log", recorder)
    return recorder


class Reporting:
    """A worker, its clock, and what it sees."""

    def __init__(self, worker="host/0"):
        self.now = NOW
        self.seen = []
        self.used = {}
        fleet = SimpleNamespace(known=self._known)
        lookout = SimpleNamespace(conditions=lambda: list(self.seen))
        self.reporter = Reporter(fleet, lookout, worker=worker)

    def _known(self):
        return [
            SimpleNamespace(id=name, cost=SimpleNamespace(observed_at=at)) for name, at in self.used.items()
        ]

    def poll(self, *seen, after_s=PAUSE_S):
        self.now += after_s
        self.seen = list(seen)
        self.reporter.poll(self.now)


@pytest.fixture
def reporting():
    return Reporting()


def states():
    return dict(UpstreamState.objects.values_list("upstream", "state"))


def age(**fields):
    UpstreamState.objects.update(reported_at=datetime.fromtimestamp(NOW, UTC) - timedelta(**fields))


def test_it_writes_what_is_seen(reporting):
    reporting.poll(OPEN, COOLING)
    row = UpstreamState.objects.get(upstream="openai/gpt")
    assert (row.state, row.failures, row.reason, row.worker) == ("open", 5, "upstream_error", "host/0")
    assert row.open_until == datetime.fromtimestamp(NOW + 30, UTC)
    assert row.reported_at == datetime.fromtimestamp(reporting.now, UTC)
    cooling = UpstreamState.objects.get(upstream="mistral/large")
    assert (cooling.state, cooling.cooling_until) == ("closed", datetime.fromtimestamp(NOW + 20, UTC))


def test_it_writes_when_all_is_well_again(reporting):
    reporting.poll(OPEN)
    reporting.poll()
    row = UpstreamState.objects.get()
    assert (row.state, row.failures, row.reason, row.open_until) == ("closed", 0, "", None)


def test_it_bumps_no_version_and_leaves_no_audit(reporting):
    version = current_version()
    reporting.used = {"openai/mini": 5.0}
    reporting.poll(OPEN)
    reporting.poll(after_s=LIST_EVERY_S)
    assert set(states()) == {"openai/gpt", "openai/mini"}
    reporting.poll(after_s=2 * 86_400)
    assert not UpstreamState.objects.filter(upstream="openai/gpt").exists()
    assert current_version() == version
    assert not LogEntry.objects.exists()


def test_it_leaves_to_operators_what_is_theirs(reporting):
    reporting.poll(OPEN)
    UpstreamState.objects.update(held_open=True)
    reporting.poll(COOLING)
    assert UpstreamState.objects.get(upstream="openai/gpt").held_open


def test_it_writes_once_a_second_at_most_and_only_what_has_changed(reporting, django_assert_num_queries):
    reporting.poll(OPEN)
    with django_assert_num_queries(0):
        reporting.poll(COOLING, after_s=PAUSE_S / 4)
        reporting.poll(OPEN, after_s=PAUSE_S)
        reporting.poll(OPEN, after_s=PAUSE_S)


def test_it_asks_the_database_nothing_while_all_is_well(reporting, django_assert_num_queries):
    """But once a minute, for rows that nobody confirms."""
    reporting.poll()
    with django_assert_num_queries(0):
        for _ in range(10):
            reporting.poll()


def test_it_confirms_what_goes_on(reporting):
    reporting.poll(OPEN)
    reporting.poll(OPEN, after_s=CONFIRM_S)
    assert UpstreamState.objects.get().reported_at == datetime.fromtimestamp(reporting.now, UTC)


@pytest.mark.parametrize("problem", [OperationalError("gone"), DatabaseError("full"), ConnectionError()])
def test_it_writes_later_what_a_database_that_is_down_has_not_taken(reporting, monkeypatch, problem):
    def fail(rows):
        raise problem

    with monkeypatch.context() as down:
        down.setattr(UpstreamState, "report", fail)
        reporting.poll(OPEN)
    assert states() == {}
    reporting.poll(OPEN)
    assert states() == {"openai/gpt": "open"}


def test_it_lives_on_whatever_happens(reporting, monkeypatch, log):
    def fail(rows):
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(UpstreamState, "report", fail)
        reporting.poll(OPEN)
    assert log.problems == ["upstream_reports"]


def test_it_writes_the_open_ones_first_and_not_all_at_once(reporting, monkeypatch):
    monkeypatch.setattr(upstream_reports, "MAX_ROWS", 2)
    failing = [Condition(upstream=f"openai/m{number}", failures=1) for number in range(3)]
    reporting.poll(*failing, OPEN)
    assert states()["openai/gpt"] == "open"
    assert len(states()) == 2
    reporting.poll(*failing, OPEN)
    assert len(states()) == 4


def test_it_reports_a_bounded_number_and_any_that_is_open(reporting, monkeypatch):
    monkeypatch.setattr(upstream_reports, "MAX_REPORTED", 1)
    reporting.poll(Condition(upstream="openai/a", failures=1))
    reporting.poll(
        Condition(upstream="openai/a", failures=1), Condition(upstream="openai/b", failures=1), OPEN
    )
    assert set(states()) == {"openai/a", "openai/gpt"}


@pytest.mark.parametrize("name", ["openai/" + "x" * 300, "openai/a\0b", "openai/a\nb"])
def test_it_passes_over_what_is_no_name_for_a_row(reporting, name):
    reporting.used = {name: 5.0}
    reporting.poll(Condition(upstream=name, failures=1), OPEN)
    assert set(states()) == {"openai/gpt"}


def test_it_lists_those_that_answer(reporting):
    """So that an operator can hold one open that is well."""
    reporting.used = {"openai/mini": 5.0, "never/asked": 0.0}
    reporting.poll()
    row = UpstreamState.objects.get()
    assert (row.upstream, row.state, row.worker) == ("openai/mini", "closed", "host/0")
    UpstreamState.objects.update(worker="")
    reporting.poll(after_s=LIST_EVERY_S)
    assert UpstreamState.objects.get().worker == "", "it has been listed"
    reporting.used = {"openai/mini": 5.0 + LIST_AGAIN_S}
    reporting.poll(after_s=LIST_EVERY_S)
    assert UpstreamState.objects.get().worker == "host/0"


def test_it_lists_nobody_as_well_that_another_worker_sees_open(reporting):
    Reporting("host/1").poll(OPEN)
    reporting.used = {"openai/gpt": 5.0}
    reporting.poll()
    assert UpstreamState.objects.values_list("state", "worker").get() == ("open", "host/1")


def test_it_takes_for_closed_what_nobody_confirms(reporting):
    """Its worker is no more."""
    Reporting("gone/1").poll(OPEN)
    reporting.poll(after_s=RETIRE_EVERY_S)
    assert states() == {"openai/gpt": "open"}
    reporting.poll(after_s=5 * CONFIRM_S)
    row = UpstreamState.objects.get()
    assert (row.state, row.failures, row.open_until) == ("closed", 0, None)


def test_it_deletes_what_has_been_quiet_for_a_day(reporting):
    for name, fields in {
        "quiet": {},
        "held": {"held_open": True},
        "reset": {"reset_at": datetime.now(UTC)},
    }.items():
        UpstreamState.objects.create(upstream=f"openai/{name}", **fields)
    age(hours=23)
    reporting.poll(after_s=RETIRE_EVERY_S)
    assert len(states()) == 3
    age(hours=25)
    reporting.poll(after_s=RETIRE_EVERY_S)
    assert set(states()) == {"openai/held"}
