"""Hundreds of clients leave a served gateway at random points: nothing is left behind, and each is recorded.

Left behind would be sockets of the gateway's process, connections to the vendor, requests that count as in
flight, lines of the spool without an end. All is counted before and after; the vendor tells how its answers
ended. What goes on inside, tasks too, is proxy/tests/test_departures.py's.
GATEWAY_SOAK=1 runs it at full size.
"""

import asyncio
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import eventually
from tests.sizes import at_full_size, sized
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, fake_vendor, wired

PATHS = ("/v1/chat/completions", "/v1/messages")
EACH = sized("clients that leave, of each scene and path", 20, full=60)
AT_RANDOM_S = 0.4
CONTENT = (b'"content":"', b'"text_delta"')
CONNECTED = frozenset({"01", "08"})  # /proc/net/tcp: established, closed by the other side

pytestmark = at_full_size(180)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the vendor does, and when the client leaves. No answer of these would end by itself in time.

    `reads`: it has had some content by then. `asks_on`: the vendor has refused, and the gateway waits to ask
    again. `at_once`: it does not wait until the vendor has been asked.
    """

    name: str
    model: str
    stream: bool
    reads: bool = False
    asks_on: bool = False
    at_once: bool = False


SCENES = (
    Scene("at-once", "synthetic~first=90000", stream=True, at_once=True),
    Scene("before-the-head", "synthetic~first=90000", stream=True),
    Scene("before-content", "synthetic~ttfb=90000", stream=True),
    Scene("mid-stream", "synthetic~tokens=2000~delay=100", stream=True, reads=True),
    Scene("json", "synthetic~first=90000", stream=False),
    Scene("json-mid-body", "synthetic~hang=body:100", stream=False),
    Scene("between-attempts", "synthetic~fail=999x429~retry_after=90~close=1", stream=True, asks_on=True),
    Scene(
        "json-between-attempts", "synthetic~fail=999x429~retry_after=90~close=1", stream=False, asks_on=True
    ),
)


@dataclass
class Leaver:
    """One client: `leaves_by` says how it closes, after a time or a number of reads of its own."""

    scene: Scene
    path: str
    number: int
    rng: random.Random
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        return f"{self.scene.name}-{self.path.rsplit('/', 1)[-1]}-{self.number}"

    async def run(self, gateway: Gateway) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(self._request())
        await writer.drain()
        if self.scene.reads:
            await self._read_some(reader)
        elif not self.scene.at_once:
            async with asyncio.timeout(60):
                await self.asked.wait()
            await asyncio.sleep(self.rng.uniform(0, AT_RANDOM_S))
        if self.rng.random() < 0.5:
            writer.transport.abort()
        writer.close()

    async def _read_some(self, reader: asyncio.StreamReader) -> None:
        seen = b""
        async with asyncio.timeout(60):
            while not any(mark in seen for mark in CONTENT):
                seen += await reader.read(4096)
            for _ in range(self.rng.randrange(8)):
                await reader.read(4096)

    def _request(self) -> bytes:
        model = f"replay/{self.scene.model}~tag={self.id}"
        body = json.dumps(chat(model, stream=self.scene.stream, max_tokens=100_000)).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {TEAM_KEY}\r\n"
            f"content-type: application/json\r\nx-request-id: {self.id}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Held:
    """What the gateway's process holds: connections of clients, connections to the vendor, other sockets."""

    from_clients: int
    to_vendor: int
    others: int


@dataclass(frozen=True)
class Departed:
    """All that is known when everybody has left and the gateway has ended."""

    before: Held
    after: Held
    leavers: Sequence[Leaver]
    asked: Mapping[str, Sequence[Mapping[str, Any]]]
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    exit_status: int
    spooled: Sequence[str]

    def of(self, scene: Scene) -> Iterator[Leaver]:
        return (leaver for leaver in self.leavers if leaver.scene is scene)


@pytest.fixture(scope="module")
def departed() -> Departed:
    with (
        fake_vendor() as vendor,
        running_gateway({**QUIET, "LOG_LEVEL": "warning"}, files=wired(vendor)) as gateway,
    ):
        rng = random.Random(4)
        leavers = [
            Leaver(scene, path, number, random.Random(rng.random()))
            for scene in SCENES
            for path in PATHS
            for number in range(EACH)
        ]
        rng.shuffle(leavers)
        warm_up(gateway)
        eventually(lambda: held(gateway, vendor).from_clients == 0, what="the end of the first connections")
        before = held(gateway, vendor)
        asyncio.run(all_leave(leavers, gateway, vendor))
        eventually(lambda: still_open(vendor) == 0, what="the end of all the vendor's answers")
        eventually(lambda: in_flight(gateway) == 0, what="the end of all requests")
        eventually(lambda: held(gateway, vendor) == before, what=f"the end of what was not there: {before}")
        after = held(gateway, vendor)
        exit_status, spool = gateway.stop(), gateway.data_dir / "spool"
        return Departed(
            before,
            after,
            leavers,
            asked=by(vendor.everything(), tag_of),
            records=by(rows(gateway, "SELECT * FROM analytics_requestlog"), lambda row: row["request_id"]),
            exit_status=exit_status,
            spooled=[each.name for each in spool.iterdir() if each.suffix in {".open", ".seg"}],
        )


def by(found: Sequence[Mapping[str, Any]], name: Any) -> Mapping[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for each in found:
        grouped[name(each)].append(each)
    return grouped


def warm_up(gateway: Gateway) -> None:
    """Have everything opened that stays open; of vendors' connections none does."""
    for path in PATHS:
        for stream in (False, True):
            body = chat("replay/synthetic~close=1", stream=stream, max_tokens=100)
            assert httpx.post(f"{gateway.url}{path}", json=body, headers=bearer(TEAM_KEY)).status_code == 200


async def all_leave(leavers: Sequence[Leaver], gateway: Gateway, vendor: FakeVendor) -> None:
    waiting = {leaver.id: leaver.asked for leaver in leavers}
    telling = asyncio.create_task(tell_of_arrivals(vendor, waiting))
    await asyncio.gather(*(leaver.run(gateway) for leaver in leavers))
    telling.cancel()


async def tell_of_arrivals(vendor: FakeVendor, waiting: Mapping[str, asyncio.Event]) -> None:
    """Set the event of each request that the vendor has; it can only be asked."""
    seen = 0
    while True:
        entries = vendor.everything()[seen:]
        seen += len(entries)
        for entry in entries:
            if (tag := tag_of(entry)) in waiting:
                waiting[tag].set()
        await asyncio.sleep(0.02)


def tag_of(entry: Mapping[str, Any]) -> str:
    """Return which request the vendor's log tells of. Its options are filled in later than its body."""
    body = entry["body"]
    return str(body["model"]).partition("~tag=")[2] if isinstance(body, dict) else ""


# ---------------------------------------------------------------- counting


def held(gateway: Gateway, vendor: FakeVendor) -> Held:
    (web,) = gateway.children("web")
    links = [target_of(link) for link in Path(f"/proc/{web}/fd").iterdir()]
    sockets = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    from_clients, to_vendor = connections(here=gateway.port), connections(there=port_of(vendor))
    return Held(
        len(sockets & from_clients), len(sockets & to_vendor), len(sockets - from_clients - to_vendor)
    )


def target_of(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""


def connections(*, here: int = 0, there: int = 0) -> set[str]:
    """Return the inodes of this machine's connections at a port, here or there; half-closed ones too."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        ports = (int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16))
        if (here in ports[:1] or there in ports[1:]) and state in CONNECTED:
            found.add(inode)
    return found


def port_of(vendor: FakeVendor) -> int:
    return int(vendor.url.rpartition(":")[2])


def in_flight(gateway: Gateway) -> float:
    text = httpx.get(f"{gateway.url}/metrics", timeout=30).text
    sample = re.search(r"^gateway_in_flight (\S+)$", text, re.MULTILINE)
    assert sample is not None
    return float(sample[1])


def still_open(vendor: FakeVendor) -> int:
    open_now: int = httpx.get(f"{vendor.url}/__replay/health").json()["open_now"]
    return open_now


# ---------------------------------------------------------------- what is promised

each_scene = pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])


def test_it_keeps_no_socket_and_no_upstream_connection_of_those_who_left(departed: Departed) -> None:
    assert departed.after == departed.before
    assert (departed.after.from_clients, departed.after.to_vendor) == (0, 0)


@each_scene
def test_it_leaves_the_vendor_before_its_answer_would_have_ended(departed: Departed, scene: Scene) -> None:
    for leaver in departed.of(scene):
        asked = departed.asked[leaver.id]
        assert len(asked) == 1 or (scene.at_once and not asked), leaver.id
        for entry in asked:
            assert "client-gone" in entry["outcome"] or scene.asks_on, leaver.id


@each_scene
def test_it_records_each_departure_once(departed: Departed, scene: Scene) -> None:
    for leaver in departed.of(scene):
        records = departed.records[leaver.id]
        # Who leaves at once may be gone before the request is read: nobody was asked, nothing is booked.
        assert len(records) == 1 or (scene.at_once and not records and not departed.asked[leaver.id]), (
            leaver.id
        )
        for record in records:
            ended = (record["outcome"], record["status"], record["error_code"])
            assert ended == ("cancelled", 499, "client_left"), leaver.id


@each_scene
def test_it_estimates_what_was_produced_for_those_who_left(departed: Departed, scene: Scene) -> None:
    for leaver in departed.of(scene):
        for record in departed.records[leaver.id]:
            last = json.loads(record["attempts"])[-1:]
            if scene.asks_on and last[0]["outcome"] != "cancelled":  # the refusal had come
                assert record["completion_tokens"] is None, leaver.id
                continue
            if not departed.asked[leaver.id]:  # it left while the connection was made, or before
                assert not record["completion_tokens"], leaver.id
                continue
            assert record["usage_estimated"], leaver.id
            assert record["prompt_tokens"] > 0, leaver.id
            assert (record["completion_tokens"] > 0) == scene.reads, leaver.id


def test_it_ends_in_order_after_all_that(departed: Departed) -> None:
    assert departed.exit_status == 0
    assert departed.spooled == []
    outcomes = {record["outcome"] for records in departed.records.values() for record in records}
    assert outcomes == {"ok", "cancelled"}
