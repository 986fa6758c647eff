"""The operators' screens of traffic in a real browser: on a desktop and a phone, light and dark, by keyboard.

GATEWAY_SCREENSHOTS=directory keeps a picture of each.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # ships none
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from analytics.models import UsageRollup
from analytics.tests.wide_sums import widen
from gatewaysite.tests.home_rows import fill
from gatewaysite.tests.test_admin_browser import ARGUMENTS, CHROMIUM
from proxy.models import WorkerState
from tests.gateway import Gateway, running_gateway

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

SIZES = {"desktop": (1400, 1000), "phone": (390, 844)}
LOOKS = [(size, theme) for size in SIZES for theme in ("light", "dark")]


class Screens:
    """A browser whose pages break no script; pictures are taken on request."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.broken: list[str] = []
        self.page.on("pageerror", lambda error: self.broken.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.broken.append(message.text)

    def sign_in(self, password: str) -> None:
        self.page.goto("/admin/login/?next=/admin/")
        self.page.fill("[name=username]", "admin")
        self.page.fill("[name=password]", password)
        self.page.click("[type=submit]")
        self.page.wait_for_url("**/admin/")

    def look(self, size: str, theme: str) -> None:
        width, height = SIZES[size]
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate("theme => localStorage.setItem('adminTheme', JSON.stringify(theme))", theme)

    def is_fine(self, name: str) -> None:
        """Nothing is wider than the screen, and axe finds nothing serious."""
        page = self.page
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        self._picture(name)
        self._is_readable()

    def _picture(self, name: str) -> None:
        directory = os.environ.get("GATEWAY_SCREENSHOTS")
        if directory:
            self.page.wait_for_timeout(500)  # of drawn charts; nothing is asserted of it
            self.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)

    def _is_readable(self) -> None:
        """axe finds nothing serious on the whole page, sidebar and header included."""
        found: Any = Axe().run(self.page).response
        serious = [each for each in found["violations"] if each["impact"] in {"serious", "critical"}]
        assert serious == [], json.dumps(
            [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious], indent=1
        )

    def opens_its_menu(self, name: str) -> None:
        """On a phone the sidebar comes over the page, and goes again; by keyboard, too."""
        menu = self.page.locator("#nav-sidebar-inner")
        expect(menu).not_to_be_in_viewport()
        opener = self.page.locator("[aria-controls=nav-sidebar]:visible")
        opener.focus()
        self.page.keyboard.press("Enter")
        expect(menu).to_be_in_viewport()
        expect(opener).to_have_attribute("aria-expanded", "true")
        self.page.locator("[aria-controls=user-links]").press("Enter")
        expect(self.page.locator("#user-links")).to_be_visible()
        self._picture(name)
        self._is_readable()
        self.page.locator("#user-links button", has_text="Light").press("Escape")
        expect(self.page.locator("#user-links")).not_to_be_visible()
        self.page.keyboard.press("Escape")
        expect(menu).not_to_be_in_viewport()


@pytest.fixture(scope="module")
def browser():
    # Playwright's event loop runs in this thread, where Django would then refuse its ORM.
    with pytest.MonkeyPatch.context() as patched, sync_playwright() as playwright:
        patched.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        launched = playwright.chromium.launch(executable_path=Path(str(CHROMIUM)), args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def screens(browser, live_server) -> Iterator[Screens]:
    User.objects.create_superuser("admin", password="pass-for-tests")
    context = browser.new_context(base_url=live_server.url)
    opened = Screens(context)
    opened.sign_in("pass-for-tests")
    yield opened
    context.close()
    assert opened.broken == []


def test_operators_see_how_it_goes_and_why_a_request_went_so(screens):
    row, page = fill(), screens.page
    for size, theme in LOOKS:
        screens.look(size, theme)
        WorkerState.objects.update(reported_at=timezone.now())
        page.goto("/admin/")
        expect(page.locator("#near-limits + ul > li")).to_have_count(3)
        expect(page.locator("#usage")).to_have_text("Last 24 hours")
        assert page.evaluate("document.documentElement.classList.contains('dark')") is (theme == "dark")
        drawn = "[...document.querySelectorAll('canvas')].filter(each => Chart.getChart(each)).length"
        assert page.evaluate(drawn) == 6
        # What is wide stands in rows of its own on a phone: nothing is moved sideways to be read.
        wide = "each => each.scrollWidth > each.clientWidth"
        assert page.evaluate(f"[...document.querySelectorAll('.gw-wide')].filter({wide}).length") == 0
        screens.is_fine(f"home-{size}-{theme}")
        if size == "phone":
            screens.opens_its_menu(f"menu-{theme}")
        page.goto(f"/admin/analytics/requestlog/{row.pk}/change/")
        expect(page.locator("#attempts + ol > li")).to_have_count(2)
        screens.is_fine(f"request-{size}-{theme}")


def test_it_refreshes_by_itself_and_keeps_what_is_open_and_chosen(screens):
    fill()
    page = screens.page
    page.clock.install()
    page.goto("/admin/")
    summary = page.locator("#cost-numbers summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#cost-numbers")).to_have_attribute("open", "")
    UsageRollup.objects.all().delete()
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    UsageRollup.objects.create(grain=60, starts_at=hour, requests=4321, cost_nanousd=5 * 10**9)
    widen()
    page.clock.run_for(16_000)
    expect(page.locator(".gw-figure").first).to_contain_text("4,321")
    expect(page.locator("#cost-numbers")).to_have_attribute("open", "")
    expect(page.locator("#cost-numbers")).to_contain_text("$5.00")
    assert page.evaluate("document.activeElement.parentElement.id") == "cost-numbers"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.uncheck("#auto-refresh")
    page.clock.run_for(31_000)
    assert asked == []
    page.check("#auto-refresh")
    expect(page.locator(".gw-figure").first).to_contain_text("4,321")
    assert len(asked) == 1
    page.uncheck("#auto-refresh")
    page.select_option("#range-name", "7d")
    page.wait_for_url("**range=7d**")
    expect(page.locator("#usage")).to_have_text("Last 7 days")
    expect(page.locator("#auto-refresh")).not_to_be_checked()
    page.select_option("#range-name", "custom")
    expect(page.locator("[name=from]")).to_be_visible()


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running_gateway({"CACHE_MODE": "none"}) as served:
        yield served


def send(gateway: Gateway, model: str = "demo/echo") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=gateway.headers, json=body).status_code


def test_requests_appear_as_they_finish(browser, gateway):
    context = browser.new_context(base_url=gateway.url)
    screens = Screens(context)
    screens.sign_in(gateway.admin_password)
    page = screens.page
    for size, theme in LOOKS:
        screens.look(size, theme)
        page.goto("/admin/analytics/requestlog/live/")
        expect(page.locator(".gw-live-state")).to_have_text("Connected")
        expect(page.locator("[data-live-empty]")).to_be_visible()
        assert send(gateway) == 200
        assert send(gateway, "nowhere/at-all") == 404
        expect(page.locator("[data-live] tbody tr")).to_have_count(2)
        screens.is_fine(f"live-{size}-{theme}")
    page.locator("body").press(" ")
    expect(page.locator(".gw-live-state")).to_have_text("Paused")
    send(gateway)
    expect(page.locator("[data-live-counts]")).to_have_text("1 came while paused")
    expect(page.locator("[data-live] tbody tr")).to_have_count(2)
    page.click("[data-live-pause]")
    page.check("[name=errors]")
    expect(page.locator("[data-live] tbody tr")).to_have_count(0)
    page.wait_for_timeout(600)  # the filter is sent when typing has ended
    send(gateway)
    send(gateway, "nowhere/at-all")
    expect(page.locator("[data-live] tbody tr")).to_have_count(1)
    expect(page.locator("[data-live] tbody")).to_contain_text("404")
    page.fill("[name=status]", "nine")
    expect(page.locator("[data-live-problem]")).to_contain_text('as "429" or "5xx"')
    assert screens.broken == []
    gateway.stop()
    expect(page.locator(".gw-live-state")).to_have_text("Reconnecting")
    gateway.start()
    expect(page.locator(".gw-live-state")).to_have_text("Connected", timeout=60_000)
    context.close()
