import socket
import time

import pytest

from proxy import announce
from proxy.announce import CHANNEL, Announcer, listen
from proxy.tests.fakes import Log
from tests.servers import eventually, free_port, redis

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def server():
    with redis() as running:
        yield running


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(announce, "log", recorder)
    monkeypatch.setattr(announce, "RETRY_S", 0.02)
    return recorder


def subscribers(server):
    with server.client() as client:
        return client.pubsub_numsub(CHANNEL)[0][1]


def test_it_carries_a_change_to_other_processes(server):
    heard = []
    listen(server.url(), lambda: heard.append(1))
    eventually(lambda: subscribers(server), what="the subscription")
    # Something may have changed before anybody listened.
    eventually(lambda: len(heard) == 1, what="the first look")
    Announcer(server.url()).announce()
    eventually(lambda: len(heard) == 2, what="the announcement")


def test_it_makes_one_announcement_of_many_changes(server):
    heard = []
    before = subscribers(server)
    listen(server.url(), lambda: heard.append(1))
    eventually(lambda: subscribers(server) > before, what="the subscription")
    announcer = Announcer(server.url())
    for _ in range(1000):
        announcer.announce()
    eventually(lambda: len(heard) >= 2, what="the announcement")
    time.sleep(5 * announce.GATHER_S)
    assert len(heard) <= 4


def test_it_listens_again_after_an_outage(log):
    heard = []
    with redis() as server:
        listen(server.url(), lambda: heard.append(1))
        eventually(lambda: subscribers(server), what="the subscription")
        server.stop()
        server.start()
        eventually(lambda: subscribers(server), what="the new subscription")
        eventually(lambda: len(heard) == 2, what="a look after the outage")
        Announcer(server.url()).announce()
        eventually(lambda: len(heard) == 3, what="the announcement")


def test_it_never_makes_a_save_wait(log, monkeypatch):
    """Neither for a Redis that is not there nor for one that accepts and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            began = time.perf_counter()
            Announcer(f"redis://127.0.0.1:{port}/0").announce()
            assert time.perf_counter() - began < 0.5
        eventually(lambda: len(log.of("announce_failed")) >= 2, what="both failures")
