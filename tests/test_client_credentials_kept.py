"""Vendors' keys that clients bring are found nowhere afterwards: not on disk, in Redis, log or pages."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.own_credentials import BROUGHT, WAYS, headers_of, installation
from tests.records import rows
from tests.resilience import (
    CALM,
    CHAT,
    ask,
    error_of,
)
from tests.servers import RedisServer, eventually, redis
from tests.upstream import FakeVendor, chat, unique


def everything_in(store: RedisServer) -> bytes:
    """Return all keys and values of a Redis."""
    read: Mapping[bytes, Callable[[Any, Any], Any]] = {
        b"string": Redis.get,
        b"hash": Redis.hgetall,
        b"list": lambda database, key: database.lrange(key, 0, -1),
        b"set": Redis.smembers,
        b"zset": lambda database, key: database.zrange(key, 0, -1, withscores=True),
    }
    with store.client() as database:
        found = [
            (key, read[cast("bytes", database.type(key))](database, key)) for key in database.scan_iter()
        ]
    return repr(found).encode()


def on_disk(gateway: Gateway) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(gateway.data_dir)): path.read_bytes()
        for path in gateway.data_dir.rglob("*")
        if path.is_file()
    }


def use_it_everywhere(gateway: Gateway, vendor: FakeVendor, own: str) -> int:
    """Succeed, fail and be refused with it in many ways; return the number of requests."""
    case = f"quoting-{os.getpid()}"
    body = {"error": {"message": f"Incorrect API key provided: {own}.", "code": "odd", "param": own}}
    statuses = (400, 401, 403, 404, 429, 500, 503)
    for status in statuses:
        vendor.learn(f"{case}-{status}", provider="openai", status=status, body=json.dumps(body))
    sent = 0
    for way in WAYS:
        with httpx.Client(base_url=gateway.url, headers=headers_of(way, own), timeout=60) as client:
            for stream in (False, True):
                model = unique()
                for _ in range(3):  # misses and hits
                    assert ask(client, model, stream=stream).status_code == 200
                for status in statuses:
                    answer = ask(client, f"{case}-{status}", stream=stream)
                    assert answer.status_code >= 400
                    assert own not in answer.text + str(answer.headers)
                    assert error_of(answer)
                cut = ask(client, unique("synthetic~reset=body:400"), stream=stream)
                assert own not in cut.text
                sent += 4 + len(statuses)
            for _ in range(2):
                again = {"Idempotency-Key": f"the-same-{way}"}
                assert client.post(CHAT, json=chat("synthetic"), headers=again).is_success
                sent += 1
            assert client.get("/v1/models").is_success
    return sent


@pytest.mark.broker
def test_it_is_kept_nowhere(vendor: FakeVendor) -> None:
    own = "sk-own-of-a-client-that-is-found-nowhere-0123456789"
    variables = {**CALM, **BROUGHT, "LOG_LEVEL": "debug", "LOG_PROMPTS": "true", "CACHE_MODE": "redis"}
    with redis() as store:
        variables |= {"REDIS_URL": store.url(), "CB_ERROR_THRESHOLD": "2"}
        with running_gateway(variables, files=installation(vendor)) as gateway:
            sent = use_it_everywhere(gateway, vendor, own)
            count = "SELECT COUNT(*) AS n FROM analytics_requestlog"
            eventually(lambda: rows(gateway, count)[0]["n"] >= sent, what="all records")
            places = {
                "metrics": httpx.get(f"{gateway.url}/metrics").content,
                "health": httpx.get(f"{gateway.url}/health").content,
                "redis": everything_in(store),
                "log": gateway.log().encode(),
                **pages(gateway),
                **on_disk(gateway),
            }
            assert b'"own_credential":true' in places["log"]
            assert len(places["redis"]) > 1000
            assert [name for name, content in places.items() if own.encode() in content] == []
            gateway.stop()
            left = {"log": gateway.log().encode(), **on_disk(gateway)}
            assert [name for name, content in left.items() if own.encode() in content] == []


def pages(gateway: Gateway) -> Mapping[str, bytes]:
    """Return the admin's pages of what has been recorded."""
    (newest,) = rows(
        gateway, "SELECT id FROM analytics_requestlog WHERE outcome = 'error' ORDER BY id DESC LIMIT 1"
    )
    paths = ["/analytics/requestlog/", f"/analytics/requestlog/{newest['id']}/change/", "/"]
    admin = AdminSession(gateway)
    try:
        return {path: admin.get(path).encode() for path in paths}
    finally:
        admin.close()
