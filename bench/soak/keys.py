"""100,000 keys: a changed one is in force within a second, and no request waits for it.

One key is changed by another process, one in the admin of the very process that serves, all keys
are changed by one UPDATE; each several times, while light traffic runs. The delay of a change is the
largest of any request that was under way; it is held against the largest in windows of the same
length without changes, by the medians of both, so that a busy machine does not speak for the gateway.
"""

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import uvloop

from bench import processes
from bench.processes import CannotMeasure, Server
from bench.rows import SECRET
from bench.soak.changes import ADMIN, PASSWORD, name_of, secret_of
from bench.soak.probe import Probe, between, largest_ms, middle_ms, until
from bench.table import Row

PER_S = 200.0
WARM_S, AFTER_S = 3.0, 1.5
BASELINE_WINDOW_S = 2.0  # about what a change and the time after it take
KEPT_WITHIN_S = 13.0  # the snapshot is written to disk ten seconds after the last time
MANY = 1_000  # with fewer keys nothing is measured: they show that this works
FEW_WAIT = 0.2  # of those times
IN_FORCE_S, DELAY_MS = 1.0, 20.0
_FIELD = re.compile(r"<(input|textarea|select)\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r'([a-z_-]+)="([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Change:
    """One measured change: seconds until it was in force, the largest delay of a request meanwhile."""

    in_force_s: float
    largest_ms: float


def run(home: Path, upstream_url: str, tell: Callable[[Row], None], *, keys: int, repeats: int) -> None:
    """Make the keys, serve, change, and tell the figures."""
    prepared = processes.prepare(home, upstream_url)
    env = processes.environment(prepared)
    began = time.monotonic()
    processes.run("make keys", [sys.executable, "-m", "bench.soak.changes", "make", str(keys)], env=env)
    made_s = time.monotonic() - began
    with processes.gateway(home, prepared, name="keys") as server:
        tell(
            Row(
                what=f"start with {keys:,} keys",
                reference=f"made in {made_s:.1f} s",
                measured=f"{server.started_s:.1f} s, {server.rss_mb():.0f} MB",
                figures={"start_s": server.started_s, "rss_mb": server.rss_mb(), "keys": keys},
            )
        )
        story = _Story(server, tell, keys=keys, repeats=repeats)
        try:
            uvloop.run(story.run())
        except CannotMeasure as problem:
            log = [line for line in server.process.output.splitlines() if '"event":"request"' not in line]
            raise CannotMeasure("\n".join([f"{problem}; the gateway's log ends with", *log[-10:]])) from None
        tell(Row(what="memory after all changes", measured=f"{server.rss_mb():.0f} MB"))


class _Story:
    """The changes, one after the other, under traffic from first to last."""

    def __init__(self, server: Server, tell: Callable[[Row], None], *, keys: int, repeats: int) -> None:
        self._server = server
        self._tell = tell
        self._repeats = repeats
        self._many = keys >= MANY
        self._times = 1.0 if self._many else FEW_WAIT
        self._watched = keys // 2
        # The first secret's key never changes: its requests show the delays. The second's does.
        self._probe = Probe(server.port, [SECRET, secret_of(self._watched)], per_s=PER_S)
        self._largest_ms = 0.0

    async def run(self) -> None:
        traffic = asyncio.create_task(self._probe.run())
        try:
            async with _changer(self._server.data_dir) as ask, _admin(self._server.url) as admin:
                self._tell(await self._baseline())
                await self._changes(ask, admin)
                if self._many:
                    self._tell(await self._kept(ask))
        finally:
            traffic.cancel()
        refused = [each.status for each in self._probe.seen[0] if each.status != 200]
        if refused:
            raise CannotMeasure(f"{len(refused)} requests of a key that never changed failed: {refused[:5]}")

    async def _baseline(self) -> Row:
        await asyncio.sleep(WARM_S * self._times)
        first, largest = time.monotonic(), list[float]()
        for _ in range(max(self._repeats, 3)):
            begin = time.monotonic()
            await asyncio.sleep(BASELINE_WINDOW_S * self._times)
            largest.append(largest_ms(between(self._probe.seen[0], begin, time.monotonic())))
        usual_ms = middle_ms(between(self._probe.seen[0], first, time.monotonic()))
        self._largest_ms = median(largest)
        return Row(
            what="without changes",
            measured=f"p50 {usual_ms:.1f} ms, {self._usually()}",
            figures={"p50_ms": usual_ms, "largest_ms": largest},
        )

    def _usually(self) -> str:
        return f"largest {self._largest_ms:.1f} ms"

    async def _changes(self, ask: "_Ask", admin: httpx.AsyncClient) -> None:
        name = name_of(self._watched)
        key_id = (await ask(f"id {name}"))["rows"]

        async def one(word: str) -> float:
            return float((await ask(f"one {name} {word}"))["committed"])

        async def every(word: str) -> float:
            return float((await ask(f"all {word}"))["committed"])

        page = f"/admin/keys/apikey/{key_id}/change/"
        fields = _filled((await admin.get(page)).text)

        async def form(word: str) -> float:
            await _submit(admin, page, fields, enabled=word == "on")
            return time.monotonic()

        self._tell(await self._several("one key, changed by another process", one))
        self._tell(await self._several("one key, changed in the admin", form))
        self._tell(await self._several("all keys, changed by one UPDATE", every))

    async def _several(self, what: str, change: Callable[[str], Awaitable[float]]) -> Row:
        changes = [
            await self._one(what, change, enabled=bool(number % 2)) for number in range(2 * self._repeats)
        ]
        in_force_s = max(each.in_force_s for each in changes)
        delay_ms = median(each.largest_ms for each in changes) - self._largest_ms
        return Row(
            what=what,
            reference=self._usually(),
            measured=f"{in_force_s:.2f} s, {delay_ms:+.1f} ms",
            target="< 1 s, +20 ms",
            met=in_force_s < IN_FORCE_S and delay_ms < DELAY_MS,
            figures={
                "in_force_s": in_force_s,
                "delay_ms": delay_ms,
                "each": [_figures(each) for each in changes],
            },
        )

    async def _one(self, what: str, change: Callable[[str], Awaitable[float]], *, enabled: bool) -> Change:
        wanted = 200 if enabled else 401
        seen = self._probe.seen[1]
        start, begin = len(seen), time.monotonic()
        committed = await change("on" if enabled else "off")
        await until(lambda: any(each.status == wanted for each in seen[start:]), within_s=30, what=what)
        in_force_at = min(each.sent for each in seen[start:] if each.status == wanted)
        await asyncio.sleep(AFTER_S * self._times)
        during = between(self._probe.seen[0], begin, time.monotonic())
        return Change(max(in_force_at - committed, 0.0), largest_ms(during))

    async def _kept(self, ask: "_Ask") -> Row:
        """The snapshot is written to disk some time after a change: nobody may wait for that either."""
        await ask(f"one {name_of(1)} off")
        begin = time.monotonic()
        await asyncio.sleep(KEPT_WITHIN_S)
        during = between(self._probe.seen[0], begin, time.monotonic())
        delay_ms = largest_ms(during) - self._largest_ms
        return Row(
            what="the snapshot is kept on disk",
            reference=self._usually(),
            measured=f"{delay_ms:+.1f} ms",
            target="+20 ms",
            met=delay_ms < DELAY_MS,
            figures={"delay_ms": delay_ms},
        )


_Ask = Callable[[str], Awaitable[dict[str, Any]]]


@contextlib.asynccontextmanager
async def _changer(data_dir: Path) -> AsyncIterator[_Ask]:
    """Start the process that changes rows; what is yielded sends it a command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.soak.changes", "listen"),
        cwd=processes.CHECKOUT,
        env=processes.environment(data_dir),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    commands, answers = process.stdin, process.stdout

    async def ask(command: str = "") -> dict[str, Any]:
        if command:
            commands.write(command.encode() + b"\n")
            await commands.drain()
        while True:
            line = await answers.readline()
            if not line:
                raise CannotMeasure("the process that changes rows ended")
            answer = json.loads(line)
            if "ready" in answer or "began" in answer:  # anything else is its log
                return answer  # type: ignore[no-any-return]  # JSON

    try:
        await ask()
        yield ask
    finally:
        commands.close()
        await process.wait()


@contextlib.asynccontextmanager
async def _admin(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Sign in as an administrator."""
    async with httpx.AsyncClient(base_url=url, follow_redirects=True, timeout=60) as client:
        await client.get("/accounts/login/")
        answer = await client.post(
            "/accounts/login/",
            data={
                "username": ADMIN,
                "password": PASSWORD,
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
                "next": "/health",
            },
        )
        if "sessionid" not in client.cookies:
            raise CannotMeasure(f"signing in to the admin failed: {answer.status_code}")
        yield client


async def _submit(client: httpx.AsyncClient, path: str, fields: Mapping[str, str], *, enabled: bool) -> None:
    """Save a change form with another value of its check box, as a browser does."""
    sent = {name: value for name, value in fields.items() if name != "enabled"}
    sent |= {"csrfmiddlewaretoken": client.cookies["csrftoken"], "_continue": "1"}
    if enabled:
        sent["enabled"] = "on"
    answer = await client.post(path, data=sent, follow_redirects=False)
    if answer.status_code != 302:
        raise CannotMeasure(f"saving in the admin failed with {answer.status_code}")


def _filled(page: str) -> dict[str, str]:
    """Return what a browser would send of the form as it is."""
    fields: dict[str, str] = {}
    for tag in _FIELD.finditer(page):
        attributes = dict(_ATTRIBUTE.findall(tag[0]))
        name, kind = attributes.get("name", ""), attributes.get("type", "")
        if not name or kind in {"submit", "button"} or (kind == "checkbox" and "checked" not in tag[0]):
            continue
        fields[name] = attributes.get("value", "on" if kind == "checkbox" else "")
        if tag[1].lower() == "textarea":
            fields[name] = page[tag.end() : page.index("</textarea>", tag.end())].strip()
        elif tag[1].lower() == "select":
            options = page[tag.end() : page.index("</select>", tag.end())]
            chosen = re.search(r'<option[^>]*value="([^"]*)"[^>]*selected', options)
            fields[name] = chosen[1] if chosen else ""
    return fields


def _figures(change: Change) -> dict[str, float]:
    return {"in_force_s": round(change.in_force_s, 4), "largest_ms": round(change.largest_ms, 3)}
