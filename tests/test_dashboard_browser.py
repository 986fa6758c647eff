"""A tenant's people at their dashboard, in a real browser before a served gateway."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from gatewaysite.tests.test_admin_browser import ARGUMENTS, CHROMIUM
from tests.dashboard_people import SCRIPT
from tests.gateway import Gateway, running_gateway
from tests.servers import eventually

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
expect.set_options(timeout=15_000)
DESKTOP, PHONE = (1400, 900), (390, 844)
PAGES = (
    *("", "requests/", "errors/", "models/", "keys/", "keys/new/", "keys/2/", "keys/2/rotate/"),
    *("requests/5/", "playground/", "members/", "settings/"),
)
# Every page in one look, those with most in them in the others as well.
LOOKS = [
    (DESKTOP, "light", PAGES),
    (PHONE, "dark", ("", "requests/", "requests/5/", "keys/", "keys/2/", "members/", "playground/")),
    (DESKTOP, "dark", ("", "playground/")),
    (PHONE, "light", ("", "playground/")),
]
# No inline script or style may be needed.
POLICY = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    with running_gateway({"CACHE_MODE": "none"}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def sessions(served: Gateway) -> dict[str, str]:
    printed = served.manage("shell", "-v", "0", "-c", SCRIPT)
    told = next(line for line in printed.splitlines() if line.startswith("SESSIONS "))
    found: dict[str, str] = json.loads(told.removeprefix("SESSIONS "))
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(str(CHROMIUM)), args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A person's browser: takes note of everything that goes wrong."""

    def __init__(self, browser: Browser, gateway: Gateway, session: str, *, size: Any, scheme: Any) -> None:
        self.context: BrowserContext = browser.new_context(
            base_url=f"{gateway.url}/dashboard/acme/",
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        self.context.add_cookies([{"name": "sessionid", "value": session, "url": gateway.url}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.route("**/dashboard/**", _under_policy)

    def judge(self) -> None:
        """Fail for what people with a phone, or without eyes, stumble over."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels too wide"
        found = Axe().run(self.page).response["violations"]
        serious = [
            (each["id"], [node["html"] for node in each["nodes"]][:3], each["nodes"][0]["failureSummary"])
            for each in found
            if each["impact"] in {"serious", "critical"}
        ]
        assert serious == [], self.page.url

    def picture(self, name: str) -> None:
        """Keep a picture where somebody wants one."""
        if folder := os.environ.get("GATEWAY_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def _works(served: Gateway, secret: str) -> bool:
    answer = httpx.get(f"{served.url}/v1/models", headers={"Authorization": f"Bearer {secret}"})
    return answer.status_code == 200


def _under_policy(route: Route) -> None:
    if route.request.resource_type != "document":
        return route.continue_()
    answer = route.fetch(max_redirects=0)
    return route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": POLICY})


@pytest.fixture
def visit(served, sessions, chromium) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_as(name: str, size: Any = DESKTOP, scheme: str = "light") -> Visit:
        opened.append(Visit(chromium, served, sessions[name], size=size, scheme=scheme))
        return opened[-1]

    yield open_as
    for each in opened:
        each.context.close()
    assert [said for each in opened for said in each.wrong] == []


@pytest.mark.parametrize(("size", "scheme", "paths"), LOOKS)
def test_every_page_is_readable(visit, size, scheme, paths):
    seen = visit("olga", size, scheme)
    for path in paths:
        seen.page.goto(path or ".")
        expect(seen.page.locator("h1")).to_be_visible()
        seen.judge()
        seen.picture(f"dashboard-{path.strip('/').replace('/', '-') or 'overview'}-{size[0]}-{scheme}")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_member_makes_a_key_sends_sees_the_cost_rotates_and_exports(served, visit, size, scheme):
    seen = visit("max", size, scheme)
    page, name = seen.page, f"max-{size[0]}"
    page.goto("keys/")
    page.click("text=New key")
    page.fill("[name=name]", name)
    page.click("text=Make the key")
    secret = page.locator("[data-secret]").inner_text()
    seen.judge()
    eventually(lambda: _works(served, secret), what="the new key")

    page.click("main >> text=To the playground")
    page.fill("#play-key", secret)
    page.locator("#play-key").press("Tab")
    expect(page.locator("#play-model")).to_be_enabled()
    page.select_option("#play-model", "demo/lorem")
    page.fill("#play-user", "12 words 40ms")
    page.click("#play-send")
    expect(page.locator("#play-answer")).to_contain_text("lorem ipsum")
    expect(page.locator("#play-said")).to_have_text("Done.")
    expect(page.locator("#play-facts")).to_contain_text("First content after")
    expect(page.locator("#play-facts")).to_contain_text(re.compile(r"Cost\$0\.0\d+"))
    page.click("#play-headers-box summary")
    headers = page.locator("#play-headers")
    for header in ("x-request-id", "x-gateway-provider", "x-ratelimit-limit-requests"):
        expect(headers).to_contain_text(header)
    expect(page.locator("#play-limits")).to_contain_text("600 requests per minute")
    seen.judge()
    seen.picture(f"dashboard-playground-answered-{size[0]}-{scheme}")
    page.click("#play-link")
    expect(page.locator("h2", has_text="Attempts")).to_be_visible()

    page.goto("keys/")
    page.click(f"main >> text={name}")
    page.click("text=Rotate the secret")
    page.click("button >> text=Rotate the secret")
    rotated = page.locator("[data-secret]").inner_text()
    assert rotated != secret
    eventually(lambda: _works(served, rotated), what="the new secret")
    assert _works(served, secret)  # for 24 hours more

    page.goto(".")
    page.click("text=Export CSV")
    with page.expect_download() as download:
        page.click("text=Usage by key")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    mine = next(row for row in rows if row["key"] == name)
    assert mine["requests"] == "1"
    assert re.fullmatch(r"0\.\d{3,9}", mine["cost_usd"])
    with page.expect_download() as download:
        page.click("text=Request log")
    logged = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert next(row for row in logged if row["key"] == name)["cost_usd"] == mine["cost_usd"]


def test_the_playground_makes_a_key_stops_and_tells_errors(visit):
    seen = visit("max")
    page = seen.page
    page.goto("playground/")
    page.click("#play-make")
    expect(page.locator("#play-key-said")).to_contain_text("works until")
    expect(page.locator("#play-model")).to_have_value("demo/echo")
    page.select_option("#play-model", "demo/lorem")
    page.fill("#play-user", "2000 words 50ms")
    page.click("#play-send")
    expect(page.locator("#play-answer")).to_contain_text("lorem")
    page.click("#play-stop")
    expect(page.locator("#play-said")).to_contain_text("Stopped")
    expect(page.locator("#play-send")).to_be_enabled()
    secret = page.input_value("#play-key")
    page.evaluate("document.getElementById('play-key').value = 'sk-gw-mistyped'")
    page.click("#play-send")
    expect(page.locator("#play-error")).to_contain_text("401 invalid_api_key")
    assert page.evaluate("JSON.stringify(localStorage)").find(secret) == -1
    assert all(secret not in cookie["value"] for cookie in seen.context.cookies())
    page.reload()
    expect(page.locator("#play-key")).to_have_value(secret)
    # A refused request is the browser's own error line, too; nothing else may be.
    seen.wrong = [each for each in seen.wrong if "status of 401" not in each]


@pytest.mark.parametrize("language", ["curl", "python", "javascript"])
def test_its_snippets_run_as_they_stand(served, visit, tmp_path, language):
    program = {"curl": shutil.which("bash"), "python": sys.executable, "javascript": shutil.which("node")}[
        language
    ]
    if program is None:
        pytest.skip("node is not installed (Debian package nodejs)")
    page = visit("max").page
    page.goto("playground/")
    page.fill("#play-system", 'Say "it\'s" twice \\ $HOME `id`')
    page.fill("#play-user", "it's \"quoted\"\nand ünïcode 'twice' \\ $HOME `id` \N{SNOWMAN}")
    page.fill("#play-temperature", "0.5")
    page.fill("#play-max", "200")
    page.click(f"[data-snippet={language}]")
    code = tmp_path / {"curl": "chat.sh", "python": "chat.py", "javascript": "chat.mjs"}[language]
    code.write_text(page.locator("#play-code").inner_text())
    done = subprocess.run(
        [program, str(code)],
        env={**os.environ, "GATEWAY_KEY": served.key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    if language == "curl":
        events = [line[6:] for line in said.splitlines() if line.startswith("data: {")]
        choices = [choice for event in events for choice in json.loads(event)["choices"]]
        said = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert said.strip() == "it's \"quoted\"\nand ünïcode 'twice' \\ $HOME `id` \N{SNOWMAN}"


def test_an_owner_brings_people_in_by_keyboard_and_switches_the_theme(visit):
    seen = visit("olga")
    page = seen.page
    page.goto("members/")
    page.keyboard.press("Tab")
    expect(page.locator(".d-skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("[name=who]")).to_be_focused()
    page.keyboard.type("ida@example.com")
    page.keyboard.press("Enter")
    expect(page.locator("[role=status]", has_text="ida is a member now.")).to_be_visible()
    page.click("[data-theme-switch]")
    page.click("[data-theme-switch]")
    assert page.evaluate("document.documentElement.classList.contains('dark')")
    page.reload()
    assert page.evaluate("document.documentElement.classList.contains('dark')")


def test_its_export_is_streamed_by_the_server(served, sessions):
    with httpx.Client(base_url=served.url, cookies={"sessionid": sessions["vera"]}) as viewer:
        answer = viewer.get("/dashboard/acme/requests.csv", params={"range": "30d"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "content-length" not in answer.headers
    assert answer.text.count("req-") == 119
    assert "StreamingHttpResponse must consume" not in served.log()
