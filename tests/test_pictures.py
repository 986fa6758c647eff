"""The README's four pictures, taken of demo data: docs/dashboards.md says how to make them anew.

GATEWAY_SCREENSHOTS=directory keeps them, of a whole month; without it a few days must do.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gatewaysite.tests.test_admin_browser import ARGUMENTS, CHROMIUM
from tests.gateway import Gateway, running_gateway
from tests.servers import CHECKOUT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
FOLDER = os.environ.get("GATEWAY_SCREENSHOTS", "")
SIZE = ("--days", "30", "--requests", "60000") if FOLDER else ("--days", "3", "--requests", "4000")
MOST_BYTES = 250_000
NAMES = ("operator-home", "request", "dashboard", "playground")
# The demo's own vendor gets a price, so that the playground shows a cost, and the failover to show is found.
PREPARE = """
from datetime import UTC, datetime
from analytics.models import RequestLog
from providers.models import Price, Provider
Price.objects.create(
    provider=Provider.objects.get(name="demo"), model="*", input_nanousd_per_mtok=2 * 10**9,
    output_nanousd_per_mtok=8 * 10**9, effective_from=datetime(2020, 1, 1, tzinfo=UTC),
)
rows = RequestLog.objects.filter(outcome="ok").order_by("-stream", "-at", "-id")[:20_000]
print("FAILOVER", next(row.pk for row in rows if len(row.attempts) > 1))
"""


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[Gateway, str, str]]:
    """Return a gateway with demo data, the password of demo-acme-owner and the id of a request's row."""
    with running_gateway({"CACHE_MODE": "memory"}) as gateway:
        people = gateway.manage("seed_demo", *SIZE).split()
        found = gateway.manage("shell", "-v", "0", "-c", PREPARE).split()
        password = people[people.index("demo-acme-owner") + 1]
        yield gateway, password, found[found.index("FAILOVER") + 1]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(str(CHROMIUM)), args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser: Browser, url: str, name: str, password: str, *, scheme: Any, leads: str) -> Page:
    """Return the page that somebody sees who has signed in."""
    page = browser.new_context(
        base_url=url,
        viewport={"width": 1360, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
    ).new_page()
    page.set_default_timeout(20_000)
    page.goto(f"/admin/login/?next={leads}")
    page.fill("[name=username]", name)
    page.fill("[name=password]", password)
    page.click("[type=submit]")
    page.wait_for_url(f"**{leads}")
    return page


def take(page: Page, name: str) -> None:
    """Keep a picture of what is on the screen."""
    picture = page.screenshot(animations="disabled")
    assert 10_000 < len(picture) < MOST_BYTES
    if FOLDER:
        (Path(FOLDER) / f"{name}.png").write_bytes(picture)


def test_operators_screens_are_taken(demo, chromium):
    gateway, _, row = demo
    page = opened(chromium, gateway.url, "admin", gateway.admin_password, scheme="light", leads="/admin/")
    page.goto("/admin/?range=30d")
    expect(page.locator("#usage")).to_have_text("Last 30 days")
    drawn = "() => [...document.querySelectorAll('canvas')].filter(each => Chart.getChart(each)).length === 6"
    page.wait_for_function(drawn)
    take(page, "operator-home")
    page.goto(f"/admin/analytics/requestlog/{row}/change/")
    assert page.locator("#attempts + ol > li").count() > 1
    take(page, "request")
    page.context.close()


def test_a_tenants_screens_are_taken(demo, chromium):
    gateway, password, _ = demo
    home = "/dashboard/demo-acme/"
    page = opened(chromium, gateway.url, "demo-acme-owner", password, scheme="light", leads=home)
    expect(page.locator("h1")).to_be_visible()
    take(page, "dashboard")
    page.emulate_media(color_scheme="dark")
    page.goto(f"{home}playground/")
    page.click("#play-make")
    expect(page.locator("#play-model")).to_be_enabled()
    page.select_option("#play-model", "demo/lorem")
    page.fill("#play-user", "60 words 10ms")
    page.fill("#play-max", "200")  # what it may cost at most is held of a budget that is nearly spent
    page.click("#play-send")
    expect(page.locator("#play-said")).to_have_text("Done.")
    expect(page.locator("#play-facts")).to_contain_text("Cost$0.0")
    take(page, "playground")
    page.context.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_shows_it(name):
    picture = CHECKOUT / "docs" / "images" / f"{name}.png"
    assert picture.stat().st_size < MOST_BYTES
    assert f"](docs/images/{name}.png)" in (CHECKOUT / "README.md").read_text()
