"""The Content-Security-Policy in a real browser: neither the admin nor the pages of sign-in break it."""

import pytest
from django.contrib import admin
from playwright.sync_api import Page, expect

from gatewaysite.tests.test_admin_browser import browser_page  # noqa: F401 - a fixture
from gatewaysite.tests.test_admin_browser import pytestmark as browser_only

pytestmark = [pytest.mark.timeout(300), *browser_only]

_WATCH = """
window.broken = [];
document.addEventListener('securitypolicyviolation', event =>
    window.broken.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@pytest.fixture
def watched(browser_page: Page) -> tuple[Page, list[str]]:  # noqa: F811 - a fixture
    """Return a page whose violations and console errors are collected."""
    problems: list[str] = []
    browser_page.add_init_script(_WATCH)
    browser_page.on(
        "console",
        lambda message: (
            problems.append(f"{browser_page.url}: {message.text}") if message.type == "error" else None
        ),
    )
    return browser_page, problems


def look(page: Page, problems: list[str], path: str) -> int:
    """Open a page, note its violations, and return its status."""
    answer = page.goto(path, wait_until="load")
    assert answer is not None
    problems += [f"{path}: {each}" for each in page.evaluate("window.broken")]
    return answer.status


def test_no_screen_breaks_the_policy(watched: tuple[Page, list[str]]) -> None:
    page, problems = watched
    refused = []  # forms of records that nobody adds: the console counts the answer as an error
    look(page, problems, "/")
    look(page, problems, "/admin/")
    for model in admin.site._registry:
        url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        look(page, problems, url)
        if look(page, problems, f"{url}add/") >= 400:
            refused.append(f"{url}add/: Failed to load resource")
    for path in ("2fa/", "2fa/totp/activate/", "password/change/", "logout/"):
        look(page, problems, f"/accounts/{path}")
    assert [each for each in problems if not any(form in each for form in refused)] == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_of_sign_in_fit_and_can_be_read(
    watched: tuple[Page, list[str]], axe, width: int, scheme: str
) -> None:
    page, problems = watched
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    look(page, problems, "/accounts/2fa/")
    expect(page.get_by_role("heading", name="Two-Factor")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")
    for path in ("/accounts/2fa/", "/accounts/reauthenticate/", "/accounts/login/"):
        if path.endswith("login/"):
            page.context.clear_cookies()
        look(page, problems, path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(axe, page) == []
    assert problems == []


@pytest.fixture
def axe():
    from axe_playwright_python.sync_playwright import Axe

    return Axe()


def serious(axe, page: Page) -> list[str]:
    found = axe.run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes']]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


def test_the_policy_lets_the_live_feeds_socket_through_and_an_inline_script_not(
    watched: tuple[Page, list[str]],
) -> None:
    page, _ = watched
    page.goto("/admin/")
    page.evaluate(
        "new Promise(done => { const feed = new WebSocket(`ws://${location.host}/ws/live/`);"
        " feed.onopen = feed.onerror = done; })"
    )
    assert page.evaluate("window.broken") == []
    page.evaluate(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        " document.body.append(script)"
    )
    assert page.evaluate("window.ran") is None
    assert "script-src" in page.evaluate("window.broken")[0]
