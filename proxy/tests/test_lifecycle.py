from types import SimpleNamespace

import pytest

from config.models import bump, changed
from proxy import lifecycle
from proxy.asgi import lane
from proxy.tests.fakes import Client, environment


@pytest.fixture
def alone(monkeypatch, settings, tmp_path):
    """Let this process have no gateway yet, and a data directory of its own."""
    monkeypatch.setattr(lifecycle, "_gateway", None)
    settings.GATEWAY = environment(data_dir=tmp_path)
    return tmp_path


@pytest.mark.django_db(transaction=True)
async def test_it_makes_one_gateway_on_first_use_and_closes_it(alone):
    client = await Client("GET", "/health").run(lane)
    assert client.status == 200
    running = lifecycle.gateway()
    assert lifecycle.gateway() is running
    assert running.watcher._thread.is_alive()
    await lifecycle.close()
    assert not running.watcher._thread.is_alive()
    assert [path.name for path in (alone / "spool").iterdir()] == []
    await lifecycle.close()  # once more is no harm


async def test_it_closes_nothing_that_never_was(alone):
    await lifecycle.close()


@pytest.mark.django_db(transaction=True)
async def test_it_names_its_worker(alone, monkeypatch):
    monkeypatch.setenv("GATEWAY_WORKER", "3")
    assert lifecycle.gateway()._prefix.endswith("-3-")
    await lifecycle.close()


@pytest.mark.django_db(transaction=True)
def test_it_follows_a_change_made_in_this_process_at_once(monkeypatch):
    pokes, announcements = [], []
    watcher = SimpleNamespace(poke=lambda: pokes.append(1))
    monkeypatch.setattr(lifecycle, "_gateway", SimpleNamespace(watcher=watcher))
    announcer = SimpleNamespace(announce=lambda: announcements.append(1))
    monkeypatch.setattr(lifecycle, "_announcer", lambda: announcer)
    bump("routes")
    assert (pokes, announcements) == ([1], [1])


def test_it_minds_no_change_while_nothing_is_served(monkeypatch):
    monkeypatch.setattr(lifecycle, "_gateway", None)
    monkeypatch.setattr(lifecycle, "_announcer", lambda: None)
    changed.send(sender=None, version=1)


async def test_it_listens_for_announcements_where_there_is_redis(alone, monkeypatch, settings):
    heard = []
    monkeypatch.setattr("proxy.services.announce.listen", lambda url, poke: heard.append((url, poke)))
    monkeypatch.setattr("proxy.oversight.broadcast.follow", lambda *_, **__: None)
    settings.GATEWAY = environment(data_dir=alone, redis_url="redis://127.0.0.1:9/0")
    monkeypatch.setattr("proxy.watcher.Watcher.start", lambda _: None)
    running = lifecycle.gateway()
    assert heard == [("redis://127.0.0.1:9/0", running.watcher.poke)]
    await lifecycle.close()
