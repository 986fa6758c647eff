"""SIGHUP: web processes are replaced by fresh ones, and nobody who asks notices."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway import SERVES, Gateway, running_gateway
from tests.rawhttp import RawConnection, Reply, errors_in
from tests.records import logged
from tests.servers import CHECKOUT, eventually, is_running, redis
from tests.sizes import at_full_size, sized, times
from tests.steady import Client, assert_booked_once, steady
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, data_lines, unique, wired

STUB = ("--app", "tests.stub_app:application", "--no-migrate", "--no-shipper")
PATHS = {"PYTHONPATH": str(CHECKOUT), "GRACE_PERIOD": "20s"}
STREAMS = sized("streams that run through a replacement", 8, full=40)

pytestmark = at_full_size(120)


@pytest.fixture
def stub() -> Iterator[Gateway]:
    with running_gateway(PATHS, arguments=STUB, files={".env": "STUB_WORD=before\n"}) as gateway:
        yield gateway


def replace(gateway: Gateway) -> None:
    gateway.process.popen.send_signal(signal.SIGHUP)


def told(gateway: Gateway) -> tuple[int, str]:
    """Return the process id and the variable that the stub tells."""
    pid, *_, word = httpx.get(gateway.url, timeout=30).text.strip().split(",")
    return int(pid), word


def test_it_replaces_a_web_process_and_reads_the_environment_anew(stub: Gateway) -> None:
    lines: list[str] = []
    begun = threading.Event()

    def read() -> None:
        with httpx.stream("GET", f"{stub.url}/stream", timeout=30) as response:
            for line in response.iter_lines():
                lines.append(line)
                begun.set()

    first, word = told(stub)
    assert word == "before"
    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(10)
    (stub.data_dir / ".env").write_text("STUB_WORD=after\n")
    replace(stub)
    eventually(lambda: "serve.all_replaced" in stub.log(), within_s=60, what="the replacement")
    second, word = told(stub)
    assert (second != first, word) == (True, "after")
    assert stub.children("web") == [second]
    reader.join(10)
    assert len(lines) == 10, "the predecessor's stream was cut"
    # The successor is looked after as its predecessor was.
    os.kill(second, signal.SIGKILL)
    assert told(stub)[0] not in {first, second}
    assert stub.stop() == 0


def test_it_keeps_a_web_process_whose_successor_does_not_start(stub: Gateway) -> None:
    first, _ = told(stub)
    (stub.data_dir / ".env").write_text("STUB_BROKEN=1\n")
    replace(stub)
    eventually(lambda: "serve.not_replaced" in stub.log(), within_s=60, what="the refusal")
    assert told(stub) == (first, "before")
    assert stub.children("web") == [first]
    assert "web.draining" not in stub.log()
    # When that is put right it can be asked for again.
    (stub.data_dir / ".env").write_text("STUB_WORD=repaired\n")
    replace(stub)
    eventually(lambda: told(stub)[1] == "repaired", within_s=60, what="the replacement")
    assert stub.stop() == 0


def test_it_stops_in_the_middle_of_a_replacement(stub: Gateway) -> None:
    with httpx.stream("GET", f"{stub.url}/stream", timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        replace(stub)
        eventually(lambda: len(stub.children("web")) == 2, within_s=60, what="the successor")
        stub.process.popen.send_signal(signal.SIGTERM)
        assert len(list(lines)) == 9
    assert stub.stop() == 0
    assert "Traceback" not in stub.log()


def test_it_ends_with_its_terminal_which_sends_the_same_signal(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, PATHS, workers=1, arguments=STUB)
    terminal, its_end = pty.openpty()
    log = tmp_path / "log"
    command = ["setsid", "--ctty", sys.executable, str(CHECKOUT / "manage.py"), "serve", *STUB]
    with log.open("wb") as output:
        served = subprocess.Popen(command, env=gateway.env, cwd=tmp_path, stdin=its_end, stdout=output)
    os.close(its_end)
    try:
        eventually(lambda: SERVES in log.read_text(), within_s=60, what="the start")
        first, _ = told(gateway)
        served.send_signal(signal.SIGHUP)
        eventually(lambda: "serve.all_replaced" in log.read_text(), within_s=60, what="the replacement")
        second, _ = told(gateway)
        assert second != first
        os.close(terminal)
        assert served.wait(30) == 0
        assert not is_running(second)
    finally:
        served.kill()
        served.wait()


@pytest.fixture
def pair(vendor: FakeVendor) -> Iterator[Gateway]:
    with redis() as store:
        variables = {**QUIET, "REDIS_URL": store.url(), "GRACE_PERIOD": "60s"}
        with running_gateway(variables, workers=2, files=wired(vendor)) as gateway:
            yield gateway


def ask(opened: RawConnection) -> Reply:
    body = json.dumps(chat("demo/echo")).encode()
    reply = opened.ask("POST", "/v1/chat/completions", bearer(TEAM_KEY), body)
    assert reply.status == 200
    return reply


def connections_to(gateway: Gateway) -> list[RawConnection]:
    """Return a connection to each of two web processes: they begin the ids of requests differently."""
    found: dict[str, RawConnection] = {}

    def both() -> bool:
        opened = RawConnection(gateway)
        process = ask(opened).headers["x-request-id"].rpartition("-")[0]
        if found.setdefault(process, opened) is not opened:
            opened.close()
        return len(found) == 2

    eventually(both, what="a connection to each web process")
    return list(found.values())


@pytest.mark.broker
@pytest.mark.timeout(300)
@times("replacements of two web processes under load", full=8)
def test_a_replacement_under_load_cuts_nobody_off(pair: Gateway, vendor: FakeVendor, time: int) -> None:
    before, (shipper,) = set(pair.children("web")), pair.children("ship")
    idle = connections_to(pair)
    streams = [Client(pair, f"replay/{unique('synthetic~tokens=60~delay=100')}") for _ in range(STREAMS)]
    threads = [client.start(f"stream-{number}") for number, client in enumerate(streams)]
    eventually(lambda: all(len(client.lines) > 4 for client in streams), what="streams that run")
    with steady(pair, "replay/synthetic") as running:
        running.go_on()
        replace(pair)
        for drained in (1, 2):
            eventually(
                lambda: pair.log().count('"web.draining"') == drained,  # noqa: B023 - called at once
                within_s=120,
                what=f"drain number {drained}",
            )
            # Whoever is told that it ends, and it alone, says so.
            said = {opened: ask(opened).headers.get("connection") for opened in idle}
            assert sorted(map(str, said.values())) == ["None"] * (2 - drained) + ["close"]
            for opened in idle:
                if said[opened] is not None:
                    opened.close()
            idle = [opened for opened in idle if said[opened] is None]
        eventually(lambda: "serve.all_replaced" in pair.log(), within_s=120, what="the replacement")
        running.go_on()
    for thread in threads:
        thread.join(30)
    assert running.troubles == []
    assert running.refused == 0
    assert set(running.statuses) == {200}
    assert running.closes >= 1
    assert {data_lines(client.lines)[-1] for client in streams} == {"[DONE]"}
    after = set(pair.children("web"))
    assert (len(after), after & before) == (2, set())
    eventually(lambda: pair.children("ship") not in ([], [shipper]), what="another shipper")
    assert_booked_once(pair, running)
    outcomes = [logged(pair, f"stream-{number}")["outcome"] for number in range(len(streams))]
    assert outcomes == ["ok"] * len(streams)
    assert errors_in(pair.log()) == []
    assert pair.stop() == 0
