"""The live feed of a served gateway: a WebSocket client sees requests as they finish, a flood as a sample."""

import contextlib
import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.gateway import Gateway, running_gateway
from tests.servers import redis

pytestmark = pytest.mark.timeout(300)

CHAT = {"model": "demo/echo", "messages": [{"role": "user", "content": "hi"}]}
LOGIN = "/accounts/login/?next=/admin/"
FLOOD = 600
LONG_FLOOD, LONG_FLOOD_S = 2_000, 4.0
# Two tenants with a member and a key each.
PEOPLE = """
from django.contrib.auth.models import User
from keys.models import ApiKey, Member, Tenant
for name, who in (("red", "rita"), ("blue", "ben")):
    tenant = Tenant.objects.create(name=name)
    user = User.objects.create_user(who, f"{who}@example.com", "pass-for-tests-1")
    Member.objects.create(tenant=tenant, user=user, role="viewer")
    ApiKey.issue(tenant=tenant, name=f"{name}-key", secret=f"own-{name}-key-of-the-live-feed")[0].save()
"""


class Watcher:
    """A viewer: confirms what it gets, and keeps it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.seen = self.sampled = self.slow = self.missed = 0
        self.hello = self.read()

    def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(timeout=20))
        if message["type"] == "batch":
            self.events += message["events"]
            self.seen += message["seen"]
            self.sampled += message["sampled"]
            self.slow += message["slow"]
            self.missed += message["missed"]
            self.say(confirm=message["number"])
        return message

    def until(self, reached: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < deadline, (self.seen, len(self.events))
            self.read()

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def names(self, field: str) -> list[str]:
        return [each[field] for each in self.events]


@contextlib.contextmanager
def signed_in(gateway: Gateway, name: str = "admin", password: str = "") -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, follow_redirects=True, timeout=30) as client:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get(LOGIN).text)
        assert found
        who = {"username": name, "password": password or gateway.admin_password}
        client.post(LOGIN, data={"csrfmiddlewaretoken": found[1], **who})
        assert "sessionid" in client.cookies
        yield client


@contextlib.contextmanager
def watching(gateway: Gateway, client: httpx.Client | None, **options: Any) -> Iterator[Watcher]:
    cookie = {"Cookie": "; ".join(f"{k}={v}" for k, v in client.cookies.items())} if client else {}
    url = f"{gateway.url.replace('http', 'ws', 1)}/ws/live/"
    headers = {**cookie, "Origin": gateway.url}
    with connect(url, additional_headers=headers, open_timeout=20, **options) as socket:
        yield Watcher(socket)


def send(gateway: Gateway, identity: str, *, key: str = "", model: str = "demo/echo") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or gateway.key}", "x-request-id": identity}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json={**CHAT, "model": model})


def flood(gateway: Gateway, count: int) -> None:
    """Send so many, one after another. This client is fast enough on a busy machine, too."""
    body, headers = json.dumps(CHAT), {**gateway.headers, "Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)) as connection:
        for _ in range(count):
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running_gateway({"CACHE_MODE": "memory"}) as served:
        yield served


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> Iterator[httpx.Client]:
    with signed_in(gateway) as client:
        yield client


def test_it_shows_a_request_as_it_finishes(gateway, admin):
    with watching(gateway, admin) as watcher:
        assert watcher.hello == {"type": "hello", "scope": "all", "shared": False}
        assert send(gateway, "live-1").status_code == 200
        watcher.until(lambda: "live-1" in watcher.names("request_id"))
        event = next(each for each in watcher.events if each["request_id"] == "live-1")
        assert (event["provider"], event["status"], event["outcome"]) == ("demo", 200, "ok")
        assert event["key_name"]
        assert gateway.key not in json.dumps(event)


def test_it_filters_and_pauses_as_asked(gateway, admin):
    with watching(gateway, admin) as watcher:
        watcher.say(filter={"errors": True})
        watcher.say(pause=False, colour="red")
        watcher.until(lambda: watcher.read()["type"] == "error")  # it has read the filter before that
        send(gateway, "fine")
        send(gateway, "wrong", model="nowhere/at-all")
        watcher.until(lambda: "wrong" in watcher.names("request_id"))
        assert "fine" not in watcher.names("request_id")
        watcher.say(pause=True)
        watcher.say(pause=True, colour="red")
        watcher.until(lambda: watcher.read()["type"] == "error")
        send(gateway, "unheard", model="nowhere/at-all")
        watcher.until(lambda: watcher.missed)
        assert "unheard" not in watcher.names("request_id")


def test_strangers_are_refused(gateway, admin):
    with pytest.raises(ConnectionClosed) as refused, watching(gateway, None):
        pytest.fail("a stranger was let in")
    assert refused.value.rcvd is not None
    assert refused.value.rcvd.code == 4401
    cookie = "; ".join(f"{k}={v}" for k, v in admin.cookies.items())
    url = f"{gateway.url.replace('http', 'ws', 1)}/ws/live/"
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, additional_headers={"Cookie": cookie, "Origin": "https://evil.test"})


def test_a_flood_is_counted_to_the_last_and_sampled(gateway, admin):
    """Most of it are hits that the server answers before the application starts: they are seen too."""
    with watching(gateway, admin) as watcher:
        flood(gateway, FLOOD)
        watcher.until(lambda: watcher.seen >= FLOOD)
        assert watcher.seen == FLOOD
        assert watcher.sampled > 0
        assert {each["cache"] for each in watcher.events} == {"hit"}
        watcher.until(lambda: len(watcher.events) + watcher.sampled + watcher.slow >= FLOOD)
        assert len(watcher.events) + watcher.sampled + watcher.slow == FLOOD


def test_a_viewer_that_reads_nothing_delays_nobody_and_is_told_what_it_missed(gateway, admin):
    with watching(gateway, admin, max_queue=1) as watcher:  # its library reads one message ahead
        until, sent = time.monotonic() + LONG_FLOOD_S, 0
        while sent < LONG_FLOOD or time.monotonic() < until:
            flood(gateway, 500)
            sent += 500
        assert watcher.seen == 0
        watcher.until(lambda: watcher.seen >= sent)
        watcher.until(lambda: len(watcher.events) + watcher.sampled + watcher.slow >= sent)
        assert watcher.seen == sent
        assert len(watcher.events) + watcher.sampled + watcher.slow == sent
        assert watcher.slow > 0
        assert watcher.sampled > 0


def test_members_see_the_requests_of_their_tenant_and_of_no_other(gateway):
    gateway.shell(PEOPLE)
    keys = {name: f"own-{name}-key-of-the-live-feed" for name in ("red", "blue")}
    with (
        signed_in(gateway, "rita", "pass-for-tests-1") as rita,
        signed_in(gateway, "ben", "pass-for-tests-1") as ben,
        watching(gateway, rita) as red,
        watching(gateway, ben) as blue,
    ):
        assert red.hello["scope"] == blue.hello["scope"] == "tenants"
        for number in range(3):
            for name, key in keys.items():
                assert send(gateway, f"{name}-{number}", key=key).status_code == 200
            send(gateway, f"demo-{number}")
            send(gateway, f"wrong-{number}", key=keys["red"], model="nowhere/at-all")
        # A last one of each: whatever is told of the others has been told before.
        for name, key in keys.items():
            send(gateway, f"{name}-last", key=key)
        red.until(lambda: "red-last" in red.names("request_id"))
        blue.until(lambda: "blue-last" in blue.names("request_id"))
    assert {*red.names("request_id")} == {
        *(f"{what}-{n}" for what in ("red", "wrong") for n in range(3)),
        "red-last",
    }
    assert {*blue.names("request_id")} == {*(f"blue-{number}" for number in range(3)), "blue-last"}
    assert {*red.names("key_name")} == {"red-key"}
    assert {*blue.names("tenant_name")} == {"blue"}
    assert (red.seen, blue.seen) == (7, 4)
    assert "blue" not in json.dumps(red.events)
    assert "red" not in json.dumps(blue.events)


def test_a_viewer_keeps_no_gateway_from_ending(gateway, admin):
    with watching(gateway, admin) as watcher:
        began = time.monotonic()
        assert gateway.stop(within_s=20) == 0
        with pytest.raises(ConnectionClosed):
            watcher.until(lambda: False)
    assert time.monotonic() - began < 20


@pytest.mark.broker
def test_it_hears_of_all_workers_over_redis():
    environment = {"CACHE_MODE": "none"}
    with (
        redis() as store,
        running_gateway({**environment, "REDIS_URL": store.url()}, workers=2) as gateway,
        signed_in(gateway) as client,
        watching(gateway, client) as watcher,
    ):
        assert watcher.hello["shared"] is True
        names = [f"live-{number}" for number in range(40)]
        for name in names:
            send(gateway, name)  # each on a connection of its own, which either worker takes
        watcher.until(lambda: set(names) <= set(watcher.names("request_id")))
        assert watcher.seen == len(names)
        workers = {each["id"].split("-")[1] for each in watcher.events}
        assert workers == {"0", "1"}
