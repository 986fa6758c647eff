import asyncio
import time
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from keys import secret as secrets
from keys.caller import ANONYMOUS, Caller
from keys.secret import digest
from proxy import authentication
from proxy.authentication import authenticate, secret_of
from proxy.errors import Unauthenticated
from proxy.http import LaneRequest
from proxy.tests.fakes import Client, make_snapshot

OWN = "a-test-key-of-24-characters"
ISSUED = secrets.issue()
NEW = secrets.issue()
CALLER = Caller(1, 2, "ci", "test")


def request(**headers):
    return LaneRequest(Client("POST", "/v1/x", **headers).scope, b"")


def bearer(secret):
    return request(authorization=f"Bearer {secret}")


class Configuration:
    """A snapshot, and a watcher that finds a newer one when it is poked."""

    def __init__(self, newer=None):
        self.snapshot = make_snapshot("openai", callers={digest(OWN): CALLER, digest(ISSUED): CALLER})
        self.newer = newer
        self.watcher = SimpleNamespace(refreshed_at=-1e9, polled_at=0.0, poke=self.poke)
        self.pokes = 0

    def poke(self):
        self.pokes += 1
        if self.newer is not None:
            asyncio.get_running_loop().call_later(0.02, self.polled)

    def polled(self):
        self.snapshot = make_snapshot("openai", callers=self.newer)
        self.watcher.polled_at = time.monotonic()

    async def current(self):
        return self.snapshot

    async def caller_of(self, sent, *, allow_anonymous=False):
        return await authenticate(
            sent,
            self.snapshot,
            allow_anonymous=allow_anonymous,
            watcher=self.watcher,
            current=self.current,
        )


async def refused(configuration, sent, **options):
    with pytest.raises(Unauthenticated) as raised:
        await configuration.caller_of(sent, **options)
    assert raised.value.status == 401
    assert raised.value.headers["www-authenticate"] == "Bearer"
    return raised.value


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer   k "}, "k"),
        ({"authorization": "BEARER k"}, "k"),
        ({"x_api_key": " k "}, "k"),
        ({"authorization": "Bearer a", "x_api_key": "b"}, "a"),
        ({"authorization": "Basic abc", "x_api_key": "b"}, "b"),
        ({"authorization": "Basic abc"}, ""),
        ({"authorization": "Bearer"}, ""),
        ({"authorization": "Bearer "}, ""),
        ({}, ""),
    ],
)
def test_it_finds_the_key(headers, secret):
    assert secret_of(request(**headers)) == secret


@pytest.mark.parametrize("secret", [OWN, ISSUED], ids=["an operator's own", "issued"])
async def test_it_knows_a_key_without_asking_anybody(secret):
    configuration = Configuration()
    assert await configuration.caller_of(bearer(secret)) is CALLER
    assert await configuration.caller_of(request(x_api_key=secret)) is CALLER
    assert configuration.pokes == 0


async def test_it_says_how_to_get_a_key():
    error = await refused(Configuration(), request())
    assert error.code == "missing_api_key"
    for way in ("Authorization: Bearer", "x-api-key", "create_key", "ALLOW_ANONYMOUS"):
        assert way in error.message


@pytest.mark.parametrize("secret", ["wrong", OWN + "x", "sk-proj-123", "\u00e9" * 30])
async def test_it_refuses_a_key_that_it_does_not_know(secret):
    configuration = Configuration(newer={})
    before = REGISTRY.get_sample_value("gateway_unauthenticated_total") or 0
    error = await refused(configuration, bearer(secret))
    assert error.code == "invalid_api_key"
    assert secret not in error.message
    assert configuration.pokes == 0
    assert REGISTRY.get_sample_value("gateway_unauthenticated_total") == before + 1


async def test_it_refuses_a_mistyped_key_without_looking_anywhere():
    configuration = Configuration(newer={})
    await refused(configuration, bearer(ISSUED[:-1] + ("a" if ISSUED[-1] != "a" else "b")))
    assert configuration.pokes == 0


async def test_it_serves_anybody_where_that_is_allowed():
    configuration = Configuration()
    for sent in (request(), bearer("any-string"), bearer("sk-proj-123")):
        assert await configuration.caller_of(sent, allow_anonymous=True) is ANONYMOUS
    assert await configuration.caller_of(bearer(OWN), allow_anonymous=True) is CALLER


@pytest.mark.parametrize("allow_anonymous", [False, True])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"enabled": False}, "api_key_disabled"),
        ({"expires_at": 1.0}, "api_key_expired"),
        ({"enabled": False, "expires_at": 1.0}, "api_key_disabled"),
    ],
)
async def test_it_refuses_a_key_that_was_taken_back(fields, code, allow_anonymous):
    configuration = Configuration()
    configuration.snapshot = make_snapshot("openai", callers={digest(OWN): Caller(1, 2, "ci", "t", **fields)})
    assert (await refused(configuration, bearer(OWN), allow_anonymous=allow_anonymous)).code == code


async def test_it_takes_a_key_until_the_moment_it_expires():
    configuration = Configuration()
    soon = Caller(1, 2, "ci", "t", expires_at=time.time() + 60)
    configuration.snapshot = make_snapshot("openai", callers={digest(OWN): soon})
    assert await configuration.caller_of(bearer(OWN)) is soon


# ---------------------------------------------------------------- a key newer than our snapshot


async def test_it_looks_once_more_for_a_key_that_may_be_new():
    newer = Caller(9, 2, "new", "t")
    configuration = Configuration(newer={digest(NEW): newer})
    assert await configuration.caller_of(bearer(NEW)) is newer
    assert configuration.pokes == 1


async def test_it_lets_all_who_come_with_a_new_key_wait_for_the_same_look():
    """An application starts with its new key and sends ten requests at once: none is refused."""
    newer = Caller(9, 2, "new", "t")
    configuration = Configuration(newer={digest(NEW): newer})
    callers = await asyncio.gather(*[configuration.caller_of(bearer(NEW)) for _ in range(10)])
    assert callers == [newer] * 10
    assert configuration.pokes == 1


async def test_it_looks_at_most_once_a_second_however_many_keys_are_made_up():
    configuration = Configuration(newer={})
    for _ in range(20):
        await refused(configuration, bearer(secrets.issue()))
    assert configuration.pokes == 1


async def test_it_does_not_wait_long_for_a_look(monkeypatch):
    monkeypatch.setattr(authentication, "REFRESH_WAIT_S", 0.03)
    configuration = Configuration()
    async with asyncio.timeout(1):
        await refused(configuration, bearer(NEW))
    assert configuration.pokes == 1


async def test_it_serves_a_new_key_as_nobody_only_when_it_is_really_unknown():
    newer = Caller(9, 2, "new", "t")
    configuration = Configuration(newer={digest(NEW): newer})
    assert await configuration.caller_of(bearer(NEW), allow_anonymous=True) is newer
