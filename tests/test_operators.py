"""What operators do and rely on: tests of vendors, model lists, planes apart, secrets that stay secret."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import eventually
from tests.upstream import (
    LIMITED_KEY,
    OTHER_KEY,
    QUIET,
    TEAM_KEY,
    UPSTREAM_KEY,
    FakeVendor,
    bearer,
    chat,
    data_lines,
    unique,
    wired,
)

CHAT = "/v1/chat/completions"
VERSE = "a secret verse that nobody but the vendor may read"


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    variables = {**QUIET, "CACHE_MODE": "memory", "MAX_RESPONSE_BYTES": "1MiB"}
    with running_gateway(variables, files=wired(vendor)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def operator(served: Gateway) -> Iterator[AdminSession]:
    session = AdminSession(served)
    yield session
    session.close()


def models(gateway: Gateway, key: str) -> set[str]:
    listed = httpx.get(f"{gateway.url}/v1/models", headers=bearer(key), timeout=30).json()
    return {model["id"] for model in listed["data"]}


def test_it_lists_what_vendors_say_they_serve(served: Gateway) -> None:
    eventually(lambda: "replay/synthetic-mini" in models(served, TEAM_KEY), what="the vendor's list")
    eventually(lambda: "spare/synthetic-mini" in models(served, TEAM_KEY), what="the other vendor's list")
    assert {name.partition("/")[0] for name in models(served, LIMITED_KEY)} == {"demo"}
    one = httpx.get(f"{served.url}/v1/models/replay/synthetic-mini", headers=bearer(TEAM_KEY)).json()
    assert (one["id"], one["object"], one["created"]) == ("replay/synthetic-mini", "model", 1790000000)
    for key, status in ((LIMITED_KEY, 404), ("nobody", 401)):
        url = f"{served.url}/v1/models/replay/synthetic-mini"
        assert httpx.get(url, headers=bearer(key)).status_code == status


def test_an_operator_tests_a_vendor(operator: AdminSession) -> None:
    path = operator.change_path("providers/provider", "replay").replace("/change/", "/test_provider/")
    page = html.unescape(operator.press(path).text)
    assert "synthetic-mini" in page
    assert re.search(r"\d+(\.\d+)? ms", page)
    assert UPSTREAM_KEY not in page


def test_an_operator_is_told_why_a_vendor_does_not_answer(operator: AdminSession) -> None:
    path = operator.change_path("providers/provider", "closed").replace("/change/", "/test_provider/")
    page = html.unescape(operator.press(path).text)
    assert "synthetic" not in page
    assert re.search(r"connect|refused", page, re.IGNORECASE)


def test_an_answer_has_a_bound(served: Gateway, vendor: FakeVendor) -> None:
    with httpx.Client(base_url=served.url, headers=bearer(TEAM_KEY), timeout=60) as client:
        whole = client.post(CHAT, json=chat(f"spare/{unique('synthetic~huge=3')}"))
        assert (whole.status_code, whole.json()["error"]["code"]) == (502, "upstream_too_large")
        stream = client.post(CHAT, json=chat(f"spare/{unique('synthetic~tokens=20000')}", stream=True))
        *_, last = data_lines(stream.text.splitlines())
        assert json.loads(last)["error"]["code"] == "upstream_too_large"
        assert len(stream.content) < 2 << 20


def lines_of(gateway: Gateway, request_id: str) -> list[dict[str, Any]]:
    found = [line for line in gateway.log().splitlines() if f'"request_id":"{request_id}"' in line]
    return [json.loads(line) for line in found]


def test_a_request_is_one_line_of_the_log_without_its_words(served: Gateway) -> None:
    model = unique(f"synthetic~text={VERSE.replace(' ', '%20')}")
    headers = {**bearer(TEAM_KEY), "x-request-id": "one-line"}
    body = chat(f"replay/{model}", VERSE, stream=True)
    assert httpx.post(f"{served.url}{CHAT}", json=body, headers=headers).status_code == 200
    (line,) = eventually(lambda: lines_of(served, "one-line"), what="the line")
    assert line["event"] == "request"
    assert {"key", "provider", "model", "cache", "latency_ms", "ttft_ms", "status"} <= set(line)
    assert (line["provider"], line["status"], line["cache"]) == ("replay", 200, "miss")
    assert VERSE not in served.log()


def test_prompts_are_logged_only_where_they_are_asked_for(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "LOG_PROMPTS": "true"}, files=wired(vendor)) as gateway:
        body = chat("demo/echo", VERSE + " and so on" * 1000)
        headers = {**bearer(TEAM_KEY), "x-request-id": "with-prompt"}
        assert httpx.post(f"{gateway.url}{CHAT}", json=body, headers=headers).status_code == 200
        (line,) = eventually(lambda: lines_of(gateway, "with-prompt"), what="the line")
        assert VERSE in line["prompt"]
        assert len(line["prompt"]) <= 500


def test_no_secret_is_kept_or_told_anywhere(served: Gateway, operator: AdminSession) -> None:
    """Not in the database, the spool, the kept snapshot, the log, a page or an error."""
    generated = operator.submit(
        "/keys/apikey/add/",
        name="kept-nowhere",
        tenant=str(rows(served, "SELECT id FROM keys_tenant WHERE name = 'team'")[0]["id"]),
        _save="Save",
    )
    secret = re.search(r"sk-gw-[\w-]{40,}", html.unescape(generated.text))
    assert secret is not None
    url = f"{served.url}{CHAT}"
    assert httpx.post(url, json=chat("replay/synthetic"), headers=bearer(secret[0])).status_code == 200
    refused = httpx.post(url, json=chat(f"replay/{unique('synthetic~fail=9x401')}"), headers=bearer(TEAM_KEY))
    assert UPSTREAM_KEY not in refused.text
    files = {path: path.read_bytes() for path in Path(served.data_dir).rglob("*") if path.is_file()}
    del files[served.data_dir / "config.yaml"]  # where the operator has written them
    for name in (secret[0], TEAM_KEY, OTHER_KEY, UPSTREAM_KEY, served.admin_password):
        assert [str(path) for path, content in files.items() if name.encode() in content] == []
    for name in (secret[0], TEAM_KEY, UPSTREAM_KEY):
        assert name not in served.log()
    pages = ["/providers/provider/", operator.change_path("providers/provider", "replay"), "/keys/apikey/"]
    assert not [page for page in pages if UPSTREAM_KEY in operator.get(page)]


def test_two_planes_share_one_configuration(vendor: FakeVendor) -> None:
    """An operator's change in one process is in force in the other within a second, without Redis."""
    with running_gateway(QUIET, arguments=("--plane", "data"), files=wired(vendor)) as data:
        control = Gateway(
            data.data_dir, QUIET, workers=1, arguments=("--plane", "control", "--no-shipper", "--no-migrate")
        )
        control.admin_password = data.admin_password
        try:
            control.start()
            assert httpx.get(f"{data.url}/admin/").status_code == 404
            assert httpx.post(f"{control.url}{CHAT}", json=chat("demo/echo")).status_code == 404
            for plane in (data, control):
                assert httpx.get(f"{plane.url}/ready").status_code == 200
            session = AdminSession(control)
            path = session.change_path("keys/apikey", "team-key")
            ask: dict[str, Any] = {"json": chat("demo/echo"), "headers": bearer(TEAM_KEY)}
            assert httpx.post(f"{data.url}{CHAT}", **ask).status_code == 200
            session.save(path, enabled=None)
            eventually(
                lambda: httpx.post(f"{data.url}{CHAT}", **ask).status_code == 401,
                what="the change",
                within_s=5,
            )
            session.close()
        finally:
            control.discard()
