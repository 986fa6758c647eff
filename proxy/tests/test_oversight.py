"""What stands around the fleet of one process, put together: seen, told, obeyed."""

import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from proxy import broadcast
from proxy.asgi import lane
from proxy.breaker_metrics import BreakerMeter
from proxy.fleet.breaker import State
from proxy.fleet.news import Kind, News
from proxy.fleet.registry import Fleet
from proxy.oversight import Oversight
from proxy.snapshot import Control
from proxy.tests.fakes import Client, chat_request, make_snapshot, refuses, says

NAME = "openai/gpt-4o"


class FakeBroadcaster:
    """Keeps what it is given to tell; `hear` is what another process says, in its thread."""

    def __init__(self, url):
        self.url = url
        self.told = []
        self.tell = self.told.append
        self.started = self.closed = False

    def start(self):
        self.started = True

    def close(self):
        self.closed = True


@pytest.fixture
def redis_of_its_own(monkeypatch):
    """Redis, for as far as the oversight knows: `follow`'s callbacks are kept."""
    followed = SimpleNamespace(heard=None, joined=None)

    def follow(url, *, heard, joined):
        followed.heard, followed.joined = heard, joined

    monkeypatch.setattr(broadcast, "Broadcaster", FakeBroadcaster)
    monkeypatch.setattr(broadcast, "follow", follow)
    monkeypatch.setattr("proxy.services.announce.listen", lambda *_: None)
    monkeypatch.setattr("proxy.watcher.Watcher.start", lambda _: None)
    return followed


async def ask(path="/health"):
    return (await Client("GET", path).run(lane)).json


async def fail(times=1):
    for _ in range(times):
        await chat_request().run(lane)


async def in_thread(act, *arguments):
    """Do it in a thread, and let the event loop do what was handed over."""
    thread = threading.Thread(target=act, args=arguments)
    thread.start()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)


def opened(provider="openai"):
    return REGISTRY.get_sample_value("gateway_breaker_opened_total", {"provider": provider}) or 0.0


def gauge(provider="openai"):
    return REGISTRY.get_sample_value("gateway_breaker_state", {"provider": provider})


async def test_it_shows_a_breaker_that_opens(serving):
    gateway = serving(refuses(500), max_retries=1, cb_error_threshold=2, cache_mode="none")
    gateway.oversight.follow(gateway.snapshot)
    before = opened()
    await fail()
    assert (await ask())["providers"]["openai"] == {
        "state": "closed",
        "usable": True,
        "upstreams": {NAME: {"state": "closed", "failures": 1, "reason": "http_500"}},
    }
    await fail()
    shown = (await ask())["providers"]["openai"]
    assert (shown["state"], shown["usable"]) == ("open", True)
    assert 0 < shown["upstreams"][NAME]["retry_in_s"] <= 30
    await ask("/ready")
    await Client("GET", "/metrics").run(lane)
    assert (gauge(), gauge("vllm"), opened() - before) == (2, 0, 1)


async def test_it_is_ready_whatever_is_open(serving):
    serving(refuses(500), max_retries=1, cb_error_threshold=1, cache_mode="none")
    await fail()
    ready = await Client("GET", "/ready").run(lane)
    assert ready.status == 200
    assert ready.json["providers"]["openai"]["state"] == "open"
    refused = await chat_request().run(lane)
    assert (refused.status, refused.json["error"]["code"]) == (503, "circuit_open")
    assert 0 < int(refused.headers["retry-after"]) <= 30


async def test_it_counts_the_openings_of_failures_alone(serving):
    gateway = serving(refuses(500), max_retries=1, cb_error_threshold=1, cache_mode="none")
    before = opened()
    breaker = gateway.fleet.named(NAME, "openai").breaker
    breaker.hold_open()
    breaker.release_hold()
    breaker.open_for(5.0, gateway.fleet.loop.time())
    breaker.reset()
    gateway.meter.publish()
    assert opened() == before
    await fail()
    breaker.hold_open()
    breaker.release_hold()
    gateway.meter.publish()
    assert opened() == before + 1


def controlled(gateway, **fields):
    control = Control(**{"held_open": False, "reset_at": None, **fields})
    return replace(gateway.snapshot, controls={NAME: control})


async def test_it_does_what_operators_ask(serving):
    """A new snapshot comes in the watcher's thread."""
    gateway = serving(refuses(500), says("Hi."), max_retries=1, cb_error_threshold=1, cache_mode="none")
    breaker = gateway.fleet.named(NAME, "openai").breaker
    await fail()
    assert breaker.state(gateway.fleet.loop.time()) == State.OPEN
    await in_thread(gateway._publish, controlled(gateway, reset_at=gateway.started_at + 1))
    assert breaker.state(gateway.fleet.loop.time()) == State.CLOSED
    await in_thread(gateway._publish, controlled(gateway, reset_at=gateway.started_at + 1, held_open=True))
    assert breaker.held
    assert (await ask())["providers"]["openai"]["upstreams"][NAME]["held"] is True
    refused = await chat_request().run(lane)
    assert (refused.status, refused.json["error"]["code"]) == (503, "circuit_open")
    assert "operator" in refused.json["error"]["message"]
    assert refused.headers["retry-after"] == "60"
    await in_thread(gateway._publish, controlled(gateway))
    assert (await chat_request().run(lane)).status == 200
    assert "upstreams" not in (await ask())["providers"]["openai"]


async def test_it_looks_at_controls_once_for_each_configuration(serving, monkeypatch):
    """A key that changes makes a new snapshot four times a second; its controls are the same."""
    gateway = serving()
    applied = []
    monkeypatch.setattr(gateway.oversight._controls, "apply", applied.append)
    snapshot = controlled(gateway, held_open=True)
    for version in range(3):
        await in_thread(gateway._publish, replace(snapshot, version=version))
    assert applied == [snapshot.controls]


async def test_it_tells_its_neighbours_and_listens_to_them(serving, redis_of_its_own):
    gateway = serving(
        refuses(500),
        max_retries=1,
        cb_error_threshold=1,
        cache_mode="none",
        redis_url="redis://127.0.0.1:9/0",
    )
    gateway.start()
    broadcaster = gateway.oversight._broadcaster
    assert broadcaster.started
    await fail()
    (news,) = broadcaster.told
    assert (news.kind, news.upstream, news.by) == (Kind.OPEN, NAME, gateway.boot)
    await in_thread(redis_of_its_own.heard, News(Kind.CLOSED, NAME, "another"))
    assert (await ask())["providers"]["openai"] == {"state": "closed", "usable": True}
    await in_thread(redis_of_its_own.heard, News(Kind.OPEN, "vllm/llama", "another", for_s=9.0))
    assert (await ask())["providers"]["vllm"]["state"] == "open"
    broadcaster.told.clear()
    await in_thread(redis_of_its_own.joined)
    assert [(news.kind, news.upstream) for news in broadcaster.told] == [(Kind.OPEN, "vllm/llama")]
    gateway.oversight.close()
    assert broadcaster.closed


async def test_it_tells_of_what_a_reset_forgets(serving, redis_of_its_own):
    limited = refuses(429, headers={"retry-after": "50"})
    gateway = serving(limited, max_retries=1, cache_mode="none", redis_url="redis://127.0.0.1:9/0")
    broadcaster = gateway.oversight._broadcaster
    await fail()
    shown = (await ask())["providers"]["openai"]
    assert (shown["state"], shown["upstreams"][NAME]["failures"]) == ("cooling", 0)
    assert 40 < shown["upstreams"][NAME]["cooling_s"] <= 50
    await in_thread(gateway._publish, controlled(gateway, reset_at=gateway.started_at + 1))
    assert [(news.kind, round(news.for_s)) for news in broadcaster.told] == [(Kind.COOL, 50), (Kind.COOL, 0)]
    assert (await ask())["providers"]["openai"]["state"] == "closed"


async def test_it_shows_an_account_whose_credential_is_refused(serving):
    serving(refuses(401), max_retries=1, cache_mode="none")
    await fail()
    assert (await ask())["providers"]["openai"] == {
        "state": "cooling",
        "usable": True,
        "reason": "it has refused a credential",
    }


def test_it_hands_nothing_to_a_loop_that_has_ended():
    """Threads outlive it by a moment."""

    async def make():
        fleet = Fleet(threshold=1, window_s=60.0, half_open_after_s=30.0)
        return Oversight(fleet, name="x", worker=0, meter=BreakerMeter(), redis_url="")

    oversight = asyncio.run(make())
    oversight.follow(make_snapshot("openai"))
    assert oversight._snapshot is not None


async def test_it_reports_from_the_watchers_polls_while_the_database_is_up(serving, monkeypatch):
    gateway = serving()
    polls = []
    monkeypatch.setattr(gateway.oversight._reporter, "poll", polls.append)
    gateway._each_poll()
    assert len(polls) == 1
    gateway.watcher.database_up = False
    gateway._each_poll()
    assert len(polls) == 1
