"""The configuration changes while requests run: nobody fails, and it is in force within a second."""

import contextlib
import html
import os
import re
import signal
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import bump, by_name, rows
from tests.servers import eventually, redis
from tests.traffic import Traffic, traffic
from tests.upstream import OTHER_KEY, QUIET, TEAM_KEY, FakeVendor, bearer, chat, data_lines, unique, wired

CHAT = "/v1/chat/completions"
PROMISED_S = 1.0
SWITCHED = {"routes": [{"match": "switched", "targets": [{"provider": "replay"}]}]}


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    with running_gateway(QUIET, files=wired(vendor, **SWITCHED)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def operator(served: Gateway) -> Iterator[AdminSession]:
    session = AdminSession(served)
    yield session
    session.close()


def provider_ids(gateway: Gateway) -> dict[str, str]:
    return {row["name"]: str(row["id"]) for row in rows(gateway, "SELECT id, name FROM providers_provider")}


def ask(gateway: Gateway, model: str = "switched", key: str = TEAM_KEY) -> httpx.Response:
    return httpx.post(f"{gateway.url}{CHAT}", json=chat(model), headers=bearer(key), timeout=30)


def health(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{gateway.url}/health", timeout=30).json()
    return found


def switch_to_and_fro(gateway: Gateway, operator: AdminSession, running: Traffic) -> list[float]:
    """Move the route between two providers; return how long each change took to be in force."""
    path = operator.change_path("proxy/route", "switched")
    ids, delays = provider_ids(gateway), list[float]()
    for name in ("spare", "replay", "spare"):
        running.go_on()
        operator.save(path, **{"targets-0-provider": ids[name]})
        saved_at = time.monotonic()
        first = running.first(after=saved_at if delays else 0, provider=name)
        delays.append(max(first.began - saved_at, 0.0))
        # With several workers, the slowest counts: who is still sent to the old one after the promise?
        while len(later := running.since(saved_at + PROMISED_S)) < 20:
            running.go_on(5)
        delays += [each.began - saved_at for each in later if each.provider != name]
    return delays


def test_it_follows_a_route_changed_in_the_admin_while_requests_run(
    served: Gateway, operator: AdminSession
) -> None:
    with traffic(served, chat("switched"), headers=bearer(TEAM_KEY)) as running:
        delays = switch_to_and_fro(served, operator, running)
    assert set(running.statuses) == {200}, "a request failed"
    assert statistics.median(delays) <= PROMISED_S, delays


def test_every_worker_follows_a_route_changed_in_the_admin_while_requests_run(vendor: FakeVendor) -> None:
    with (
        redis() as store,
        running_gateway(
            {**QUIET, "REDIS_URL": store.url()}, workers=2, files=wired(vendor, **SWITCHED)
        ) as gateway,
    ):
        operator = AdminSession(gateway)
        with traffic(gateway, chat("switched"), headers=bearer(TEAM_KEY), clients=8) as running:
            delays = switch_to_and_fro(gateway, operator, running)
        operator.close()
    assert set(running.statuses) == {200}, "a request failed"
    assert statistics.median(delays) <= PROMISED_S, delays


def test_it_lets_a_running_stream_end_on_the_route_it_began_on(
    served: Gateway, operator: AdminSession
) -> None:
    body = chat("demo/lorem", "30 words 100ms", stream=True)
    with httpx.stream("POST", f"{served.url}{CHAT}", json=body, headers=bearer(TEAM_KEY)) as response:
        lines = response.iter_lines()
        first = next(line for line in lines if "lorem" in line)
        path = operator.change_path("providers/provider", "demo")
        operator.save(path, enabled=None)
        eventually(lambda: ask(served, "demo/echo").status_code == 404, what="the end of the demo provider")
        assert data_lines([first, *lines])[-1] == "[DONE]"
    operator.save(path, enabled="on")
    eventually(lambda: ask(served, "demo/echo").status_code == 200, what="the return of the demo provider")


def test_it_refuses_a_key_disabled_in_the_admin_and_no_other(served: Gateway, operator: AdminSession) -> None:
    path = operator.change_path("keys/apikey", "other-key")
    with (
        traffic(served, chat("switched"), headers=bearer(OTHER_KEY)) as refused,
        traffic(served, chat("switched"), headers=bearer(TEAM_KEY)) as served_on,
    ):
        refused.go_on()
        operator.save(path, enabled=None)
        saved_at = time.monotonic()
        first = refused.first(after=0, status=401)
        served_on.go_on()
    assert first.began - saved_at <= PROMISED_S
    assert {each.status for each in refused.since(first.began + 0.1)} == {401}
    assert set(refused.statuses) == {200, 401}
    assert set(served_on.statuses) == {200}
    operator.save(path, enabled="on")
    eventually(lambda: ask(served, key=OTHER_KEY).status_code == 200, what="the return of the key")


def test_it_serves_a_new_key_at_once(served: Gateway, operator: AdminSession) -> None:
    tenants = by_name(rows(served, "SELECT id, name FROM keys_tenant"), "name")
    page = operator.submit(
        "/keys/apikey/add/", name="made-live", tenant=str(tenants["team"]["id"]), _save="Save"
    )
    secret = re.search(r"sk-gw-[\w-]{40,}", html.unescape(page.text))
    assert secret is not None
    assert ask(served, key=secret[0]).status_code == 200
    assert secret[0] not in operator.get(operator.change_path("keys/apikey", "made-live"))


def test_it_follows_a_change_made_by_another_process(served: Gateway, vendor: FakeVendor) -> None:
    """Nobody pokes this worker: it has to look by itself."""
    ids = provider_ids(served)
    delays = []
    for name in ("brief", "replay", "brief"):
        rows(
            served,
            "UPDATE proxy_target SET provider_id = ? "
            "WHERE route_id = (SELECT id FROM proxy_route WHERE match = 'switched')",
            int(ids[name]),
        )
        bump(served, "routes")
        written_at = time.monotonic()
        while ask(served).headers["x-gateway-provider"] != name:
            assert time.monotonic() - written_at < 20, f"no switch to {name}"
        delays.append(time.monotonic() - written_at)
    assert statistics.median(delays) <= PROMISED_S, delays


@contextlib.contextmanager
def broken_routes(gateway: Gateway) -> Iterator[None]:
    """Write a route past the form that would refuse it."""
    rows(
        gateway,
        "INSERT INTO proxy_route (match, kind, priority, strategy, sticky, sticky_header, hedge, "
        "continue_streams, enabled, note) "
        "VALUES ('broken(', 'regex', 9, 'ordered', '', '', FALSE, FALSE, TRUE, '')",
    )
    bump(gateway, "routes")
    try:
        eventually(lambda: health(gateway)["configuration"]["problem"], what="the problem in /health")
        yield
    finally:
        rows(gateway, "DELETE FROM proxy_route WHERE match = 'broken('")
        bump(gateway, "routes")
    eventually(lambda: health(gateway)["configuration"]["problem"] is None, what="the end of the problem")


def test_it_keeps_the_last_good_configuration_and_says_so(served: Gateway, operator: AdminSession) -> None:
    before = ask(served).headers["x-gateway-provider"]
    with broken_routes(served):
        assert "broken(" in health(served)["configuration"]["problem"]
        assert health(served)["status"] == "degraded"
        assert "broken(" in html.unescape(operator.get("/"))
        assert ask(served).headers["x-gateway-provider"] == before
        assert httpx.get(f"{served.url}/ready").status_code == 200
        assert "configuration_refused" in served.log()
    assert "Configuration in force" in operator.get("/")


def test_it_still_lets_keys_change_while_the_routes_are_broken(
    served: Gateway, operator: AdminSession
) -> None:
    """A leaked key must be stopped whatever else is wrong."""
    path = operator.change_path("keys/apikey", "other-key")
    with broken_routes(served):
        operator.save(path, enabled=None)
        eventually(
            lambda: ask(served, key=OTHER_KEY).status_code == 401, what="the refusal of the key", within_s=5
        )
        assert "broken(" in (health(served)["configuration"]["problem"] or "")
    operator.save(path, enabled="on")
    eventually(lambda: ask(served, key=OTHER_KEY).status_code == 200, what="the return of the key")


def test_a_new_worker_serves_the_last_good_configuration_too(served: Gateway) -> None:
    eventually(lambda: list(served.data_dir.glob("snapshot-*.kept")), what="the kept snapshot")
    with broken_routes(served):
        (worker,) = served.children("web")
        os.kill(worker, signal.SIGKILL)
        # The listening socket outlives the worker: this request waits for its successor.
        assert ask(served).status_code == 200
        assert "broken(" in health(served)["configuration"]["problem"]


def test_it_refuses_a_broken_regex_in_the_form(served: Gateway, operator: AdminSession) -> None:
    page = operator.submit("/proxy/cacheexclusion/add/", kind="regex", pattern="(?=lookahead)", _save="Save")
    assert "not a valid RE2 regex" in html.unescape(page.text)
    assert not rows(served, "SELECT id FROM proxy_cacheexclusion")


def test_it_lets_an_operator_in_who_comes_to_the_login_page_itself(served: Gateway) -> None:
    session = AdminSession(served, login="/login/")
    assert "Configuration in force" in session.get("/")
    session.close()


def test_it_hears_of_a_change_made_by_a_command(served: Gateway) -> None:
    model = unique("commanded")
    assert ask(served, model).status_code == 404
    (served.data_dir / "more.yaml").write_text(
        "version: 1\nroutes: [{match: 'commanded*', targets: [{provider: replay}]}]\n"
    )
    served.manage("apply_config", "more.yaml")
    eventually(lambda: ask(served, model).status_code == 200, what="the new route", within_s=5)
