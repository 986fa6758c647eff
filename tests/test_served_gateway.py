"""The whole gateway under `manage.py serve`: what its parent promises about requests and records."""

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import eventually, is_running, postgres, redis


@pytest.fixture
def served() -> Iterator[Gateway]:
    with running_gateway({"CACHE_MODE": "none", "GRACE_PERIOD": "20s"}) as gateway:
        yield gateway


def ask(gateway: Gateway, content: str = "Hello!") -> httpx.Response:
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": content}]}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers)


def stream(gateway: Gateway, lines: list[str], begun: threading.Event) -> None:
    """Read a stream of about two seconds to its end."""
    body = {
        "model": "demo/lorem",
        "messages": [{"role": "user", "content": "40 words, 50 ms apart"}],
        "stream": True,
    }
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=gateway.headers, timeout=30) as response:
        for line in response.iter_lines():
            lines.append(line)
            begun.set()


def logged(gateway: Gateway) -> dict[str, str]:
    """Return request ids and outcomes from the database file, as any process may read it."""
    with sqlite3.connect(gateway.data_dir / "gateway.sqlite3") as database:
        return dict(database.execute("SELECT request_id, outcome FROM analytics_requestlog"))


def test_it_writes_the_stream_that_it_drained_before_it_ends(served: Gateway) -> None:
    lines: list[str] = []
    begun = threading.Event()
    reader = threading.Thread(target=stream, args=(served, lines, begun))
    reader.start()
    assert begun.wait(10)
    early = ask(served).headers["x-request-id"]
    assert served.stop() == 0
    reader.join(10)
    assert [line for line in lines if line][-1] == "data: [DONE]"
    outcomes = logged(served)
    assert outcomes[early] == "ok"
    assert list(outcomes.values()) == ["ok", "ok"]
    assert not list((served.data_dir / "spool").glob("*.seg")) + list(
        (served.data_dir / "spool").glob("*.open")
    )


def test_it_loses_no_record_when_its_parent_is_killed(served: Gateway) -> None:
    lines: list[str] = []
    begun = threading.Event()
    reader = threading.Thread(target=stream, args=(served, lines, begun))
    reader.start()
    assert begun.wait(10)
    children = served.children()
    os.kill(served.process.pid, signal.SIGKILL)
    reader.join(10)
    assert [line for line in lines if line][-1] == "data: [DONE]"
    eventually(lambda: not any(map(is_running, children)), what="the end of all processes", within_s=30)
    # The shipper ended after the web process, so even the stream's record is in the database.
    assert list(logged(served).values()) == ["ok"]


def test_it_ships_after_a_kill_what_was_answered_before(served: Gateway) -> None:
    answered = [ask(served, str(number)).headers["x-request-id"] for number in range(20)]
    served.kill()
    served.start()
    eventually(lambda: set(answered) <= set(logged(served)), what="shipping")
    assert served.stop() == 0
    assert sorted(logged(served)) == sorted(answered)


def test_it_restarts_a_shipper_that_dies(served: Gateway) -> None:
    (shipper,) = served.children("ship")
    os.kill(shipper, signal.SIGKILL)
    eventually(lambda: served.children("ship") not in ([], [shipper]), what="another shipper")
    answered = ask(served).headers["x-request-id"]
    eventually(lambda: answered in logged(served), what="shipping")


def test_it_prints_its_secrets_at_the_first_start_only() -> None:
    with running_gateway({"CACHE_MODE": "none"}, fresh=True) as served:
        assert served.key
        assert served.admin_password
        served.stop()
        served.start()
        assert served.log().count(served.key) == 2  # the key, and the curl line with it
        assert served.log().count(served.admin_password) == 1
        assert ask(served).status_code == 200


def test_it_serves_from_two_workers_that_count_together() -> None:
    with redis() as store, running_gateway({"REDIS_URL": store.url()}, workers=2) as gateway:
        assert len(gateway.children("web")) == 2
        for number in range(20):
            assert ask(gateway, str(number)).status_code == 200

        def counted() -> float:
            lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
            return sum(
                float(line.rpartition(" ")[2]) for line in lines if line.startswith("gateway_requests_total{")
            )

        # A worker tells the others what it has counted four times a second.
        eventually(lambda: counted() == 20, what="the sum of both workers")
        assert counted() == 20
        assert gateway.stop() == 0


@pytest.mark.parametrize(
    ("plane", "open_path", "closed_path"),
    [
        ("data", "/v1/models", "/accounts/login/"),
        ("control", "/accounts/login/", "/v1/models"),
    ],
)
def test_it_serves_one_plane_alone(plane: str, open_path: str, closed_path: str) -> None:
    with running_gateway(arguments=("--plane", plane, "--no-shipper")) as gateway:
        assert httpx.get(gateway.url + open_path, headers=gateway.headers).status_code == 200
        assert httpx.get(gateway.url + closed_path, headers=gateway.headers).status_code == 404
        assert httpx.get(f"{gateway.url}/ready").status_code == 200
        assert gateway.children("ship") == []


def test_it_names_the_problem_of_a_config_file_and_does_not_start() -> None:
    files = {"config.yaml": "version: 1\nproviders:\n  - {name: x, dialect: klingon}\n"}
    with running_gateway(files=files, ready=False) as gateway:
        assert gateway.process.popen.wait(timeout=60) == 1
        assert "providers[0].dialect" in gateway.log()
        assert "Traceback" not in gateway.log()


def test_it_names_a_variable_that_does_not_parse() -> None:
    with running_gateway({"CACHE_TTL": "soon"}, ready=False) as gateway:
        assert gateway.process.popen.wait(timeout=60) == 1
        assert "CACHE_TTL='soon' is not valid" in gateway.log()
        assert "Traceback" not in gateway.log()


def test_it_answers_health_as_json(served: Gateway) -> None:
    assert json.loads(httpx.get(f"{served.url}/health").text)["status"] == "ok"


@pytest.mark.postgres
def test_it_prepares_the_database_that_was_down_when_it_started() -> None:
    with postgres() as database:
        variables = {"DATABASE_URL": database.create("gateway")}
        with running_gateway(variables) as gateway:
            kept = gateway.data_dir / "snapshot-0.kept"
            eventually(kept.exists, what="the kept configuration", within_s=30)
            gateway.stop()
            database.sql("DROP TABLE django_admin_log", database="gateway")
            database.sql("DELETE FROM django_migrations WHERE app = 'admin'", database="gateway")
            database.stop()
            gateway.start()
            assert ask(gateway).status_code == 200
            assert "serve.database_unreachable" in gateway.log()
            database.start()
            eventually(lambda: "serve.prepared" in gateway.log(), what="preparing", within_s=60)
            assert database.sql("SELECT count(*) FROM django_admin_log", database="gateway") == [(0,)]


@pytest.mark.postgres
def test_it_does_not_start_without_a_database_that_it_never_saw() -> None:
    variables = {"DATABASE_URL": "postgres://gateway@127.0.0.1:1/gateway"}
    with running_gateway(variables, ready=False) as gateway:
        assert gateway.process.popen.wait(timeout=60) == 1
        assert "The database does not answer" in gateway.log()
        assert "Traceback" not in gateway.log()


def test_its_parent_needs_little_memory(served: Gateway) -> None:
    (line,) = [
        line
        for line in Path(f"/proc/{served.process.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    assert int(line.split()[1]) < 80_000  # kB; with Django it would be 120,000
