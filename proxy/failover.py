"""The only retry loop: which upstream is tried next, and when it is given up.

One attempt has a closed list of outcomes: an answer (or a stream's first content), an UpstreamError
whose attributes decide, or the client's departure (CancelledError), which is nobody's failure.
Targets are tried in order; a quick failure of the last one may go round again after a backoff with
full jitter, a silent one (timeout) is not tried twice. Nothing here knows a vendor.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from providers.errors import Owner, UpstreamError
from providers.upstream import Upstream

Result = TypeVar("Result")
BACKOFF_BASE_S = 0.25
BACKOFF_CAP_S = 8.0


async def run(
    candidates: Sequence[Upstream],
    attempt: Callable[[Upstream], Awaitable[Result]],
    *,
    max_attempts: int,
    deadline: float,
) -> Result:
    """Return the first success. Raises the last UpstreamError.

    `deadline` is loop time: no attempt and no pause starts that would pass it.
    """
    loop = asyncio.get_running_loop()
    silent: set[str] = set()
    place = attempts = 0
    while True:
        upstream = candidates[place % len(candidates)]
        place, attempts = place + 1, attempts + 1
        try:
            return await attempt(upstream)
        except UpstreamError as error:
            if error.timeout:
                silent.add(upstream.id)
            last_round = place >= len(candidates)
            if attempts >= max_attempts or not _goes_on(error, candidates, silent, last_round=last_round):
                raise
            place = _skip_silent(place, candidates, silent)
            pause_s = _pause_s(error, place, len(candidates))
            if loop.time() + pause_s >= deadline:
                raise
            if pause_s:
                await asyncio.sleep(pause_s)


def _goes_on(
    error: UpstreamError, candidates: Sequence[Upstream], silent: set[str], *, last_round: bool
) -> bool:
    if not error.retryable:
        return False
    if last_round and error.owner is Owner.CREDENTIAL:
        return False  # the same credential would be refused again
    return any(upstream.id not in silent for upstream in candidates)


def _skip_silent(place: int, candidates: Sequence[Upstream], silent: set[str]) -> int:
    while candidates[place % len(candidates)].id in silent:
        place += 1
    return place


def _pause_s(error: UpstreamError, place: int, targets: int) -> float:
    if place < targets:
        return 0.0  # the next target has done nothing wrong
    if error.retry_after_s is not None:
        return error.retry_after_s
    return random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** (place - targets)))  # noqa: S311 - jitter
