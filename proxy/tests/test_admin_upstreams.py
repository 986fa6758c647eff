"""The screen of upstreams' health: what it shows, and what operators may ask."""

from datetime import UTC, datetime, timedelta

import pytest
from auditlog.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from config.models import current_version
from config.tests.admin_kit import messages_in, operator, page, signed_in, statements
from proxy.models import UpstreamState

pytestmark = pytest.mark.django_db

LIST = "/admin/proxy/upstreamstate/"
UNTIL = datetime(2027, 1, 31, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def client():
    return operator()


def seen(upstream="openai/gpt-4o", **fields):
    UpstreamState.report([UpstreamState(upstream=upstream, reported_at=timezone.now(), **fields)])
    return UpstreamState.objects.get(upstream=upstream)


def ask(client, action, *rows):
    return client.post(LIST, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)


def test_it_shows_what_the_workers_have_seen(client):
    seen(state="half_open", failures=5, reason="502 <b>bad</b>", open_until=UNTIL, worker="host-1/0")
    seen("mistral/large", cooling_until=UNTIL + timedelta(hours=1))
    html = page(client, LIST)
    text = messages_in(html)
    for shown in ("half open", "5", "2027-01-31 12:00:05", "2027-01-31 13:00:05", "ago by host-1/0"):
        assert shown in text
    assert "502 &lt;b&gt;bad" in html
    assert "Upstream health" in text


def test_it_says_how_old_what_it_shows_may_be(client):
    assert "The workers report within 5 seconds" in messages_in(page(client, LIST))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state__exact": "open"}, {"openai/a"}),
        ({"held_open__exact": "1"}, {"openai/b"}),
        ({"q": "mistral"}, {"mistral/c"}),
        ({"q": "overloaded"}, {"openai/a"}),
    ],
)
def test_it_finds_upstreams_by_state_name_and_reason(client, query, found):
    seen("openai/a", state="open", reason="overloaded")
    seen("openai/b")
    seen("mistral/c")
    UpstreamState.objects.filter(upstream="openai/b").update(held_open=True)
    html = page(client, LIST, **query)
    assert {name for name in ("openai/a", "openai/b", "mistral/c") if f">{name}</a>" in html} == found


def test_it_resets_upstreams_and_lets_them_go(client):
    rows = [seen("openai/a", state="open"), seen("openai/b")]
    UpstreamState.objects.filter(upstream="openai/a").update(held_open=True)
    version, before = current_version(), timezone.now()
    text = messages_in(ask(client, "reset_selected", *rows).content.decode())
    assert "2 upstreams reset; in force within a second." in text
    for row in UpstreamState.objects.all():
        assert row.reset_at is not None
        assert before <= row.reset_at <= timezone.now()
        assert not row.held_open
    assert current_version() == version + 2


def test_it_holds_upstreams_open_and_lets_them_go_again(client):
    held, other = seen("openai/a", state="closed", failures=2), seen("openai/b")
    assert "1 upstream held open" in messages_in(ask(client, "hold_selected", held).content.decode())
    assert list(UpstreamState.objects.values_list("held_open", "failures")) == [(True, 2), (False, 0)]
    assert "held open" in messages_in(page(client, LIST))
    version = current_version()
    assert "Already held open." in messages_in(ask(client, "hold_selected", held).content.decode())
    assert current_version() == version
    assert "1 upstream let go" in messages_in(ask(client, "let_go_selected", held, other).content.decode())
    assert not UpstreamState.objects.filter(held_open=True).exists()


def test_it_writes_over_no_report_that_came_meanwhile(client, monkeypatch):
    row = seen(state="closed")
    original = UpstreamState.save

    def save_late(self, **options):
        UpstreamState.objects.filter(pk=self.pk).update(state="open", failures=9)
        original(self, **options)

    monkeypatch.setattr(UpstreamState, "save", save_late)
    ask(client, "hold_selected", row)
    row.refresh_from_db()
    assert (row.state, row.failures, row.held_open) == ("open", 9, True)


def test_it_audits_what_operators_ask_and_no_report(client):
    row = seen()
    seen(state="open")
    assert not LogEntry.objects.filter(content_type__model="upstreamstate").exists()
    ask(client, "hold_selected", row)
    entry = LogEntry.objects.get(content_type__model="upstreamstate")
    assert entry.changes_dict == {"held_open": ["False", "True"]}
    assert entry.actor is not None


@pytest.mark.parametrize("action", ["reset_selected", "hold_selected", "let_go_selected"])
def test_it_does_nothing_for_those_who_may_only_look(action):
    row = seen()
    UpstreamState.objects.update(held_open=action != "hold_selected")
    before = UpstreamState.objects.values_list("held_open", "reset_at").get()
    ask(signed_in("proxy.view_upstreamstate"), action, row)
    assert UpstreamState.objects.values_list("held_open", "reset_at").get() == before


def test_it_lets_nobody_add_edit_or_delete_one(client):
    row = seen(state="half_open")
    url = reverse("admin:proxy_upstreamstate_change", args=[row.pk])
    html = page(client, url)
    assert "one call is let through to see" in messages_in(html)
    assert "_save" not in html
    client.post(url, {"upstream": "other", "state": "closed", "held_open": "on"})
    row.refresh_from_db()
    assert (row.upstream, row.state, row.held_open) == ("openai/gpt-4o", "half_open", False)
    assert client.get(f"{LIST}add/").status_code == 403
    delete = reverse("admin:proxy_upstreamstate_delete", args=[row.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    assert UpstreamState.objects.exists()


def test_it_lists_many_with_as_many_queries_as_few(client):
    seen()
    few = len(statements(client, LIST))
    UpstreamState.report([UpstreamState(upstream=f"openai/{number}") for number in range(30)])
    assert len(statements(client, LIST)) == few
