import time

import orjson
import pytest

from proxy import broadcast
from proxy.broadcast import CHANNEL, KEPT, Broadcaster, follow, kept, publish
from proxy.fleet.news import Kind, News
from proxy.tests.fakes import Log
from tests.servers import eventually, free_port, redis

pytestmark = pytest.mark.broker

OPEN = News(Kind.OPEN, "openai/gpt", "me", for_s=60.0, reason="upstream_error")
CLOSED = News(Kind.CLOSED, "openai/gpt", "me")
COOL = News(Kind.COOL, "openai/gpt", "me", for_s=60.0, credential="spare")


@pytest.fixture(scope="module")
def server():
    with redis() as running:
        yield running


@pytest.fixture
def client(server):
    server.forget()
    with server.client() as connected:
        yield connected


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(broadcast, "log", recorder)
    monkeypatch.setattr(broadcast, "RETRY_S", 0.02)
    return recorder


class Listener:
    """What one process hears."""

    def __init__(self, server):
        self.heard = []
        self.joined = 0
        follow(server.url(), heard=self.heard.append, joined=self._join)

    def _join(self):
        self.joined += 1

    def wait_for_join(self, times=1):
        eventually(lambda: self.joined >= times, what="the subscription")


@pytest.fixture
def teller(server):
    broadcaster = Broadcaster(server.url())
    broadcaster.start()
    yield broadcaster
    broadcaster.close()
    broadcaster._thread.join(5)
    assert not broadcaster._thread.is_alive()


def kinds(heard):
    return [news.kind for news in heard]


def test_it_carries_news_to_all_who_listen(server, client, teller):
    listeners = [Listener(server), Listener(server)]
    for each in listeners:
        each.wait_for_join()
    teller.tell(OPEN)
    eventually(lambda: all(each.heard for each in listeners), what="the news")
    for each in listeners:
        (news,) = each.heard
        assert news.subject == OPEN.subject
        assert news.reason == OPEN.reason
        assert OPEN.for_s - 5 < news.for_s <= OPEN.for_s


def test_it_says_the_newest_of_each_subject(server, client, teller):
    listener = Listener(server)
    listener.wait_for_join()
    for news in (OPEN, CLOSED, OPEN, CLOSED, COOL):
        teller.tell(news)
    eventually(lambda: Kind.COOL in kinds(listener.heard), what="the news")
    assert kinds(listener.heard)[-2:] == [Kind.CLOSED, Kind.COOL]
    assert kept(client)
    assert kinds(kept(client)) == [Kind.COOL]


def test_it_tells_those_that_start_later_what_still_holds(server, client):
    publish(client, [OPEN, COOL])
    listener = Listener(server)
    listener.wait_for_join()
    assert {news.subject for news in listener.heard} == {OPEN.subject, COOL.subject}
    publish(client, [CLOSED, News(Kind.COOL, "openai/gpt", "me", credential="spare")])
    assert kept(client) == []


def test_it_forgets_what_has_passed_by_the_clock_of_redis(client):
    now_s = client.time()[0]
    for name, until_s in (("over", now_s - 10), ("holds", now_s + 10)):
        client.hset(KEPT, name, orjson.dumps([until_s, OPEN.pack().decode()]))
    (news,) = kept(client)
    assert 8 < news.for_s <= 10
    assert client.hkeys(KEPT) == [b"holds"]


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b"[1, 2]", b'["x", "y"]', b'[9e12, "{}"]', b"\xff"])
def test_it_ignores_and_removes_garbage_that_is_kept(client, value):
    client.hset(KEPT, "garbage", value)
    client.hset(KEPT, "good", orjson.dumps([client.time()[0] + 10, OPEN.pack().decode()]))
    assert kinds(kept(client)) == [Kind.OPEN]


def test_it_ignores_garbage_on_the_channel(server, client):
    listener = Listener(server)
    listener.wait_for_join()
    for garbage in (b"", b"{}", b"[]", b"\xff", b"x" * 100_000):
        client.publish(CHANNEL, garbage)
    publish(client, [OPEN])
    eventually(lambda: listener.heard, what="the news")
    assert kinds(listener.heard) == [Kind.OPEN]


def test_it_keeps_a_bounded_number(client, monkeypatch):
    monkeypatch.setattr(broadcast, "MAX_KEPT", 3)
    for number in range(6):
        publish(client, [News(Kind.OPEN, f"openai/m{number}", "me", for_s=60.0)])
    assert client.hlen(KEPT) == 3
    assert 0 < client.ttl(KEPT) <= 86_400


def test_it_makes_room_for_what_holds(client, monkeypatch):
    monkeypatch.setattr(broadcast, "MAX_KEPT", 2)
    for number in range(2):
        client.hset(KEPT, f"over{number}", orjson.dumps([1.0, OPEN.pack().decode()]))
    publish(client, [OPEN])
    assert client.hkeys(KEPT) == [OPEN.subject.encode()]


def test_it_listens_again_after_an_outage(log):
    with redis() as server:
        listener = Listener(server)
        listener.wait_for_join()
        server.stop()
        server.start()
        listener.wait_for_join(2)
        teller = Broadcaster(server.url())
        teller.start()
        teller.tell(OPEN)
        eventually(lambda: listener.heard, what="the news")
        teller.close()


def test_it_never_makes_an_attempt_wait(log):
    """News that cannot be told is lost, and said to be so."""
    teller = Broadcaster(f"redis://127.0.0.1:{free_port()}/0")
    teller.start()
    began = time.perf_counter()
    teller.tell(OPEN)
    assert time.perf_counter() - began < 0.5
    eventually(lambda: log.of("upstream_news_lost"), what="the failure")
    teller.close()


def test_it_tells_no_opening_that_is_over_when_its_turn_comes(monkeypatch):
    teller = Broadcaster("redis://127.0.0.1:1/0")
    teller.tell(News(Kind.OPEN, "openai/gpt", "me", for_s=1.0))
    teller.tell(News(Kind.COOL, "openai/gpt", "me", for_s=9.0))
    (_, at), *_ = teller._waiting
    monkeypatch.setattr(time, "monotonic", lambda: at + 5.0)
    assert [(news.kind, round(news.for_s)) for news in teller._newest()] == [(Kind.COOL, 4)]
