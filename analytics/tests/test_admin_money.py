from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from analytics import admin_rerating
from analytics.booking import book
from analytics.models import RequestLog, ReRating, VendorCost
from analytics.tests.spool_files import done, opened, text
from analytics.tests.test_reconciliation import EXPORTS
from config.tests.admin_kit import messages_in, operator, page, signed_in
from keys.models import ApiKey, LedgerEntry, Tenant
from providers.models import Price, Provider

pytestmark = pytest.mark.django_db

LEDGER = "/admin/keys/ledgerentry/"
RUNS = "/admin/analytics/rerating/"
DRIFT = "/admin/analytics/vendorimport/drift/"
PERIOD = {"since": "2026-09-21", "until": "2026-09-21"}


@pytest.fixture
def client():
    return operator()


@pytest.fixture
def priced():
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test")
    return Price.objects.create(
        provider=provider,
        model="gpt-4o",
        input_nanousd_per_mtok=10**9,
        output_nanousd_per_mtok=2 * 10**9,
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    )


def write(segment, *lines, interrupted=()):
    assert book(segment, len(lines), done=text(*lines), interrupted=text(*interrupted))


def words(html):
    return messages_in(html).replace("&#x27;", "'")


# ---------------------------------------------------------------- ledger


def test_the_ledger_shows_kinds_and_corrections_with_their_sign(client, priced):
    write("s1", interrupted=(opened("a"),))
    write("s2", done("a", tags={"team": "search"}))
    html = words(page(client, LEDGER))
    for told in ("Interrupted (estimated)", "Estimate taken back", "-$0.002", "$0.000042"):
        assert told in html
    html = words(page(client, LEDGER, kind="retracted"))
    assert "$0.000042" not in html
    assert "≈ -1,000 → -500" in html


def test_a_row_links_to_its_price_and_to_the_other_rows(client, priced):
    write("s", done("a", price_id=priced.pk, tags={"team": "search", "env": "ci"}))
    client.post(f"{RUNS}preview/", PERIOD)
    run = ReRating.objects.get()
    admin_rerating.rerating.apply(run, by="me")
    first, second = LedgerEntry.objects.order_by("pk")
    html = ""
    for row in (first, second):
        html = page(client, reverse("admin:keys_ledgerentry_change", args=[row.pk]))
        assert reverse("admin:providers_price_change", args=[priced.pk]) in html
        assert reverse("admin:keys_ledgerentry_change", args=[second.pk]) in html
        for told in ("+$0.000098", "Together", "$0.00014", "env=ci, team=search"):
            assert told in words(html)
    assert reverse("admin:analytics_rerating_change", args=[run.pk]) in html


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("team=search", {"a"}),
        (" team = search ", {"a"}),
        ("team", {"a", "b"}),
        ("team=", set()),
        ("odd name.x=1", {"c"}),
        ("nobody=1", set()),
    ],
)
def test_ledger_and_log_are_filtered_by_tag(client, tag, found):
    write(
        "s",
        done("a", tags={"team": "search"}),
        done("b", tags={"team": "chat"}),
        done("c", tags={"odd name.x": "1"}),
        done("d"),
    )
    for url, shown in ((LEDGER, "{}"), ("/admin/analytics/requestlog/", "req-{}")):
        rows = page(client, f"{url}?tag={quote(tag)}")
        ids = {
            name for name in "abcd" if f">{shown.format(name)}<" in rows.replace(" ", "").replace("\n", "")
        }
        assert ids == found, url


def test_the_log_shows_the_tags_in_its_detail(client):
    write("s", done("a", tags={"team": "search"}))
    url = reverse("admin:analytics_requestlog_change", args=[RequestLog.objects.get().pk])
    assert "team=search" in page(client, url)


# ---------------------------------------------------------------- re-rating


def test_a_period_is_previewed_and_applied(client, priced):
    key, _ = ApiKey.issue(tenant=Tenant.objects.create(name="acme"), name="ci")
    key.save()
    write("s", done("a", key_id=key.pk, tenant_id=key.tenant_id))
    assert "Preview" in page(client, f"{RUNS}preview/")
    form = {**PERIOD, "provider": "openai", "model": "gpt-*", "tenant": key.tenant_id, "key": key.pk}
    shown = client.post(f"{RUNS}preview/", form, follow=True)
    html = words(shown.content.decode())
    for told in (
        "provider openai, model gpt-*, tenant acme, key ci",
        "2026-09-21 to 2026-09-21",
        "1 of 1",
        "+$0.000098",
        "openai/gpt-4o",
    ):
        assert told in html
    assert LedgerEntry.objects.count() == 1
    run = ReRating.objects.get()
    apply_url = reverse("admin:analytics_rerating_apply_run", args=[run.pk])
    asked = {"HX-Request": "true"}
    assert "Correct the ledger?" in client.get(apply_url, headers=asked).content.decode()
    answer = client.post(apply_url, {"_form_submitted": "1"}, headers=asked)
    assert answer["HX-Redirect"] == reverse("admin:analytics_rerating_change", args=[run.pk])
    assert LedgerEntry.objects.filter(kind="adjusted").count() == 1
    html = words(page(client, RUNS))
    assert "Applied" in html
    assert "1 rows, +$0.000098" in html


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"since": "2026-09-22", "until": "2026-09-21"}, "The last day comes before the first."),
        ({"since": "soon", "until": "2026-09-21"}, "Enter a valid date."),
    ],
)
def test_it_says_what_is_wrong_with_a_period(client, form, problem):
    html = client.post(f"{RUNS}preview/", form).content.decode()
    assert problem in words(html)
    assert not ReRating.objects.exists()


def test_a_page_does_not_read_millions_of_rows(client, monkeypatch):
    monkeypatch.setattr(admin_rerating, "MOST_ENTRIES", 1)
    write("s", done("a"), done("b"))
    html = client.post(f"{RUNS}preview/", PERIOD).content.decode()
    assert "more than 1 entries" in words(html)


def test_looking_previewing_and_applying_are_rights_of_their_own(client, priced):
    write("s", done("a"))
    client.post(f"{RUNS}preview/", PERIOD)
    run = ReRating.objects.get()
    apply_url = reverse("admin:analytics_rerating_apply_run", args=[run.pk])
    looker = signed_in("analytics.view_rerating")
    assert page(looker, RUNS)
    assert looker.get(f"{RUNS}preview/").status_code == 403
    asker = signed_in("analytics.view_rerating", "analytics.add_rerating")
    assert asker.get(f"{RUNS}preview/").status_code == 200
    for each in (looker, asker):
        assert each.post(apply_url, {"_form_submitted": "1"}).status_code == 403
    assert LedgerEntry.objects.count() == 1


# ---------------------------------------------------------------- reconciliation


def upload(client, content, provider="openai"):
    file = SimpleUploadedFile("costs.csv", content, content_type="text/csv")
    return client.post(DRIFT, {"provider": provider, "file": file}, follow=True)


def test_an_export_is_read_in_and_compared(client, priced):
    write("s", done("a"))
    assert "Read an export in" in page(client, DRIFT)
    html = words(upload(client, (EXPORTS / "openai_cost.csv").read_bytes()).content.decode())
    for told in (
        "3 lines read in (OpenAI cost export), $0.00104 in all.",
        "gpt-4o billed as gpt-4o-2024-08-06",
        "+$0.000002 +5.00 %",
        "-$0.000998",
    ):
        assert told in html
    assert "billed as gpt-4o-2024-08-06" in words(page(client, DRIFT))
    assert "costs.csv" in page(client, "/admin/analytics/vendorimport/")
    html = words(page(client, DRIFT, provider="openai", since="2026-09-22", until="2026-09-22"))
    assert "gpt-4o-2024-08-06" not in html


def test_a_bad_export_is_refused_whole(client, priced):
    html = words(upload(client, b"date,model,cost\n2026-09-21,m,1\nx,m,y\n").content.decode())
    assert "Nothing was read in:" in html
    assert "line 3, date: 'x' is no date" in html
    assert "line 3, cost: 'y' is no amount" in html
    assert not VendorCost.objects.exists()


def test_who_may_look_may_not_import(priced):
    looker = signed_in("analytics.view_vendorimport")
    assert "Read an export in" not in page(looker, DRIFT)
    assert upload(looker, b"date,model,cost\n2026-09-21,m,1\n").status_code == 403
    assert signed_in().get(DRIFT).status_code == 403
    assert not VendorCost.objects.exists()


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"provider": "nobody"}, "Select a valid choice"),
        (
            {"provider": "openai", "since": "2026-09-22", "until": "2026-09-21"},
            "The last day comes before the first.",
        ),
        ({"provider": "openai", "since": "2020-01-01", "until": "2026-09-21"}, "Choose at most 400 days."),
    ],
)
def test_it_says_what_is_wrong_with_a_comparison(client, priced, query, problem):
    assert problem in words(page(client, DRIFT, **query))
