"""SIGTERM on a gateway that is at work: streams end whole within the grace period, and all is booked."""

import signal
from collections.abc import Callable

import httpx

from tests.gateway import Gateway, running_gateway
from tests.rawhttp import connection, errors_in
from tests.records import logged
from tests.servers import eventually
from tests.sizes import at_full_size, sized, times
from tests.steady import Client, assert_booked_once, steady
from tests.upstream import QUIET, FakeVendor, data_lines, unique, wired

STREAMS = sized("streams that run through a SIGTERM", 10, full=40)

pytestmark = at_full_size(120)


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
        # A connection that nobody uses is kept for some seconds, and not for as long as streams run.
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


@times("SIGTERMs under load", full=15)
def test_it_ends_under_load_and_cuts_nobody_off(vendor: FakeVendor, time: int) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "30s"}, files=wired(vendor)) as gateway:
        streams = [
            Client(gateway, f"replay/{unique('synthetic~tokens=30~delay=100')}") for _ in range(STREAMS)
        ]
        threads = [client.start(f"stream-{number}") for number, client in enumerate(streams)]
        with connection(gateway) as idle, steady(gateway, "replay/synthetic") as running:
            first = idle.ask("GET", "/ready", {})
            assert (first.status, first.headers.get("connection")) == (200, None)
            running.go_on()
            eventually(lambda: all(len(client.lines) > 4 for client in streams), what="streams that run")
            gateway.process.popen.send_signal(signal.SIGTERM)
            eventually(lambda: "web.draining" in gateway.log(), what="the drain")
            last = idle.ask("GET", "/ready", {})
            assert (last.status, last.headers.get("connection")) == (200, "close")
            # Each client was told on its connection, tried another, and was refused.
            eventually(lambda: running.refused == 6, what="the refusal of new connections")
            assert gateway.process.alive, "streams are running"
            assert gateway.stop(within_s=60) == 0
        for thread in threads:
            thread.join(10)
        assert running.troubles == []
        assert set(running.statuses) == {200}
        assert running.closes == 6
        assert [client.broke_off for client in streams] == [False] * len(streams)
        assert {data_lines(client.lines)[-1] for client in streams} == {"[DONE]"}
        assert_booked_once(gateway, running)
        outcomes = [logged(gateway, f"stream-{number}")["outcome"] for number in range(len(streams))]
        assert outcomes == ["ok"] * len(streams)
        assert errors_in(gateway.log()) == []


def test_it_refuses_what_has_no_answer_when_the_grace_period_is_over(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "1s"}, files=wired(vendor)) as gateway:
        model = unique("synthetic~hang=head")
        waiting = Client(gateway, f"replay/{model}", stream=False)
        thread = waiting.start("waiting")
        eventually(lambda: vendor.asked(model), what="the call at the vendor")
        assert gateway.stop(within_s=30) == 0
        thread.join(10)
        assert (waiting.status, waiting.broke_off) == (503, False)
        assert '"code":"shutting_down"' in "".join(waiting.lines)
        row = logged(gateway, "waiting")
        assert (row["outcome"], row["error_code"]) == ("error", "shutting_down")
        assert "Traceback" not in gateway.log()


def test_it_ends_what_outlasts_the_grace_period_and_says_so(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "1s"}, files=wired(vendor)) as gateway:
        model = unique("synthetic~tokens=500~delay=100")
        endless = Client(gateway, f"replay/{model}")
        thread = endless.start("endless")
        eventually(lambda: len(endless.lines) > 4, what="the stream")
        assert gateway.stop(within_s=20) == 0
        thread.join(10)
        assert not endless.broke_off
        assert "shutting_down" in data_lines(endless.lines)[-1]
        assert "[DONE]" not in data_lines(endless.lines), "a half answer that looks whole"
        vendor.wait_for_outcome(model, "client-gone")
        row = logged(gateway, "endless")
        assert (row["outcome"], row["error_code"]) == ("error", "shutting_down")
        assert row["completion_tokens"] > 0
        assert "Traceback" not in gateway.log()


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
