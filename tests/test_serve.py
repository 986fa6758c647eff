"""`manage.py serve` on a small application: sockets, processes, signals. The gateway itself is elsewhere."""

import os
import signal
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.gateway import SERVES, Gateway, running_gateway
from tests.servers import CHECKOUT, eventually, is_running

STUB = ("--app", "tests.stub_app:application", "--no-migrate", "--no-shipper")
# `tests` is imported from the checkout although the process runs in its data directory.
PATHS = {"PYTHONPATH": str(CHECKOUT), "GRACE_PERIOD": "5s"}


@pytest.fixture
def served() -> Iterator[Gateway]:
    with running_gateway(PATHS, arguments=STUB) as gateway:
        yield gateway


def pid_of(gateway: Gateway) -> int:
    return int(httpx.get(gateway.url).text.split(",")[0])


def test_it_tells_workers_their_index_and_plane() -> None:
    with running_gateway(PATHS, arguments=(*STUB, "--plane", "data")) as gateway:
        pid, parent, worker, plane, _ = httpx.get(gateway.url).text.strip().split(",")
        assert (int(parent), worker, plane) == (gateway.process.pid, "0", "data")
        assert [int(pid)] == gateway.children("web")


def test_it_hides_the_servers_name(served: Gateway) -> None:
    assert "server" not in httpx.get(served.url).headers


def test_it_refuses_several_workers_without_redis() -> None:
    with running_gateway(PATHS, workers=2, arguments=STUB, ready=False) as gateway:
        assert gateway.process.popen.wait(timeout=30) == 1
        assert "WORKERS=2 needs REDIS_URL" in gateway.log()
        assert "Traceback" not in gateway.log()


def test_it_says_in_a_sentence_that_the_port_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = {**PATHS, "PORT": str(other.getsockname()[1])}
        with running_gateway(taken, arguments=STUB, ready=False) as gateway:
            assert gateway.process.popen.wait(timeout=30) == 1
            assert "is taken by another process" in gateway.log()
            assert "Traceback" not in gateway.log()


def test_it_gives_up_on_an_application_that_never_starts() -> None:
    broken = ("--app", "tests.stub_app:absent", *STUB[2:])
    with running_gateway(PATHS, arguments=broken, ready=False) as gateway:
        assert gateway.process.popen.wait(timeout=60) == 1
        assert "ended before they served" in gateway.log()


def test_it_restarts_a_worker_that_dies_and_refuses_no_connection(served: Gateway) -> None:
    first = pid_of(served)
    os.kill(first, signal.SIGKILL)
    # The listening socket outlives the worker: this request waits for the successor.
    assert int(httpx.get(served.url, timeout=30).text.split(",")[0]) not in {first, served.process.pid}
    assert "serve.process_died" in served.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_a_stream_before_it_ends(served: Gateway, number: int) -> None:
    lines: list[str] = []
    begun = threading.Event()

    def read() -> None:
        with httpx.stream("GET", f"{served.url}/stream", timeout=30) as response:
            for line in response.iter_lines():
                lines.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(10)
    assert served.stop(with_signal=number) == 0
    reader.join(10)
    assert len(lines) == 10


def test_it_accepts_no_new_connection_while_it_drains(served: Gateway) -> None:
    with httpx.stream("GET", f"{served.url}/stream", timeout=30):
        served.process.popen.send_signal(signal.SIGTERM)
        eventually(lambda: refuses(served), what="refusing new connections", within_s=5)
    assert served.stop() == 0


def refuses(gateway: Gateway) -> bool:
    try:
        httpx.get(gateway.url, timeout=1)
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        return False
    return False


def test_it_ends_a_drain_after_the_grace_period() -> None:
    with running_gateway({**PATHS, "GRACE_PERIOD": "1s"}, arguments=STUB) as gateway:
        url = f"{gateway.url}/for-ever"
        with httpx.stream("GET", url, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            gateway.process.popen.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.HTTPError):
                list(lines)
        assert gateway.stop(within_s=10) == 0


def test_it_leaves_no_process_behind_when_its_parent_is_killed(served: Gateway) -> None:
    workers = served.children()
    os.kill(served.process.pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_running, workers)), what="the end of the workers", within_s=10)
    assert "web.draining" in served.log()


def test_it_starts_again_at_once_on_the_port_of_a_killed_parent(served: Gateway) -> None:
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.popen.wait()
    served.start()
    assert served.log().count(SERVES) == 2
    assert pid_of(served)
