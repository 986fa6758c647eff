"""An event loop whose clock jumps to the next timer: tests of waits that last no time at all."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class _Jumping:
    """A selector that never blocks: it moves the loop's clock on by what it was to wait."""

    def __init__(self, loop: "VirtualLoop", selector: Any) -> None:
        self._loop, self._selector = loop, selector

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everything waits, and no timer is set")
        self._loop.now += timeout
        return self._selector.select(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 1000 s. `now` may be moved on between two steps, as a busy process does."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()
        self._selector: Any = _Jumping(self, self._selector)

    def time(self) -> float:
        return self.now


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story)
