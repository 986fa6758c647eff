"""What a process tells of its requests: a sample, and the number of all; nothing while nobody watches."""

import asyncio
from typing import Any

import orjson
import pytest
from channels.layers import get_channel_layer

from analytics.live import feed as module
from analytics.live.feed import KEPT, KEPT_OF_ONE, PROCESSES, SAMPLE, VIEWERS, Feed
from analytics.tests.live_kit import failure, finished
from providers.usage import Usage
from proxy.tests.fakes import until


@pytest.fixture
async def feed(monkeypatch):
    """A feed whose rounds are the test's own."""

    async def forever():
        await asyncio.Event().wait()

    made = Feed()
    monkeypatch.setattr(made, "_listen", forever)
    return made


async def test_it_tells_what_a_request_came_to(feed):
    feed(finished(tenant_id=7, key_id=3, key_prefix="sk-gw-ab", usage=Usage(10, 5), cost_nanousd=1_500))
    feed(failure())
    news = feed.take()
    assert (news["seen"], news["failed"]) == ({"7": 1, "0": 1}, {"0": 1})
    failed, answered = news["events"]
    assert (failed["status"], failed["error_code"], failed["cost_usd"]) == (502, "upstream_error", None)
    assert (answered["key"], answered["cost_usd"], answered["latency_ms"]) == ("sk-gw-ab", "0.0000015", 12.3)
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (10, 5)
    assert feed.take() is None


async def test_a_flood_is_counted_and_sampled_and_no_more_is_kept(feed):
    for number in range(5000):
        feed(finished(tenant_id=number % 40))
    assert feed._kept == KEPT
    news = feed.take()
    assert sum(news["seen"].values()) == 5000
    assert len(news["events"]) == SAMPLE
    assert feed._kept == 0


async def test_a_neighbours_flood_hides_nobody_and_no_failure(feed):
    for _ in range(500):
        feed(finished(tenant_id=1))
    feed(finished(tenant_id=2))
    feed(failure(tenant_id=1))
    assert sum(len(lane.others) for lane in feed._lanes.values()) == KEPT_OF_ONE + 1
    events = feed.take()["events"]
    assert [each["status"] for each in events[:1]] == [502]
    assert 2 in {each["tenant_id"] for each in events}


async def test_nothing_is_kept_while_nobody_watches(feed):
    feed.watched = False
    feed(finished())
    assert feed.take() is None


async def received(layer, channel):
    async with asyncio.timeout(10):
        return await layer.receive(channel)


async def test_it_sends_while_somebody_watches_and_ends_when_nobody_does(monkeypatch):
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "WATCHED_FOR_S", 0.1)
    layer = get_channel_layer()
    viewer = await layer.new_channel()
    await layer.group_add(VIEWERS, viewer)
    feed = Feed()
    feed(finished(id="first"))  # before anybody could say that they watch
    message = await received(layer, viewer)
    assert [each["id"] for each in orjson.loads(message["body"])["events"]] == ["first"]
    await asyncio.wait_for(feed._pumping, 10)  # nobody has said that they watch
    assert not feed.watched
    feed(finished(id="unseen"))
    await layer.group_send(PROCESSES, {"type": "live.watched"})
    await until(lambda: feed.watched)
    feed(finished(id="seen"))
    message = await received(layer, viewer)
    assert [each["id"] for each in orjson.loads(message["body"])["events"]] == ["seen"]
    feed._listening.cancel()


async def test_what_the_layer_does_not_take_is_counted_and_told_later(feed, monkeypatch):
    class Away:
        sent: Any = None

        async def group_send(self, _, message):
            if self.sent is None:
                self.sent = message
                raise ConnectionError("of Redis")
            self.sent = message

    layer = Away()
    for _ in range(3):
        feed(finished())
    await feed._tell(layer)
    assert feed.unsent == 3
    feed(finished())
    await feed._tell(layer)
    assert orjson.loads(layer.sent["body"])["unsent"] == 3
    assert feed.unsent == 0


async def test_it_listens_again_when_the_layer_is_back(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    layer, tries = get_channel_layer(), []

    class Flaky:
        async def new_channel(self):
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("of Redis")
            return await layer.new_channel()

        group_add, receive = layer.group_add, layer.receive

    monkeypatch.setattr(module, "get_channel_layer", Flaky)
    feed = Feed()
    feed(finished())
    await until(lambda: feed._pumping is not None)
    assert len(tries) == 2
    feed._pumping.cancel()
    feed._listening.cancel()
