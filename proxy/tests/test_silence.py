"""What a reader hears of a vendor that is silent between two pieces: SILENCE, then the idle timeout."""

import asyncio
from typing import Any, cast

import pytest

from providers import demo
from providers.errors import UpstreamError
from proxy.demo_response import DemoResponse
from proxy.tests.virtual_time import run
from proxy.vendor_response import SILENCE, HttpResponse
from proxy.wire.errors import Lost
from proxy.wire.reply import Reply


class Wire:
    """A reply whose pieces are pushed by the test; dropping it fails it, as a connection does."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.aborted_at = 0.0
        self.reply = Reply(cast("Any", self), limit=10**6, loop=self.loop)
        self.reply.begin(200, {})
        self.response = HttpResponse(self.reply)

    def pause(self):
        """Reading never stops here."""

    resume = pause

    def abort(self):
        self.aborted_at = self.loop.time()
        self.reply.fail(Lost("dropped"))

    async def hear(self, times):
        """Return what `times` reads bring, and when; the last may be the error's timeout."""
        heard = []
        for _ in range(times):
            try:
                piece = await self.response.piece()
            except UpstreamError as error:
                heard.append((round(self.loop.time() - 1000, 1), error.timeout))
                continue
            heard.append((round(self.loop.time() - 1000, 1), "silence" if piece is SILENCE else piece))
        return heard


def test_it_tells_of_each_silence_and_still_times_out_when_it_should():
    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=9e9, idle_s=50.0, tell_s=15.0)
        assert await wire.hear(4) == [(15.0, "silence"), (30.0, "silence"), (45.0, "silence"), (50.0, "idle")]

    run(story())


def test_a_piece_begins_the_silence_anew():
    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=9e9, idle_s=50.0, tell_s=15.0)
        wire.loop.call_at(1020.0, wire.reply.add, b"x")
        heard = await wire.hear(6)
        assert heard[:3] == [(15.0, "silence"), (20.0, b"x"), (35.0, "silence")]
        assert heard[5] == (70.0, "idle")

    run(story())


def test_it_ends_in_the_total_time_however_often_it_told():
    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=1040.0, idle_s=50.0, tell_s=15.0)
        assert await wire.hear(3) == [(15.0, "silence"), (30.0, "silence"), (40.0, "total")]

    run(story())


def test_the_idle_timeout_comes_first_where_it_is_shorter():
    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=9e9, idle_s=10.0, tell_s=15.0)
        assert await wire.hear(1) == [(10.0, "idle")]

    run(story())


def test_a_client_that_takes_its_time_over_a_comment_is_not_the_vendors_silence():
    """The comment goes out slowly, for longer than the idle timeout; the vendor has gone on meanwhile."""

    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=9e9, idle_s=50.0, tell_s=15.0)
        assert await wire.hear(1) == [(15.0, "silence")]
        wire.loop.call_at(1020.0, wire.reply.add, b"x")
        await asyncio.sleep(100)
        assert wire.aborted_at == 0.0
        assert await wire.hear(1) == [(115.0, b"x")]
        heard = await wire.hear(4)
        assert heard[-1] == (165.0, "idle")

    run(story())


def test_what_was_silent_before_a_slow_comment_still_counts():
    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=9e9, idle_s=50.0, tell_s=15.0)
        assert await wire.hear(1) == [(15.0, "silence")]
        await asyncio.sleep(100)
        heard = await wire.hear(3)
        assert heard[-1] == (150.0, "idle")  # 15 seconds before, 35 after

    run(story())


def test_a_nudge_that_comes_with_a_piece_is_forgotten():
    async def story():
        wire = Wire()
        wire.response.watch(name="total", at=9e9, idle_s=50.0, tell_s=15.0)

        def both():
            wire.reply.nudge()
            wire.reply.add(b"x")

        wire.loop.call_at(1005.0, both)
        assert await wire.hear(2) == [(5.0, b"x"), (20.0, "silence")]

    run(story())


def test_a_nudge_does_not_end_what_is_read_whole():
    async def story():
        wire = Wire()

        def pushed():
            wire.reply.nudge()
            wire.loop.call_later(1.0, wire.reply.add, b"x")
            wire.loop.call_later(2.0, wire.reply.end)

        wire.loop.call_at(1001.0, pushed)
        assert await wire.response.read() == b"x"

    run(story())


@pytest.mark.parametrize(
    ("idle_s", "heard"),
    [
        (50.0, [(15.0, "silence"), (30.0, "silence"), (40.0, b"x")]),
        (35.0, [(15.0, "silence"), (30.0, "silence"), (35.0, "idle")]),
        (10.0, [(10.0, "idle")]),
    ],
)
def test_the_demo_is_silent_in_the_same_way(idle_s, heard):
    async def story():
        wire = Wire()
        reply = demo.DemoReply(200, "text/event-stream", iter([(40.0, b"x")]))
        wire.response = cast("Any", DemoResponse(reply))
        wire.response.watch(name="total", at=9e9, idle_s=idle_s, tell_s=15.0)
        assert await wire.hear(len(heard)) == heard

    run(story())
