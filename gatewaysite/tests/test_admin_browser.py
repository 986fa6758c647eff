"""The admin's dialogs in a real browser: they are scripts, which no HTTP test runs."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Error, Page, expect, sync_playwright

from keys import secret as secrets
from keys.models import ApiKey, Tenant
from providers.models import Provider
from providers.tests.test_probe import vendor_server
from proxy.models import GatewaySettings, Route, Target

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture
def browser_page(live_server, monkeypatch) -> Iterator[Page]:
    # Playwright's event loop runs in this thread, where Django would then refuse its ORM.
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    User.objects.create_superuser("admin", password="pass-for-tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(str(CHROMIUM)), args=ARGUMENTS)
        page = browser.new_page(base_url=live_server.url)
        page.set_default_timeout(15_000)
        broken: list[str] = []
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto("/admin/login/?next=/admin/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", "pass-for-tests")
        page.click("[type=submit]")
        page.wait_for_url("**/admin/")
        yield page
        browser.close()
    assert broken == []


def test_it_tests_a_provider_in_a_dialog(browser_page):
    with vendor_server() as vendor:
        vendor.lists("small", "large")
        provider = Provider.objects.create(name="acme", dialect="openai", base_url=vendor.url)
        browser_page.goto(f"/admin/providers/provider/{provider.pk}/change/")
        browser_page.click("text=Test this provider")
        dialog = browser_page.locator("#modal-content")
        expect(dialog).to_contain_text("acme answers.")
        expect(dialog).to_contain_text("2 models found.")
        vendor.status, vendor.body = 401, b'{"error": {"message": "No such key."}}'
        browser_page.click("text=Test again")
        expect(dialog).to_contain_text("Status 401: No such key.")
    assert len(vendor.seen) == 2


def test_it_purges_the_cache_after_a_confirmation(browser_page):
    browser_page.goto("/admin/proxy/gatewaysettings/")
    browser_page.click("text=Purge cache")
    dialog = browser_page.locator("#modal-content")
    expect(dialog).to_contain_text("Purge the cache?")
    assert GatewaySettings.load().cache_epoch == 0
    dialog.locator("button[type=submit]").click()
    expect(browser_page.locator("text=Cache purged")).to_be_visible()
    assert GatewaySettings.load().cache_epoch == 1


def test_it_shows_the_secret_of_a_new_key(browser_page):
    Tenant.objects.create(name="acme")
    browser_page.goto("/admin/keys/apikey/add/")
    browser_page.fill("[name=name]", "ci")
    browser_page.click(".select2-selection")
    browser_page.click(".select2-results__option >> text=acme")
    browser_page.click("[name=_save]")
    secret = browser_page.locator("#secret").inner_text()
    assert re.fullmatch(r"sk-gw-[\w-]{49}", secret)
    assert ApiKey.objects.get().digest == secrets.digest(secret).hex()
    browser_page.click("button >> text=Copy")
    expect(browser_page.locator("button >> text=Copied")).to_be_visible()
    browser_page.click("text=Edit this key")
    assert secret not in browser_page.content()
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        browser_page.go_back()  # nor does the browser keep it


@pytest.mark.parametrize("width", [1400, 390])
def test_it_explains_a_request(browser_page, width):
    provider = Provider.objects.create(name="acme", dialect="openai", base_url="https://acme.example/v1")
    route = Route.objects.create(match="house-*", kind="prefix")
    Target.objects.create(route=route, provider=provider, model="small")
    key = ApiKey(tenant=Tenant.objects.create(name="team"), name="team-ci", allowed_models=["house-*"])
    key.set_secret("a-secret-of-the-browser-test")
    key.save()
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto(f"/admin/proxy/route/explain/?route={route.pk}")
    assert '"house-"' in browser_page.input_value("[name=body]")
    browser_page.click(".select2-selection")
    browser_page.click(".select2-results__option >> text=team-ci")
    browser_page.click("button.gw-button")
    expect(browser_page.locator("#verdict")).to_have_text("A provider is asked.")
    table = browser_page.locator("section[aria-labelledby=targets]")
    expect(table).to_contain_text("acme / small")
    expect(table).to_contain_text("Asked first")
    expect(browser_page.locator("section[aria-labelledby=routing]")).to_contain_text("pattern house-*")
    wide = browser_page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
