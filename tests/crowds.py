"""Crowds: many requests at the same moment, each with its own fate, and what became of them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Wish:
    """One request. `leaves_after_s`: its client does not wait for longer than that."""

    body: Mapping[str, Any]
    request_id: str
    leaves_after_s: float | None = None
    begins_after_s: float = 0.0


@dataclass
class Crowd:
    """How all of them ended: their answers by request id, and those that have none."""

    answers: dict[str, httpx.Response] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    @property
    def statuses(self) -> Counter[int]:
        """Return how often each status was answered."""
        return Counter(each.status_code for each in self.answers.values())

    def with_status(self, status: int) -> list[httpx.Response]:
        """Return the answers of one status."""
        return [each for each in self.answers.values() if each.status_code == status]

    def codes(self, status: int) -> Counter[str]:
        """Return the error codes of one status."""
        return Counter(each.json()["error"]["code"] for each in self.with_status(status))


def ask_all(
    url: str, headers: Mapping[str, str], wishes: Sequence[Wish], *, until: int | None = None
) -> Crowd:
    """Send all of them at once, each on a connection of its own, and wait for every end.

    `until`: wait for so many answers alone; then all others leave.
    """
    crowd = Crowd()
    asyncio.run(_ask_all(url, headers, wishes, crowd=crowd, until=until))
    return crowd


async def _ask_all(
    url: str, headers: Mapping[str, str], wishes: Sequence[Wish], *, crowd: Crowd, until: int | None
) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=120) as client:
        asked = {asyncio.create_task(_ask(client, wish, crowd)): wish for wish in wishes}
        for ended in asyncio.as_completed(asked):
            await ended
            if len(crowd.answers) == until:
                break
        for task, wish in asked.items():
            if task.cancel():
                crowd.left.add(wish.request_id)
        await asyncio.wait(asked)


async def _ask(client: httpx.AsyncClient, wish: Wish, crowd: Crowd) -> None:
    await asyncio.sleep(wish.begins_after_s)
    headers = {"x-request-id": wish.request_id}
    try:
        async with asyncio.timeout(wish.leaves_after_s):
            answer = await client.post(CHAT, json=dict(wish.body), headers=headers)
    except TimeoutError:
        crowd.left.add(wish.request_id)
    except httpx.TransportError:
        crowd.broken.add(wish.request_id)
    else:
        crowd.answers[wish.request_id] = answer


def wishes(count: int, make: Callable[[int], Mapping[str, Any]], *, name: str = "crowd") -> list[Wish]:
    """Return as many plain ones, by `make` of their numbers."""
    return [Wish(make(number), f"{name}-{number}") for number in range(count)]
