"""Waits for a stream that a task of its own opens, with a word to the client now and then."""

import asyncio
from typing import Any, Self

from providers.errors import UpstreamError
from proxy.attempt import OpenStream
from proxy.continuation import Continuation
from proxy.renderers import KEEP_ALIVE


async def ended_or_due(task: "asyncio.Task[Any]", seconds: float) -> bool:
    """Wait until the task has ended or the time is up, and say whether it has ended.

    What asyncio.wait does, for one task, at a third of its cost.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiting.done():
            waiting.set_result(None)

    timer = loop.call_later(seconds, wake)
    task.add_done_callback(wake)
    try:
        await waiting
    finally:
        timer.cancel()
        task.remove_done_callback(wake)
    return task.done()


def give_up(opening: "asyncio.Task[OpenStream] | asyncio.Task[OpenStream | None]") -> None:
    """Cancel an opening that nobody waits for any more, or close what it has opened."""
    if not opening.cancel() and not opening.cancelled() and opening.exception() is None:
        stream = opening.result()
        if stream is not None:
            stream.leave()


class GoingOn:
    """The way from a stream that has broken off to the one that goes on. Left unfinished it is given up."""

    def __init__(self, broken: OpenStream, error: UpstreamError, continuation: Continuation | None) -> None:
        """Hang up, and ask. Raises `error` where nobody may go on."""
        broken.hang_up(error)
        if continuation is None:
            raise error
        self._error = error
        self._keep_alive_s = continuation.keep_alive_s
        self._opening: asyncio.Task[OpenStream | None] | None
        self._opening = asyncio.create_task(continuation.resume(broken, error))

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End, whether or not anything has come of it."""
        if self._opening is not None:
            give_up(self._opening)

    async def comment(self) -> bytes:
        """Return what the client gets meanwhile, each time that it is due; nothing at the end."""
        assert self._opening is not None
        return b"" if await ended_or_due(self._opening, self._keep_alive_s) else KEEP_ALIVE

    def stream(self) -> OpenStream:
        """Return the stream that goes on. Raises the error that there was if there is none."""
        assert self._opening is not None
        opening, self._opening = self._opening, None
        stream = opening.result()
        if stream is None:
            raise self._error
        return stream
