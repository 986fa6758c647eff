"""Clients that never stop asking, and a record of every answer."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway import Gateway
from tests.servers import eventually

# Clients that never pause would measure how fast this process is.
PAUSE_S = 0.01


@dataclass(frozen=True)
class Answered:
    """One answer. `status` 0: none came. Times are monotonic seconds."""

    began: float
    ended: float
    status: int
    provider: str
    request_id: str


@dataclass
class Traffic:
    """What running clients have been answered so far."""

    answers: list[Answered] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def first(self, *, after: float, within_s: float = 20, **facts: Any) -> Answered:
        """Wait for the first answer that has these facts and was asked for after a moment."""

        def found() -> Answered | None:
            return next((each for each in self.since(after) if _has(each, facts)), None)

        answer = eventually(found, within_s=within_s, what=f"an answer with {facts}")
        assert answer is not None
        return answer

    def since(self, moment: float) -> list[Answered]:
        """Return the answers to what was asked after a moment, in the order of asking."""
        later = [each for each in list(self.answers) if each.began >= moment]
        return sorted(later, key=lambda each: each.began)

    def go_on(self, more: int = 50) -> None:
        """Wait for as many more answers."""
        wanted = len(self.answers) + more
        eventually(lambda: len(self.answers) >= wanted, what=f"{more} more answers")

    @property
    def statuses(self) -> Counter[int]:
        """Return how often each status was answered."""
        return Counter(each.status for each in list(self.answers))


def _has(answer: Answered, facts: Mapping[str, Any]) -> bool:
    return all(getattr(answer, name) == value for name, value in facts.items())


@contextlib.contextmanager
def traffic(
    gateway: Gateway, body: Mapping[str, Any], *, headers: Mapping[str, str], clients: int = 4
) -> Iterator[Traffic]:
    """Run clients, each on a connection of its own, for the length of the block."""
    running = Traffic()

    def ask_for_ever() -> None:
        # A connection that a killed process has left is not an answer: the next request opens another.
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            while not running.stopping.wait(PAUSE_S):
                running.answers.append(_ask(client, body))

    with clients_running(ask_for_ever, running.stopping, clients):
        yield running


@contextlib.contextmanager
def clients_running(
    ask_for_ever: Callable[[], None], stopping: threading.Event, clients: int
) -> Iterator[None]:
    """Run `ask_for_ever` in as many threads for the length of the block; `stopping` ends it."""
    threads = [threading.Thread(target=ask_for_ever, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(40)


def _ask(client: httpx.Client, body: Mapping[str, Any]) -> Answered:
    began = time.monotonic()
    try:
        response = client.post("/v1/chat/completions", json=body)
    except httpx.TransportError:
        return Answered(began, time.monotonic(), 0, "", "")
    headers = response.headers
    return Answered(
        began,
        time.monotonic(),
        response.status_code,
        headers.get("x-gateway-provider", ""),
        headers.get("x-request-id", ""),
    )
