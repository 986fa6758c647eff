"""Re-rating and reconciliation in a real browser: a dialog, a date field and an upload."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect

from analytics.booking import book
from analytics.models import ReRating
from analytics.tests.spool_files import done, opened, text
from gatewaysite.tests.test_admin_browser import browser_page as browser_page  # noqa: PLC0414 - a fixture
from gatewaysite.tests.test_admin_browser import pytestmark as pytestmark  # noqa: PLC0414 - needs a browser
from keys.models import ApiKey, LedgerEntry, Tenant
from providers.models import Price, Provider

EXPORT = Path(__file__).parent / "exports" / "openai_cost.csv"
AT = 1_790_000_000.25  # 2026-09-21


@pytest.fixture
def spent():
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test")
    for model in ("gpt-4o", "gpt-4o-mini"):
        Price.objects.create(
            provider=provider,
            model=model,
            input_nanousd_per_mtok=10**9,
            output_nanousd_per_mtok=2 * 10**9,
            effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        )
    key, _ = ApiKey.issue(tenant=Tenant.objects.create(name="acme"), name="ci")
    key.save()
    own = {"key_id": key.pk, "tenant_id": key.tenant_id, "tags": {"team": "search"}}
    lines = [
        done("a", **own),
        done("b", at=AT + 86_400, model="gpt-4o-mini", cost_nanousd=None, price_id=None, **own),
        done("c", provider="elsewhere", **own),
    ]
    book("s1", 1, done="", interrupted=text(opened("a", **own)))
    book("s2", 3, done=text(*lines), interrupted="")


def looked_at(page, name):
    """Keep a picture where PICTURES says, for people; no page is wider than its window."""
    if os.environ.get("PICTURES"):
        page.screenshot(path=Path(os.environ["PICTURES"]) / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


@pytest.mark.parametrize("width", [1400, 390])
def test_a_period_is_re_rated_after_a_confirmation(browser_page, spent, width):
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto("/admin/analytics/rerating/preview/")
    browser_page.fill("[name=since]", "2026-09-21")
    browser_page.fill("[name=until]", "2026-09-22")
    looked_at(browser_page, f"rerating-form-{width}")
    browser_page.click("button.gw-button")
    browser_page.wait_for_url("**/change/")
    expect(browser_page.locator("#content")).to_contain_text("+$0.000238")
    looked_at(browser_page, f"rerating-preview-{width}")
    if width == 390:  # the button is in a menu there
        browser_page.set_viewport_size({"width": 1400, "height": 900})
    browser_page.click("a:visible:has-text('Apply')")
    dialog = browser_page.locator("#modal-content")
    expect(dialog).to_contain_text("Correct the ledger?")
    assert not LedgerEntry.objects.filter(kind="adjusted").exists()
    dialog.locator("button[type=submit]").click()
    expect(browser_page.locator("text=Applied: 2 corrections")).to_be_visible()
    assert ReRating.objects.get().applied_nanousd == 238_000
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto("/admin/analytics/rerating/")
    looked_at(browser_page, f"rerating-list-{width}")
    browser_page.goto("/admin/keys/ledgerentry/")
    looked_at(browser_page, f"ledger-{width}")
    row = LedgerEntry.objects.get(completion_id="a", kind="spent")
    browser_page.goto(f"/admin/keys/ledgerentry/{row.pk}/change/")
    looked_at(browser_page, f"ledger-entry-{width}")


@pytest.mark.parametrize("width", [1400, 390])
def test_an_export_is_reconciled(browser_page, spent, width, tmp_path):
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto("/admin/analytics/vendorimport/drift/")
    form = browser_page.locator("form[enctype]")
    form.locator("[name=provider]").select_option("openai")
    form.locator("[name=file]").set_input_files(EXPORT)
    form.locator("button.gw-button").click()
    table = browser_page.locator("section[aria-labelledby=drift]")
    expect(table).to_contain_text("billed as gpt-4o-2024-08-06")
    looked_at(browser_page, f"drift-{width}")
    bad = tmp_path / "bad.csv"
    bad.write_text("date,model,cost\nyesterday,gpt-4o,1\n")
    form.locator("[name=provider]").select_option("openai")
    form.locator("[name=file]").set_input_files(bad)
    form.locator("button.gw-button").click()
    expect(browser_page.locator("form[enctype]")).to_contain_text("line 2, date: 'yesterday' is no date")
    looked_at(browser_page, f"drift-bad-{width}")
