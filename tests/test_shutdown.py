"""SIGTERM on a gateway that is at work: streams end whole within the grace period, and all is booked."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.gateway import Gateway, running_gateway
from tests.rawhttp import connection, errors_in
from tests.records import logged
from tests.servers import eventually
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, data_lines, unique, wired

CHAT = "/v1/chat/completions"


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


def test_it_drains_streams_and_answers(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "20s"}, files=wired(vendor)) as gateway:
        slow = unique("synthetic~first=1500")
        clients = {
            "stream": Client(gateway, "demo/lorem", "25 words 100ms"),
            "late": Client(gateway, f"replay/{unique('synthetic~tokens=10~first=1500~delay=50')}"),
            "answer": Client(gateway, f"replay/{slow}", stream=False),
        }
        threads = [client.start(name) for name, client in clients.items()]
        eventually(
            lambda: len(clients["stream"].lines) > 4 and vendor.asked(slow), what="requests that are running"
        )
        # Connections that nobody uses hold nothing up.
        with connection(gateway) as idle:
            assert idle.ask("GET", "/ready", {}).status == 200
            assert gateway.stop(with_signal=signal.SIGTERM, within_s=30) == 0
        for thread in threads:
            thread.join(10)
        assert [client.broke_off for client in clients.values()] == [False] * 3
        assert [client.status for client in clients.values()] == [200] * 3
        assert data_lines(clients["stream"].lines)[-1] == "[DONE]"
        assert data_lines(clients["late"].lines)[-1] == "[DONE]"
        # The shipper ended last: all is in the books, and nothing is left in the spool.
        assert [logged(gateway, name)["outcome"] for name in clients] == ["ok"] * 3
        assert list((gateway.data_dir / "spool").glob("*-*.seg")) == []
        assert list((gateway.data_dir / "spool").glob("*.open")) == []
        assert errors_in(gateway.log()) == []


def test_it_ends_what_outlasts_the_grace_period_and_says_so(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "1s"}, files=wired(vendor)) as gateway:
        model = unique("synthetic~tokens=500~delay=100")
        endless = Client(gateway, f"replay/{model}")
        thread = endless.start("endless")
        eventually(lambda: len(endless.lines) > 4, what="the stream")
        assert gateway.stop(within_s=20) == 0
        thread.join(10)
        assert "[DONE]" not in data_lines(endless.lines), "a half answer that looks whole"
        vendor.wait_for_outcome(model, "client-gone")
        row = logged(gateway, "endless")
        assert row["outcome"] in {"cancelled", "error", "interrupted"}
        assert row["completion_tokens"] > 0


def test_a_second_signal_ends_it_at_once(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "60s"}, files=wired(vendor)) as gateway:
        endless = Client(gateway, f"replay/{unique('synthetic~tokens=500~delay=100')}")
        thread = endless.start("impatient")
        eventually(lambda: len(endless.lines) > 4, what="the stream")
        gateway.process.popen.send_signal(signal.SIGTERM)
        eventually(refusing(gateway), what="the drain")
        eventually(lambda: stopped(gateway), what="the end", within_s=15)
        thread.join(10)
        assert "[DONE]" not in data_lines(endless.lines)
        assert logged(gateway, "impatient")["outcome"] == "interrupted"


def refusing(gateway: Gateway) -> Callable[[], bool]:
    def refuses() -> bool:
        try:
            httpx.get(f"{gateway.url}/ready", timeout=1)
        except httpx.ConnectError:
            return True
        except httpx.HTTPError:
            return False
        return False

    return refuses


def stopped(gateway: Gateway) -> bool:
    """Ask again until it has ended: what comes within a second of the first signal is the same wish."""
    if gateway.process.alive:
        gateway.process.popen.send_signal(signal.SIGTERM)
    return not gateway.process.alive
