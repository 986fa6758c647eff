import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.db import DataError, IntegrityError, transaction
from django.db.models import Model
from django.utils import timezone

from analytics import booking, insert, ledger_rows, records, tasks
from analytics.booking import book
from analytics.models import RequestLog, SpoolReceipt
from analytics.tests.spool_files import done, opened, text
from config.models import current_version
from keys import ledger
from keys.calendar import bounds
from keys.models import ApiKey, Budget, BudgetWindow, LedgerEntry, Tenant
from providers.models import Price, Provider
from providers.usage import Usage
from proxy.completion import Attempt

pytestmark = pytest.mark.django_db(transaction=True)

AT = 1_790_000_000.25  # 2026-09-21 14:13:20.25 UTC, a Monday


def write(segment: str, *lines: bytes, interrupted: tuple[bytes, ...] = ()) -> bool:
    return book(segment, len(lines), done=text(*lines), interrupted=text(*interrupted))


def windows() -> dict[datetime, int]:
    return {row.starts_at: row.spent_nanousd for row in BudgetWindow.objects.all()}


@pytest.fixture
def key() -> ApiKey:
    tenant = Tenant.objects.create(name="acme", timezone="America/New_York")
    key, _ = ApiKey.issue(tenant=tenant, name="ci")
    key.save()
    return key


def test_it_writes_log_ledger_and_receipt():
    attempts = [
        Attempt("openai", "gpt-4o", 0.2, 3, 500, "upstream_error", "boom"),
        Attempt("azure", "gpt-4o", 4, 11.5, 200, "ok"),
    ]
    usage = Usage(prompt=100, completion=20, cached=64, cache_write=8, reasoning=5, estimated=True)
    assert write("s", done("a", attempts=attempts, provider="azure", usage=usage, ttft_ms=9.5, stream=True))
    row = RequestLog.objects.get()
    assert row.completion_id == "a"
    assert row.at == datetime.fromtimestamp(AT, UTC)
    assert [attempt["provider"] for attempt in row.attempts] == ["openai", "azure"]
    assert (row.status, row.outcome, row.provider, row.stream, row.ttft_ms) == (200, "ok", "azure", True, 9.5)
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_tokens) == (100, 64, 8)
    entry = LedgerEntry.objects.get()
    assert (entry.completion_id, entry.attempt, entry.kind) == ("a", 1, "spent")
    assert (entry.prompt_tokens, entry.completion_tokens, entry.reasoning_tokens) == (100, 20, 5)
    assert (entry.estimated, entry.price_ref, entry.cost_nanousd) == (True, 7, 42_000)
    assert SpoolReceipt.objects.get().lines == 1


def test_it_leaves_unknown_cost_unknown():
    write("s", done("a", price_id=None, cost_nanousd=None))
    assert LedgerEntry.objects.get().cost_nanousd is None
    assert RequestLog.objects.get().cost_nanousd is None


def test_it_logs_but_does_not_book_a_cache_hit_or_an_answer_without_usage():
    write("s", done("a", cache="hit"), done("b", usage=None, cost_nanousd=None, status=502, outcome="error"))
    assert RequestLog.objects.count() == 2
    assert LedgerEntry.objects.count() == 0


def test_it_books_an_explicit_zero():
    write("s", done("a", usage=Usage(), cost_nanousd=0))
    assert LedgerEntry.objects.get().cost_nanousd == 0


def test_a_second_delivery_does_nothing(key):
    Budget.objects.create(amount_nanousd=1)
    assert write("s", done("a"))
    assert not write("s", done("a"))
    assert (RequestLog.objects.count(), LedgerEntry.objects.count()) == (1, 1)
    assert list(windows().values()) == [42_000]


def test_a_shadow_is_in_the_log_and_the_ledger_and_in_no_budget(key):
    Budget.objects.create(amount_nanousd=1)
    shadow = {"route": "shadow:exact:gpt-4o", "key_id": None, "tenant_id": None}
    write("s1", done("a", key_id=key.pk), done("b", **shadow))
    entry = LedgerEntry.objects.get(completion_id="b")
    assert (entry.kind, entry.key_ref, entry.tenant_ref) == ("shadow", None, None)
    assert entry.cost_nanousd == 42_000
    assert RequestLog.objects.get(completion_id="b").route == "shadow:exact:gpt-4o"
    assert list(windows().values()) == [42_000]
    BudgetWindow.objects.all().delete()  # as for a new budget: summed from the ledger
    write("s2", done("c"))
    assert list(windows().values()) == [84_000]


def test_an_interrupted_shadow_that_ended_after_all_changes_no_budget():
    Budget.objects.create(amount_nanousd=1)
    write("s1", done("a"))
    shadow = {"route": "shadow:exact:gpt-4o", "key_id": None, "tenant_id": None}
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test")
    Price.objects.create(
        provider=provider,
        model="gpt-4o",
        input_nanousd_per_mtok=10**9,
        output_nanousd_per_mtok=10**9,
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    )
    write("s2", interrupted=(opened("b", **shadow),))
    assert LedgerEntry.objects.get(completion_id="b").cost_nanousd
    assert list(windows().values()) == [42_000]
    write("s3", done("b", **shadow))
    kinds = LedgerEntry.objects.filter(completion_id="b").order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["interrupted", "retracted", "shadow"]
    assert RequestLog.objects.get(completion_id="b").outcome == "ok"
    assert list(windows().values()) == [42_000]
    BudgetWindow.objects.all().delete()  # as for a new budget: summed from the ledger
    write("s4", done("c"))
    assert list(windows().values()) == [84_000]


def test_a_completion_that_comes_in_two_segments_counts_once():
    Budget.objects.create(amount_nanousd=1)
    write("s1", done("a"), done("a"))
    write("s2", done("a"), done("b"))
    assert (RequestLog.objects.count(), LedgerEntry.objects.count()) == (2, 2)
    assert list(windows().values()) == [84_000]
    assert SpoolReceipt.objects.count() == 2


def test_the_ledger_remembers_what_the_log_has_forgotten():
    write("s1", done("a"))
    RequestLog.objects.all().delete()
    write("s2", done("a"))
    assert (RequestLog.objects.count(), LedgerEntry.objects.count()) == (0, 1)


def test_it_looks_again_when_another_worker_wrote_the_same_in_between(monkeypatch):
    Budget.objects.create(amount_nanousd=1)
    write("s1", done("a"))
    really, looks = booking._known, []

    def blind_once(completion_ids):
        looks.append(1)
        return set() if len(looks) == 1 else really(completion_ids)

    monkeypatch.setattr(booking, "_known", blind_once)
    assert write("s2", done("a"), done("b"))
    assert len(looks) == 2
    assert RequestLog.objects.count() == 2
    assert list(windows().values()) == [84_000]


def test_it_gives_up_without_a_trace_when_looking_again_never_helps(monkeypatch):
    write("s1", done("a"))
    monkeypatch.setattr(booking, "_known", lambda _: set())
    with pytest.raises(IntegrityError):
        write("s2", done("a"), done("b"))
    assert (RequestLog.objects.count(), SpoolReceipt.objects.count()) == (1, 1)


def test_it_books_an_interrupted_call_with_its_estimate_and_price():
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="https://x")
    for model, rate in (("gpt-4o*", 10**9), ("gpt-4o", 2 * 10**9), ("*", 5 * 10**9)):
        Price.objects.create(
            provider=provider,
            model=model,
            input_nanousd_per_mtok=rate,
            output_nanousd_per_mtok=2 * rate,
            effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        )
    Budget.objects.create(amount_nanousd=1)
    write("s", interrupted=(opened("a", estimate=Usage(prompt=1000, completion=500, estimated=True)),))
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.estimated, entry.prompt_tokens, entry.completion_tokens) == (
        "interrupted",
        True,
        1000,
        500,
    )
    assert entry.cost_nanousd == 1000 * 2000 + 500 * 4000
    assert entry.price_ref == Price.objects.get(model="gpt-4o").pk
    row = RequestLog.objects.get()
    assert (row.outcome, row.status, row.cost_nanousd, row.usage_estimated) == (
        "interrupted",
        0,
        4_000_000,
        True,
    )
    assert list(windows().values()) == [4_000_000]


def test_an_operators_price_beats_a_built_in_one_and_the_date_of_the_call_counts():
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="https://x")
    for source, year, rate in (("builtin", 2026, 1), ("operator", 2025, 2), ("operator", 2027, 3)):
        Price.objects.create(
            provider=provider,
            model="gpt-4o",
            source=source,
            input_nanousd_per_mtok=rate * 10**9,
            output_nanousd_per_mtok=0,
            effective_from=datetime(year, 1, 1, tzinfo=UTC),
        )
    write("s", interrupted=(opened("a", estimate=Usage(prompt=1)),))
    assert LedgerEntry.objects.get().cost_nanousd == 2000


def test_an_interrupted_call_without_a_price_has_no_cost():
    write("s", interrupted=(opened("a"),))
    assert LedgerEntry.objects.get().cost_nanousd is None


@pytest.mark.parametrize("together", [True, False])
def test_interrupted_never_overwrites_done(together):
    if together:
        write("s", done("a"), interrupted=(opened("a"),))
    else:
        write("s1", done("a"))
        write("s2", interrupted=(opened("a"),))
    assert RequestLog.objects.get().outcome == "ok"
    assert LedgerEntry.objects.get().kind == "spent"


@pytest.mark.parametrize("cost", [42_000, None])
def test_a_done_that_comes_late_takes_the_estimates_place(cost, key):
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="https://x")
    Price.objects.create(
        provider=provider,
        model="gpt-4o",
        input_nanousd_per_mtok=10**9,
        output_nanousd_per_mtok=10**9,
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    )
    Budget.objects.create(amount_nanousd=1)
    Budget.objects.create(key=key, amount_nanousd=1, window="day", model="gpt-4o")
    own = {"key_id": key.pk, "tenant_id": key.tenant_id}
    write("s1", interrupted=(opened("a", **own), opened("b", **own)))
    assert set(BudgetWindow.objects.values_list("spent_nanousd", flat=True)) == {2 * 1_500_000}
    for segment in ("s2", "s3"):
        write(segment, done("a", cost_nanousd=cost, **own))
    assert dict(RequestLog.objects.values_list("completion_id", "outcome")) == {"a": "ok", "b": "interrupted"}
    rows = LedgerEntry.objects.order_by("pk")
    assert [(row.completion_id, row.kind, row.revision) for row in rows] == [
        ("a", "interrupted", 0),
        ("b", "interrupted", 0),
        ("a", "retracted", 1),
        ("a", "spent", 0),
    ]
    of_a = rows.filter(completion_id="a")
    assert sum(row.cost_nanousd or 0 for row in of_a) == (cost or 0)
    assert (sum(row.prompt_tokens for row in of_a), sum(row.completion_tokens for row in of_a)) == (100, 20)
    found = BudgetWindow.objects.values_list("spent_nanousd", "corrected_nanousd")
    assert set(found) == {(1_500_000 + (cost or 0), -1_500_000)}


def test_interrupted_adds_no_money_to_a_call_that_ended_without_usage():
    write("s1", done("a", usage=None, cost_nanousd=None, outcome="error", status=502))
    write("s2", interrupted=(opened("a"),))
    assert LedgerEntry.objects.count() == 0


def test_it_adds_to_the_budgets_of_the_key_its_tenant_and_everyone(key):
    other = Tenant.objects.create(name="other")
    mine = [
        Budget.objects.create(key=key, amount_nanousd=1, window="day"),
        Budget.objects.create(tenant=key.tenant, amount_nanousd=1, window="week"),
        Budget.objects.create(amount_nanousd=1, window="month"),
        Budget.objects.create(amount_nanousd=1, window="total", model="gpt-4*"),
        Budget.objects.create(amount_nanousd=1, window="total", model="openai/*", enabled=False),
    ]
    Budget.objects.create(tenant=other, amount_nanousd=1)
    Budget.objects.create(amount_nanousd=1, model="claude*")
    own = {"key_id": key.pk, "tenant_id": key.tenant_id}
    write("s", done("a", **own), done("b", **own))
    assert dict(BudgetWindow.objects.values_list("budget", "spent_nanousd")) == dict.fromkeys(
        [budget.pk for budget in mine], 84_000
    )
    starts = dict(BudgetWindow.objects.values_list("budget", "starts_at"))
    assert [starts[budget.pk] for budget in mine[:4]] == [
        datetime(2026, 9, 21, 4, tzinfo=UTC),
        datetime(2026, 9, 21, 4, tzinfo=UTC),
        datetime(2026, 9, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]


def test_a_budget_made_later_starts_with_what_the_ledger_holds_for_its_window(key):
    own = {"key_id": key.pk, "tenant_id": key.tenant_id}
    write("s1", done("a", **own), done("b", at=AT - 86400, **own), done("c", key_id=999, tenant_id=999))
    Budget.objects.create(key=key, amount_nanousd=1, window="day", model="gpt-4o")
    write("s2", done("d", **own))
    assert list(windows().values()) == [84_000]


def test_a_late_record_counts_for_the_window_it_was_made_in(key):
    Budget.objects.create(tenant=key.tenant, amount_nanousd=1, window="day")
    own = {"key_id": key.pk, "tenant_id": key.tenant_id}
    midnight = datetime(2026, 9, 22, tzinfo=ZoneInfo("America/New_York")).timestamp()
    write("s", done("a", at=midnight - 0.001, **own), done("b", at=midnight, **own))
    assert windows() == {
        datetime(2026, 9, 21, 4, tzinfo=UTC): 42_000,
        datetime(2026, 9, 22, 4, tzinfo=UTC): 42_000,
    }


@pytest.mark.parametrize(
    ("window", "at", "start", "end"),
    [
        ("day", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours: clocks go forward
        ("day", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("week", "2026-11-22T22:59", "2026-11-15T23:00", "2026-11-22T23:00"),
        ("week", "2026-11-22T23:00", "2026-11-22T23:00", "2026-11-29T23:00"),
        ("month", "2026-12-31T23:30", "2026-12-31T23:00", "2027-01-31T23:00"),
        ("month", "2024-02-29T12:00", "2024-01-31T23:00", "2024-02-29T23:00"),
        ("total", "2026-01-01T00:00", "1970-01-01T00:00", "9999-12-31T00:00"),
    ],
)
def test_windows_follow_the_calendar_of_the_time_zone(window, at, start, end):
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = bounds(window, moment, ZoneInfo("Europe/Berlin"))
    assert [bound.isoformat()[:16] for bound in found] == [start, end]


def test_it_tells_when_a_key_was_last_used_without_a_new_configuration_version(key):
    version = current_version()
    write("s1", done("a", key_id=key.pk), done("b", key_id=key.pk, at=AT - 5))
    key.refresh_from_db()
    assert key.last_used_at == datetime.fromtimestamp(AT, UTC)
    write("s2", done("c", key_id=key.pk, at=AT - 100), done("d", key_id=key.pk, at=AT + 1))
    key.refresh_from_db()
    assert key.last_used_at == datetime.fromtimestamp(AT, UTC)
    write("s3", done("e", key_id=key.pk, at=AT + 11))
    key.refresh_from_db()
    assert key.last_used_at == datetime.fromtimestamp(AT + 11, UTC)
    assert current_version() == version


def test_strange_fields_cost_no_record():
    strange = {
        "kind": "done",
        "id": "a",
        "at": 1,
        "request_id": "nul\0" + "x" * 500,
        "endpoint": None,
        "key_id": "seven",
        "tenant_id": 2**70,
        "route": ["x"],
        "provider": {"a": 1},
        "model": "m" * 999,
        "status": 99_999_999,
        "outcome": "a" * 99,
        "stream": "yes",
        "attempts": [{"error": "nul\0"}, 7],
        "usage": {"prompt": -1, "completion": 2**63, "cached": True, "estimated": 1},
        "cost_nanousd": 1.5,
        "latency_ms": "fast",
    }
    bare = {"kind": "done", "id": "b", "at": 2}
    assert write("s", *(json.dumps(record).encode() + b"\n" for record in (strange, bare)))
    row = RequestLog.objects.get(completion_id="a")
    assert row.request_id == ("nul" + "x" * 500)[:128]
    assert (row.key_ref, row.tenant_ref, row.status, row.cost_nanousd) == (None, None, 32_767, None)
    assert row.attempts == [{"error": "nul"}, 7]
    assert LedgerEntry.objects.get().model == "m" * 200


def test_a_row_that_the_database_refuses_is_told_and_the_others_are_written(monkeypatch):
    really, told = insert._insert, []

    def refuse(table, rows):
        if any(row["completion_id"] == "b" for row in rows):
            raise DataError("no such character in this encoding")
        really(table, rows)

    class Log:
        def error(self, event, **fields):
            told.append((event, fields["row"]["completion_id"]))

    monkeypatch.setattr(insert, "_insert", refuse)
    monkeypatch.setattr(insert, "log", Log())
    assert write("s", done("a"), done("b"), done("c"))
    assert set(RequestLog.objects.values_list("completion_id", flat=True)) == {"a", "c"}
    assert told == [("row_refused", "b"), ("row_refused", "b")]


def test_it_reads_back_as_the_orm_would_have_written_it():
    write("s", done("a"))
    row = RequestLog.objects.get()
    values = {field.attname: getattr(row, field.attname) for field in RequestLog._meta.concrete_fields}
    row.delete()
    with transaction.atomic():
        RequestLog(**values).save(force_insert=True)
    assert RequestLog.objects.filter(at=datetime.fromtimestamp(AT, UTC), attempts=values["attempts"]).exists()


def test_it_purges_receipts_whose_files_are_long_gone(monkeypatch):
    monkeypatch.setattr(tasks, "PURGED_AT_ONCE", 2)
    for number in range(5):
        SpoolReceipt.objects.create(segment=f"old{number}", lines=1)
    SpoolReceipt.objects.update(at=timezone.now() - tasks.RECEIPTS_KEPT * 1.01)
    SpoolReceipt.objects.create(segment="new", lines=1)
    tasks.purge_receipts()
    assert [receipt.segment for receipt in SpoolReceipt.objects.all()] == ["new"]


def test_it_asks_the_database_a_fixed_number_of_times(django_assert_max_num_queries, key):
    Budget.objects.create(amount_nanousd=1)
    lines = [done(f"c{number}", key_id=key.pk) for number in range(300)]
    with django_assert_max_num_queries(40):
        write("s", *lines)


def test_every_column_has_a_value_of_its_own():
    """Rows are inserted without the ORM, so a new column's default must be written here too."""
    (finished,), (cut,) = (list(records.parse(text(line))) for line in (done("a"), opened("b")))
    entry = ledger_rows.interrupted_entry(cut)
    stored = ledger.Booked(LedgerEntry(**{**entry, "tags": None}), (), 1)
    rows: dict[type[Model], list[ledger_rows.Row]] = {
        RequestLog: [records.log_row(finished), records.interrupted_log_row(cut, entry)],
        LedgerEntry: [
            *ledger_rows.spent_entries(finished),
            entry,
            ledger_rows.retracting(stored),
            ledger_rows.adjusting(stored, price_ref=1, difference=1, rerating=1),
        ],
    }
    for model, written in rows.items():
        columns = {field.attname for field in model._meta.concrete_fields} - {"id"}
        assert [set(row) for row in written] == [columns] * len(written)


def test_each_attempt_that_has_cost_something_has_a_row_of_its_own(key):
    """A hedge and its winner, or the parts of a continued stream."""
    for model in ("", "openai/*", "azure/gpt-4o", "gpt-4o"):
        Budget.objects.create(key=key, amount_nanousd=10**12, model=model)
    lost, won = Usage(prompt=100, estimated=True), Usage(prompt=90, completion=20)
    attempts = [
        Attempt("openai", "gpt-4o", 0.2, 30, 200, "ok", usage=won, price_id=7, cost_nanousd=130_000),
        Attempt("demo", "echo", 1, 2, 503, "upstream_error"),
        Attempt("azure", "gpt-4o-eu", 4, 26, None, "hedged", usage=lost, price_id=8, cost_nanousd=200_000),
    ]
    together = done(
        "a",
        attempts=attempts,
        key_id=key.pk,
        tenant_id=key.tenant_id,
        usage=won.plus(lost),
        price_id=None,
        cost_nanousd=330_000,
    )
    assert write("s", together)
    rows = LedgerEntry.objects.order_by("attempt")
    assert [(row.attempt, row.provider, row.model, row.price_ref, row.cost_nanousd) for row in rows] == [
        (0, "openai", "gpt-4o", 7, 130_000),
        (2, "azure", "gpt-4o-eu", 8, 200_000),
    ]
    assert [(row.prompt_tokens, row.completion_tokens, row.estimated) for row in rows] == [
        (90, 20, False),
        (100, 0, True),
    ]
    spent = dict(BudgetWindow.objects.values_list("budget__model", "spent_nanousd"))
    assert spent == {"": 330_000, "openai/*": 130_000, "gpt-4o": 330_000}
    log = RequestLog.objects.get()
    assert log.cost_nanousd == 330_000
    assert [each.get("cost_nanousd") for each in log.attempts] == [130_000, None, 200_000]


def test_a_cost_that_is_unknown_for_one_attempt_is_known_for_the_other(key):
    Budget.objects.create(key=key, amount_nanousd=10**12)
    usage = Usage(prompt=100)
    attempts = [
        Attempt("openai", "gpt-4o", 0, 30, 200, "ok", usage=usage, price_id=7, cost_nanousd=130_000),
        Attempt("azure", "gpt-4o", 4, 26, None, "hedged", usage=usage),
    ]
    write(
        "s",
        done(
            "a",
            attempts=attempts,
            key_id=key.pk,
            usage=usage.plus(usage),
            price_id=None,
            cost_nanousd=None,
        ),
    )
    assert list(LedgerEntry.objects.order_by("attempt").values_list("cost_nanousd", flat=True)) == [
        130_000,
        None,
    ]
    assert list(windows().values()) == [130_000]


def test_it_keeps_the_rarer_counts():
    usage = Usage(
        prompt=100,
        completion=90,
        cached=30,
        cache_write=20,
        reasoning=8,
        cache_write_1h=5,
        audio_prompt=11,
        audio_cached=3,
        audio_completion=12,
        image_prompt=13,
        image_cached=4,
        image_completion=14,
    )
    write("s", done("a", usage=usage))
    (row,) = LedgerEntry.objects.values()
    assert ledger_rows.usage_of(row) == usage


def test_it_keeps_the_tags_that_the_key_had_then():
    tags = {"team": "search", "cost centre": "7"}
    write("s", done("a", tags=tags), done("b"), interrupted=(opened("c", tags=tags),))
    assert dict(LedgerEntry.objects.values_list("completion_id", "tags")) == {"a": tags, "b": None, "c": tags}
    assert dict(RequestLog.objects.values_list("completion_id", "tags")) == {"a": tags, "b": None, "c": tags}
    write("s2", done("c", tags=tags))
    assert [row.tags for row in LedgerEntry.objects.filter(completion_id="c")] == [tags] * 3


def test_what_the_callers_own_credential_paid_is_in_no_budget(key):
    Budget.objects.create(key=key, amount_nanousd=10**12)
    usage = Usage(prompt=100)
    own = {**json.loads(done("a", key_id=key.pk)), "own_credential": True}
    attempts = [
        {"provider": "openai", "model": "gpt-4o", "usage": usage.to_json(), "cost_nanousd": 7, "price_id": 1},
        {"provider": "azure", "model": "gpt-4o", "usage": usage.to_json(), "cost_nanousd": 8, "price_id": 1},
    ]
    attempts[0]["own_credential"] = True
    mixed = {**json.loads(done("b", key_id=key.pk, cost_nanousd=15)), "attempts": attempts}
    write("s", *(json.dumps(record).encode() + b"\n" for record in (own, mixed)))
    rows = LedgerEntry.objects.order_by("completion_id", "attempt")
    assert [(row.cost_nanousd, row.own_credential) for row in rows] == [(42_000, True), (7, True), (8, False)]
    assert list(windows().values()) == [8]
    BudgetWindow.objects.all().delete()  # as for a new budget: summed from the ledger
    write("s2", done("c", key_id=key.pk))
    assert list(windows().values()) == [8 + 42_000]


def test_a_budget_made_later_knows_models_by_the_same_names(key):
    renamed = {"requested_model": "fast", "key_id": key.pk}
    write("s1", done("a", **renamed))
    for model in ("fast", "gpt-4o", "openai/gpt-4o"):
        Budget.objects.create(key=key, amount_nanousd=1, model=model)
    write("s2", done("b", **renamed))
    assert dict(BudgetWindow.objects.values_list("budget__model", "spent_nanousd")) == {
        "fast": 84_000,
        "openai/gpt-4o": 84_000,
    }
