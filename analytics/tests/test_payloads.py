"""Payloads in the database: written with their segment, opened for whoever looks, deleted in time."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from auditlog.models import LogEntry
from django.conf import settings
from django.utils import timezone

from analytics import tasks
from analytics.booking import book
from analytics.models import RequestLog, StoredPayload
from analytics.payloads import UNREADABLE, payload_of
from analytics.tests.spool_files import done, text
from config.vault import Vault
from providers.models import Price, Provider
from providers.usage import Usage
from proxy.spool_lines import Lines

pytestmark = pytest.mark.django_db(transaction=True)


def payload(completion_id="a", **fields):
    sealed = Vault(settings.SECRET_KEYS).seal_bytes
    line = {
        "kind": "payload",
        "id": completion_id,
        "at": timezone.now().timestamp(),
        "days": 7,
        "tenant_id": 1,
        "key_id": 1,
        "request": sealed(b"asked").decode(),
        "answer": sealed(b"answered ${SECRET_KEY}").decode(),
        "request_bytes": 5,
        "answer_bytes": 8,
        "redactions": 2,
        **fields,
    }
    return orjson.dumps(line) + b"\n"


def write(segment, *lines):
    read = Lines(b"".join(lines))
    assert not read.rejected
    kinds = {kind: text(*(line + b"\n" for _, line in read.of_kind(kind))) for kind in ("done", "payload")}
    return book(segment, len(lines), done=kinds["done"], interrupted="", payloads=kinds["payload"])


def test_it_writes_them_with_their_segment_and_opens_them():
    assert write("s", done("a"), payload())
    found = payload_of("a")
    assert found is not None
    assert (found.request, found.answer) == ("asked", "answered ${SECRET_KEY}")
    assert (found.request_bytes, found.answer_bytes, found.redactions) == (5, 8, 2)
    row = StoredPayload.objects.get()
    assert "asked" not in row.request
    assert row.expires_at - row.at == timedelta(days=7)
    assert payload_of("b") is None


def test_whoever_looks_is_in_the_audit_log():
    write("s", done("a"), payload())
    payload_of("a")
    entry = LogEntry.objects.get_for_model(StoredPayload).get()
    assert (entry.action, entry.object_repr) == (LogEntry.Action.ACCESS, "a")
    assert "asked" not in str(entry.changes) + str(entry.serialized_data)


def test_it_writes_each_once_whatever_comes_twice():
    write("s", done("a"), payload(), payload())
    write("t", done("a"), payload(), done("b"))
    assert StoredPayload.objects.count() == 1
    assert RequestLog.objects.count() == 2


@pytest.mark.parametrize("strange", [{"days": 0}, {"days": "x"}])
def test_it_stores_nothing_without_a_time(strange):
    write("s", payload(**strange))
    assert StoredPayload.objects.count() == 0


def test_a_text_that_no_key_opens_says_so():
    write("s", payload(answer=Vault(["another key of some length"]).seal_bytes(b"x").decode()))
    found = payload_of("a")
    assert found is not None
    assert (found.request, found.answer) == ("asked", UNREADABLE)


def test_it_deletes_those_whose_days_are_over(monkeypatch):
    monkeypatch.setattr("analytics.payloads.PURGED_AT_ONCE", 2)
    old = (timezone.now() - timedelta(days=8)).timestamp()
    write("s", *(payload(f"old-{number}", at=old) for number in range(5)), payload("new"))
    assert payload_of("old-1") is None
    assert tasks.purge_payloads() == "5 payloads purged"
    assert [row.completion_id for row in StoredPayload.objects.all()] == ["new"]


def test_a_hit_says_what_it_saved_at_the_prices_of_then():
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="https://api.test/v1")
    Price.objects.create(
        provider=provider,
        model="gpt-4o",
        input_nanousd_per_mtok=2_500_000_000,
        output_nanousd_per_mtok=10_000_000_000,
        effective_from=datetime(2020, 1, 1, tzinfo=UTC),
    )
    hit = {"cache": "hit", "attempts": [], "cost_nanousd": 0, "usage": Usage(prompt=100, completion=20)}
    write("s", done("hit", **hit), done("unknown", **hit, model="other"), done("miss"))
    saved = dict(RequestLog.objects.values_list("completion_id", "saved_nanousd"))
    assert saved == {"hit": 100 * 2_500 + 20 * 10_000, "unknown": None, "miss": None}


def test_a_record_has_its_time_in_line_and_its_limits():
    told = b'[{"limit":"60 requests per minute for key ci"},{"limit":"$5 per day for key ci","refused":true}]'
    write("s", done("a", queue_ms=12.5, limits=told), done("b"))
    row, bare = RequestLog.objects.order_by("completion_id")
    assert row.queue_ms == 12.5
    assert row.limits == orjson.loads(told)
    assert (bare.queue_ms, bare.limits) == (None, None)
