"""The only retry loop: which upstream is tried next, and when it is given up.

One attempt has a closed list of outcomes: an answer (or a stream's first content), an UpstreamError
whose attributes decide, a vendor that cannot be asked this (Inexpressible: not an attempt), or the
client's departure (CancelledError), which is nobody's failure.
Targets are tried in order; after the last one the round begins again, after a backoff with full
jitter, with those that may do better a second time: neither the silent (a timeout fired) nor those
that refused our credential. Nothing here knows a vendor.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from providers.errors import Owner, UpstreamError
from providers.upstream import Upstream
from proxy.errors import Inexpressible

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
    """Return the first success. Raises the last UpstreamError, or the first Inexpressible if there is none.

    `deadline` is loop time: no attempt and no pause starts that would pass it.
    """
    waiting = candidates
    again: list[Upstream] = []
    attempts = rounds = 0
    problem: UpstreamError | Inexpressible | None = None
    while True:
        upstream, waiting = waiting[0], waiting[1:]
        try:
            return await attempt(upstream)
        except Inexpressible as refusal:
            problem = problem or refusal
        except UpstreamError as error:
            problem, attempts = error, attempts + 1
            if not error.retryable or attempts >= max_attempts:
                raise
            if not (_silent(error) or error.owner is Owner.CREDENTIAL):
                again.append(upstream)
        pause_s = 0.0  # the next target has done nothing wrong
        if not waiting:
            waiting, again, rounds = again, [], rounds + 1
            pause_s = _pause_s(problem, rounds)
        if not waiting or asyncio.get_running_loop().time() + pause_s >= deadline:
            raise problem
        if pause_s:
            await asyncio.sleep(pause_s)


def _silent(error: UpstreamError) -> bool:
    return bool(error.timeout) or error.status == 408


def _pause_s(problem: UpstreamError | Inexpressible, rounds: int) -> float:
    if problem.retry_after_s is not None:
        return problem.retry_after_s
    return random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**rounds))  # noqa: S311 - jitter
