"""The request log's partitions, on a PostgreSQL of the tests' own."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import environ
import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.db.utils import load_backend
from django.test import Client
from django.test.utils import CaptureQueriesContext

from analytics import demo, partitions, retention, rollup_check, rollup_rows, usage
from analytics.admin import RequestLogAdmin
from analytics.booking import book
from analytics.models import RequestLog, UsageRollup
from analytics.tests.spool_files import done, opened, text
from analytics.usage import Period, Where
from config.tests.admin_kit import operator, statements
from keys.models import ApiKey, LedgerEntry, Tenant
from providers.usage import Usage
from tests.servers import postgres

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

TABLE = RequestLog._meta.db_table
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def database(django_db_blocker) -> Iterator[None]:
    """Django's own database is a PostgreSQL, with two rows in a log that is one table yet."""
    with postgres() as server, django_db_blocker.unblock():
        url = server.create("log")
        before = connections["default"]
        options = {**before.settings_dict, "OPTIONS": {}, **environ.Env.db_url_config(url)}
        connections["default"] = load_backend(options["ENGINE"]).DatabaseWrapper(options, "default")
        ContentType.objects.clear_cache()  # it knows the other database's ids
        try:
            call_command("migrate", "analytics", "0003", verbosity=0)
            with connection.cursor() as cursor:
                for number, at in enumerate((TODAY - 100 * DAY, TODAY - 2 * DAY), start=1):
                    cursor.execute(
                        f"INSERT INTO {TABLE} (completion_id, request_id, at, endpoint, requested_model, "
                        "route, provider, model, status, outcome, error_code, stream, cache, attempts, "
                        "usage_estimated, latency_ms) "
                        "VALUES (%s, 'r', %s, '', '', '', '', '', 200, 'ok', '', false, '', '[]', false, 1)",
                        [f"old{number}", at],
                    )
            call_command("migrate", verbosity=0)
            yield
        finally:
            connections["default"].close()
            connections["default"] = before
            ContentType.objects.clear_cache()


def names() -> list[str]:
    return [f"{day:%Y-%m-%d}" for day in partitions.attached()]


def where_is(completion_id: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT tableoid::regclass::text FROM {TABLE} WHERE completion_id = %s", [completion_id]
        )
        (found,) = cursor.fetchone()
        return str(found)


def write(segment: str, *lines: bytes, interrupted: tuple[bytes, ...] = ()) -> bool:
    return book(segment, len(lines), done=text(*lines), interrupted=text(*interrupted))


@pytest.mark.usefixtures("database")
class TestLog:
    def test_rows_from_before_are_in_the_partitions_of_their_days(self):
        assert where_is("old1") == partitions.name_of((TODAY - 100 * DAY).date())
        assert where_is("old2") == partitions.name_of((TODAY - 2 * DAY).date())
        assert f"{TODAY + 7 * DAY:%Y-%m-%d}" in names()
        RequestLog.objects.create(completion_id="next", request_id="r", at=TODAY, status=200, outcome="ok")
        following = RequestLog.objects.get(completion_id="next")
        assert following.pk > RequestLog.objects.get(completion_id="old2").pk
        following.delete()

    def test_the_migration_can_be_undone_and_done_again(self):
        before = sorted(RequestLog.objects.values_list("pk", "completion_id"))
        call_command("migrate", "analytics", "0003", verbosity=0)
        assert sorted(RequestLog.objects.values_list("pk", "completion_id")) == before
        call_command("migrate", verbosity=0)
        assert sorted(RequestLog.objects.values_list("pk", "completion_id")) == before

    def test_a_segment_over_midnight_is_written_once(self):
        midnight = TODAY.timestamp()
        lines = [done(f"m{number}", at=midnight + number - 2) for number in range(4)]
        assert write("m1", *lines)
        assert write("m2", *lines)
        assert RequestLog.objects.filter(completion_id__startswith="m").count() == 4
        assert LedgerEntry.objects.filter(completion_id__startswith="m").count() == 4
        assert where_is("m0") != where_is("m3")

    def test_one_that_ends_after_all_replaces_its_estimate(self):
        at = TODAY.timestamp() - 5
        write("i1", interrupted=(opened("i", at=at, estimate=Usage(prompt=9, completion=9, estimated=True)),))
        write("i2", done("i", at=at))
        assert RequestLog.objects.get(completion_id="i").outcome == "ok"
        assert rollup_check.rebuild(TODAY - DAY, TODAY + DAY) == 0

    def test_the_database_refuses_the_same_completion_twice(self):
        fields = {"completion_id": "twice", "request_id": "r", "at": TODAY, "status": 200, "outcome": "ok"}
        RequestLog.objects.create(**fields)
        with pytest.raises(IntegrityError), transaction.atomic():
            RequestLog.objects.create(**fields)
        RequestLog.objects.filter(completion_id="twice").delete()

    def test_a_row_that_came_before_its_partition_is_moved_into_it(self):
        far = TODAY + 9 * DAY
        write("far", done("far", at=far.timestamp() + 60))
        assert where_is("far") == partitions.DEFAULT
        partitions.make_ahead(TODAY)
        assert where_is("far") == partitions.name_of(far.date())

    def test_days_past_retention_go_whole_and_late_rows_after_them(self):
        assert f"{TODAY - 100 * DAY:%Y-%m-%d}" in names()
        with CaptureQueriesContext(connection) as done_so:
            said = retention.apply_log_retention(TODAY + timedelta(hours=3))
        assert said == "0 partitions made, 1 dropped, 0 rows deleted."
        assert not [each for each in done_so.captured_queries if each["sql"].startswith("DELETE")]
        assert f"{TODAY - 100 * DAY:%Y-%m-%d}" not in names()
        assert not RequestLog.objects.filter(completion_id="old1").exists()
        write("late", done("late", at=(TODAY - 100 * DAY).timestamp() + 5))
        assert where_is("late") == partitions.DEFAULT
        assert retention.apply_log_retention(TODAY + timedelta(hours=3)).endswith(
            "0 dropped, 1 rows deleted."
        )
        assert UsageRollup.objects.filter(grain=1440, starts_at=TODAY - 100 * DAY).get().requests == 1

    def test_a_partition_that_was_detached_and_not_dropped_goes_the_next_time(self):
        day = (TODAY + 9 * DAY).date()
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {partitions.name_of(day)}")
        assert partitions.drop_before(TODAY - 50 * DAY) == 1


@pytest.fixture(scope="module")
def history(database: None) -> None:
    """Three days of traffic."""
    rollup_check.rebuild(TODAY - 3 * DAY, TODAY + DAY)
    demo.seed(now=TODAY + timedelta(hours=23), days=3, requests=30_000, seed=3, tell=lambda _count: None)
    with connection.cursor() as cursor:
        # Months of sums before: no planner reads a small table by an index.
        columns = ", ".join(("tenant_ref", "key_ref", "provider", "model", "tags", *rollup_rows.COLUMNS))
        cursor.execute(
            f"INSERT INTO analytics_usagerollup (grain, starts_at, {columns}) "
            f"SELECT grain, starts_at - before * interval '5 days', {columns} "
            "FROM analytics_usagerollup, generate_series(1, 40) AS before "
            "WHERE provider LIKE 'demo-%%' AND grain IN (60, 1440)",
            [],
        )
    wide_sums = import_module("analytics.migrations.0005_wide_sums")
    for make in (wide_sums.forget, wide_sums.add_up):
        make(None, SimpleNamespace(connection=connection))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.fixture(scope="module")
def people(history: None) -> Client:
    """Somebody who may see every page."""
    return operator()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def scanned(queries: list[str]) -> set[str]:
    """Return the tables of the log and of sums that statements read from end to end."""
    found = set()
    for sql in queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
            (plan,) = cursor.fetchone()
        plan = json.loads(plan) if isinstance(plan, str) else plan
        found |= {
            node["Relation Name"]
            for node in nodes(plan[0]["Plan"])
            if node["Node Type"] == "Seq Scan"
            and node["Relation Name"].startswith((TABLE, "analytics_usagerollup"))
        }
    with connection.cursor() as cursor:
        # One that is empty, or nearly so, has nothing to be spared.
        cursor.execute("SELECT relname FROM pg_class WHERE relpages > 8 AND relname = ANY(%s)", [list(found)])
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.usefixtures("history")
class TestAtSize:
    """Nothing that a person waits for reads the log, or the sums, from end to end.

    One statement of each page has the names of providers, for a filter's choices.
    """

    @pytest.mark.parametrize(
        ("query", "statements"),
        [
            ("", 2),
            ("tenant=demo-globex", 3),
            ("key=demo-acme-ci", 3),
            ("tenant=demo-globex&status=5", 5),
            ("q=req-demo-3-9", 2),
            ("provider=demo-mistral", 3),
            ("cost_nanousd_from=0.5", 3),
            ("latency_ms_from=90000&cache=miss", 3),
        ],
    )
    def test_a_page_of_the_log_is_read_by_an_index(self, query, statements, rf, monkeypatch):
        monkeypatch.setattr("config.keyset.LOOKED_THROUGH", 500)
        screen = RequestLogAdmin(RequestLog, admin.site)
        page = ""
        for _ in range(3):
            request = rf.get(f"/admin/analytics/requestlog/?{query}&p={page}")
            with CaptureQueriesContext(connection) as captured:
                paginator = self.paginator(screen, request)
                paginator.page(1)
            sql = [each["sql"] for each in captured.captured_queries if each["sql"].startswith("SELECT")]
            assert len(sql) <= statements
            assert not [each for each in sql if "COUNT(" in each.upper()]
            assert scanned(sql) == set()
            page = str(paginator.older)

    def paginator(self, screen, request) -> Any:
        rows = screen.get_queryset(request)
        parameters = dict(request.GET.lists())
        parameters.pop("p", None)
        parameters.pop("q", None)
        for each in screen.list_filter:
            if isinstance(each, str):
                continue
            asked = (request, parameters, RequestLog, screen)
            if isinstance(each, tuple):
                spec = each[1](RequestLog._meta.get_field(each[0]), *asked, field_path=each[0])
            else:
                spec = each(*asked)
            found = spec.queryset(request, rows)
            rows = rows if found is None else found
        rows, _ = screen.get_search_results(request, rows, request.GET.get("q", ""))
        return screen.get_paginator(request, rows, 50)

    def test_figures_are_read_from_sums_by_an_index(self):
        tenant = Tenant.objects.get(name="demo-globex")
        days = Period.days(2, now=TODAY + timedelta(hours=1))
        hours = Period.hours(12, now=TODAY + timedelta(hours=1))
        with CaptureQueriesContext(connection) as captured:
            for period in (days, hours):
                for where in (Where(tenant_id=tenant.pk), Where(key_id=ApiKey.objects.first().pk)):
                    usage.totals(period, where, latency=True)
                    usage.by_time(period, where)
                    usage.by("model", period, where)
            usage.totals(hours)
            usage.by("tenant", hours)
        sql = [each["sql"] for each in captured.captured_queries if TABLE in each["sql"]]
        assert sql == []
        sums = [each["sql"] for each in captured.captured_queries if "analytics_usagerollup" in each["sql"]]
        assert len(sums) == 14
        assert scanned(sums) == set()

    @pytest.mark.parametrize(
        "url",
        [
            "/admin/?range=24h",
            "/admin/?range=30d",
            "/dashboard/demo-globex/?range=24h",
            "/dashboard/demo-globex/?range=30d",
            "/dashboard/demo-initech/?range=90d",
            "/dashboard/demo-initech/?range=7d&model=demo-openai/gpt-4o",
            "/dashboard/demo-globex/errors/?range=30d",
        ],
    )
    def test_a_first_page_is_read_by_an_index(self, url, people):
        sql = [each for each in statements(people, url) if each.startswith("SELECT")]
        assert any("analytics_usagerollup" in each for each in sql)
        assert not [each for each in sql if TABLE in each and "COUNT(" in each.upper()]
        assert scanned(sql) == set()

    def test_a_chart_of_a_tenant_reads_a_row_for_each_slot(self):
        tenant = Tenant.objects.get(name="demo-initech")
        period = Period.days(3, now=TODAY + timedelta(hours=1), zone=ZoneInfo(tenant.timezone))
        with CaptureQueriesContext(connection) as captured:
            usage.by_time(period, Where(tenant_id=tenant.pk), latency=True)
        (query,) = captured.captured_queries
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
            (plan,) = cursor.fetchone()
        plan = json.loads(plan) if isinstance(plan, str) else plan
        read = [node for node in nodes(plan[0]["Plan"]) if "Index" in node["Node Type"]]
        assert 0 < sum(node["Actual Rows"] for node in read) <= 3 * 24 * 4

    def test_the_demo_is_of_one_piece(self):
        period = Period.days(4, now=TODAY + timedelta(hours=1))
        rows = LedgerEntry.objects.filter(at__gte=period.since, at__lt=period.until)
        cost = sum(filter(None, rows.values_list("cost_nanousd", flat=True)))
        assert usage.totals(period).cost_nanousd == cost
        assert rollup_check.rebuild(period.since, period.until) == 0
