"""Clients that forgive a server nothing: every answer whole, no connection cut.

Unlike those of traffic.py, `steady` ones heed `Connection: close` and count every reset.
"""

import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway import Gateway
from tests.rawhttp import RawConnection, Reply
from tests.records import rows
from tests.servers import eventually
from tests.traffic import PAUSE_S, clients_running
from tests.upstream import TEAM_KEY, bearer, chat

CHAT = "/v1/chat/completions"
_loads = itertools.count(1)


@dataclass
class Client:
    """One request in a thread: what it has received so far, and how it ended."""

    gateway: Gateway
    model: str
    text: str = "Hello"
    stream: bool = True
    lines: list[str] = field(default_factory=list)
    status: int = 0
    broke_off: bool = False

    def start(self, request_id: str) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(request_id,), daemon=True)
        thread.start()
        return thread

    def _run(self, request_id: str) -> None:
        body = chat(self.model, self.text, stream=self.stream)
        headers = {**bearer(TEAM_KEY), "x-request-id": request_id}
        url = f"{self.gateway.url}{CHAT}"
        try:
            with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as response:
                self.status = response.status_code
                for line in response.iter_lines():
                    self.lines.append(line)
        except httpx.TransportError:
            self.broke_off = True


@dataclass
class Steady:
    """What the clients were answered so far. `troubles` says how a connection failed one of them."""

    gateway: Gateway
    model: str
    answered: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    closes: int = 0
    refused: int = 0
    troubles: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    name: str = field(default_factory=lambda: f"steady-{next(_loads)}")  # begins the ids of its requests
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask_for_ever(self) -> None:
        """Ask on one connection until it is said to close, then on the next; end when none can be had."""
        kept: RawConnection | None = None
        while not self.stopping.wait(PAUSE_S):
            try:
                kept = kept or RawConnection(self.gateway)
            except ConnectionRefusedError:
                self.refused += 1
                return
            request_id = f"{self.name}-{next(self.numbers)}"
            try:
                reply = self._ask(kept, request_id)
            except (OSError, ValueError) as problem:
                self.troubles.append(f"{request_id}: {problem!r}")
                kept.close()
                kept = None
                continue
            self.statuses[reply.status] += 1
            if reply.headers.get("connection") == "close":
                self.closes += 1
                kept.close()
                kept = None
        if kept is not None:
            kept.close()

    def go_on(self, more: int = 50) -> None:
        """Wait for as many more answers."""
        wanted = len(self.answered) + more
        within_s = 60 + more / 10
        eventually(lambda: len(self.answered) >= wanted, within_s=within_s, what=f"{more} more answers")

    def _ask(self, kept: RawConnection, request_id: str) -> Reply:
        stream = request_id.endswith(("0", "3", "6"))
        body = json.dumps(chat(self.model, stream=stream)).encode()
        reply = kept.ask("POST", CHAT, {**bearer(TEAM_KEY), "x-request-id": request_id}, body)
        if reply.status == 200:
            whole = reply.body.endswith(b"data: [DONE]\n\n") if stream else bool(reply.json()["choices"])
            if not whole:
                raise ValueError(f"half an answer: {reply.body[-200:]!r}")
            self.answered.add(request_id)
        return reply


@contextlib.contextmanager
def steady(gateway: Gateway, model: str, *, clients: int = 6) -> Iterator[Steady]:
    """Run clients, each on a connection of its own, for the length of the block."""
    running = Steady(gateway, model)
    with clients_running(running.ask_for_ever, running.stopping, clients):
        yield running


def assert_booked_once(gateway: Gateway, running: Steady) -> None:
    """Each answer is in the log and in the ledger, once."""

    def logged_rows() -> list[dict[str, Any]]:
        return rows(
            gateway, "SELECT * FROM analytics_requestlog WHERE request_id LIKE ?", f"{running.name}-%"
        )

    eventually(
        lambda: running.answered <= {row["request_id"] for row in logged_rows()},
        within_s=60,
        what=f"the rows of {len(running.answered)} answers",
    )
    found = logged_rows()
    assert Counter(row["request_id"] for row in found) == Counter(running.answered)
    assert {row["outcome"] for row in found} == {"ok"}
    spent = rows(gateway, "SELECT completion_id FROM keys_ledgerentry")
    booked = Counter(row["completion_id"] for row in spent)
    assert {booked[row["completion_id"]] for row in found} == {1}
