"""An operator's whole path in a real browser before a served gateway: from the first sign-in to a refusal.

On a desktop in light and on a phone in dark; each makes a provider, a route, a tenant and a key of its own.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI, RateLimitError
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from gatewaysite.tests.test_admin_browser import ARGUMENTS, CHROMIUM
from gatewaysite.tests.test_home_browser import Screens
from tests.gateway import Gateway, running_gateway
from tests.servers import eventually
from tests.upstream import UPSTREAM_KEY, FakeVendor, chat, unique

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
LOG = "/admin/analytics/requestlog/"


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    with running_gateway({"CACHE_MODE": "memory"}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(str(CHROMIUM)), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def screens(served: Gateway, chromium: Browser) -> Iterator[Screens]:
    context = chromium.new_context(base_url=served.url, reduced_motion="reduce")
    opened = Screens(context)
    yield opened
    context.close()
    assert opened.broken == []


@pytest.mark.parametrize("look", [("desktop", "light"), ("phone", "dark")], ids="-".join)
def test_an_operator_sets_up_watches_limits_and_purges(
    served: Gateway, vendor: FakeVendor, screens: Screens, look: tuple[str, str]
) -> None:
    page, model, (size, theme) = screens.page, unique("synthetic~fail=1x503"), look
    screens.sign_in(served.admin_password)
    screens.look(size, theme)

    _adds_and_tests_a_provider(screens, f"vendor-{size}", vendor)
    _prices_it(page)
    _adds_a_route(screens, f"house-{size}", f"vendor-{size}", model)
    secret = _makes_a_tenant_with_a_key(screens, f"team-{size}", f"team-{size}-key")

    page.goto(LOG + "live/")
    expect(page.locator(".gw-live-state")).to_have_text("Connected")
    with OpenAI(base_url=f"{served.url}/v1", api_key=secret, max_retries=0, timeout=30) as client:
        eventually(lambda: _is_let_in(client), what="the new key")
        answer = client.chat.completions.create(
            model=f"house-{size}", messages=[{"role": "user", "content": "Hello there"}]
        )
        assert answer.choices[0].message.content
        assert [each["status"] for each in vendor.asked(model)] == [503, 200]
        seen = page.locator("[data-live] tbody tr", has_text=f"team-{size}-key")
        expect(seen).to_contain_text("2 attempts")
        screens.is_fine(f"path-live-{size}-{theme}")

        row = _in_the_log(page, f"house-{size}", "200")
        screens.is_fine(f"path-log-{size}-{theme}")
        row.locator("a").first.click()
        tries = page.locator("#attempts + ol > li")
        expect(tries).to_have_count(2)
        expect(tries.first).to_contain_text("status 503")
        expect(tries.last).to_contain_text("status 200")
        expect(page.locator("section", has=page.locator("#cost"))).to_contain_text("In all: $0.0")
        screens.is_fine(f"path-request-{size}-{theme}")

        _gives_it_a_tiny_budget(screens, f"team-{size}-key")
        refused = eventually(lambda: _refusal(client, f"house-{size}"), what="the budget's refusal")
        assert refused.code == "insufficient_quota"
    assert len(vendor.asked(model)) == 2  # nobody was asked for what was refused

    row = _in_the_log(page, f"house-{size}", "429")
    expect(row).to_contain_text("insufficient_quota")
    row.locator("a").first.click()
    expect(page.locator("section", has=page.locator("#limits"))).to_contain_text("Refused by")
    screens.is_fine(f"path-refused-{size}-{theme}")

    _purges_the_cache(served, page, size)


def _adds_and_tests_a_provider(screens: Screens, name: str, vendor: FakeVendor) -> None:
    page = screens.page
    page.goto("/admin/providers/provider/add/")
    page.fill("[name=name]", name)
    page.select_option("[name=dialect]", "openai")
    page.fill("[name=base_url]", f"{vendor.url}/openai/v1")
    page.fill("[name=new_credential]", UPSTREAM_KEY)
    screens.is_fine(f"path-provider-{name}")
    page.click("[name=_continue]")
    assert UPSTREAM_KEY not in page.content()
    _presses(page, "Test this provider")
    expect(page.locator("#modal-content")).to_contain_text(f"{name} answers.")
    page.keyboard.press("Escape")


def _prices_it(page: Page) -> None:
    page.click("text=add one")
    page.fill("[name=model]", "*")
    page.fill("[name=input_nanousd_per_mtok]", "2.00")
    page.fill("[name=output_nanousd_per_mtok]", "8.00")
    _saves(page, "[name=_save]")


def _adds_a_route(screens: Screens, match: str, provider: str, model: str) -> None:
    page = screens.page
    page.goto("/admin/proxy/route/add/")
    page.fill("[name=match]", match)
    page.select_option("[name=targets-0-provider]", label=provider)
    page.fill("[name=targets-0-model]", model)
    screens.is_fine(f"path-route-{match}")
    _saves(page, "[name=_save]")
    expect(page.locator("#result_list")).to_contain_text(f"{provider}/{model}")


def _makes_a_tenant_with_a_key(screens: Screens, tenant: str, name: str) -> str:
    """Return the key's secret, which is shown once."""
    page = screens.page
    page.goto("/admin/keys/tenant/add/")
    page.fill("[name=name]", tenant)
    _saves(page, "[name=_save]")
    page.goto("/admin/keys/apikey/add/")
    page.fill("[name=name]", name)
    page.click(".select2-selection")
    page.click(f".select2-results__option >> text={tenant}")
    page.click("[name=_save]")
    secret = page.locator("#secret").inner_text()
    assert re.fullmatch(r"sk-gw-[\w-]{49}", secret)
    screens.is_fine(f"path-secret-{tenant}")
    page.click("text=Edit this key")
    expect(page.locator("[name=name]")).to_have_value(name)
    assert secret not in page.content()
    return secret


def _gives_it_a_tiny_budget(screens: Screens, name: str) -> None:
    page = screens.page
    page.goto(f"/admin/keys/apikey/?q={name}")
    page.click(f"#result_list a >> text={name}")
    page.click("text=Add another Budget")
    page.fill("[name=budgets-0-amount_nanousd]", "0.000001")
    screens.is_fine(f"path-budget-{name}")
    _saves(page, "[name=_save]")
    expect(page.locator("#result_list")).to_contain_text("$0.000001")


def _purges_the_cache(served: Gateway, page: Page, text: str) -> None:
    def kept() -> str:
        body = chat("demo/echo", text)
        answer = httpx.post(f"{served.url}/v1/chat/completions", headers=served.headers, json=body)
        assert answer.status_code == 200
        return answer.headers["x-gateway-cache"]

    assert [kept(), kept()] == ["miss", "hit"]
    page.goto("/admin/proxy/gatewaysettings/")
    _presses(page, "Purge cache")
    page.locator("#modal-content button[type=submit]").click()
    expect(page.locator("text=Cache purged")).to_be_visible()
    eventually(lambda: kept() == "miss", what="the purge")


def _presses(page: Page, action: str) -> None:
    button = page.locator("a", has_text=action).first
    if not button.is_visible():  # a phone has the buttons in a menu
        page.click("text=more_horiz >> visible=true")
    button.click()


def _saves(page: Page, button: str) -> None:
    page.click(button)
    expect(page.locator("text=successfully").first).to_be_visible()


def _in_the_log(page: Page, model: str, status: str) -> Locator:
    """Return the newest row of the log for a model and status, once it is booked."""
    row = page.locator("#result_list tr", has_text=model).filter(has_text=status).first
    _once(page, LOG, row.is_visible)
    return row


def _once(page: Page, path: str, condition: Callable[[], bool]) -> None:
    def looked() -> bool:
        page.goto(path)
        return condition()

    eventually(looked, what=f"what {path} is to show")


def _is_let_in(client: OpenAI) -> bool:
    return httpx.get(f"{client.base_url}models", headers=client.auth_headers).status_code == 200


def _refusal(client: OpenAI, model: str) -> RateLimitError | None:
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "And again"}])
    except RateLimitError as refused:
        return refused
    return None
