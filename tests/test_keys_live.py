"""Keys of a served gateway with two workers and Redis: rotation, leaks and terms, as an SDK meets them."""

from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import eventually, redis
from tests.upstream import QUIET, FakeVendor, wired

ECHO = "demo/echo"
TRIES = 12  # on a new connection each: with two workers, either may get it

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    with (
        redis() as store,
        running_gateway({**QUIET, "REDIS_URL": store.url()}, workers=2, files=wired(vendor)) as gateway,
    ):
        yield gateway


def new_key(gateway: Gateway, name: str, *options: str) -> str:
    printed = gateway.manage("create_key", "--tenant", "team", "--name", name, *options)
    secret = next(line for line in printed.splitlines() if line.startswith("sk-gw-"))
    eventually(lambda: accepted(gateway, secret, everywhere=True), what="the new key")
    return secret


def ask(
    gateway: Gateway, key: str, *, model: str = ECHO, **options: object
) -> openai.types.chat.ChatCompletion:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=30) as client:
        answer: openai.types.chat.ChatCompletion = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "one two three four five"}],
            **options,  # type: ignore[call-overload]  # whatever a test asks for
        )
        return answer


def accepted(gateway: Gateway, key: str, *, everywhere: bool) -> bool:
    """Do all workers take the key (or, not `everywhere`, does one)? Each try is a new connection."""
    found = []
    for _ in range(TRIES):
        try:
            ask(gateway, key)
        except openai.AuthenticationError:
            found.append(False)
        else:
            found.append(True)
    return all(found) if everywhere else any(found)


def refused_by_all(gateway: Gateway, key: str) -> Callable[[], bool]:
    return lambda: not accepted(gateway, key, everywhere=False)


def rotated(gateway: Gateway, name: str, overlap: str) -> str:
    printed = gateway.manage("rotate_key", name, "--overlap", overlap)
    return next(line for line in printed.splitlines() if line.startswith("sk-gw-"))


def report(gateway: Gateway, *secrets: str) -> list[str]:
    answer = httpx.post(f"{gateway.url}/api/v1/keys/report-leak", json={"keys": secrets}, timeout=30)
    assert answer.status_code == 200, answer.text
    return [each["status"] for each in answer.json()["reported"]]


def test_a_reported_key_is_refused_by_every_worker(served: Gateway) -> None:
    leaked, other = new_key(served, "leaked"), new_key(served, "bystander")
    assert report(served, leaked, "sk-gw-nobody-has-this") == ["disabled", "unknown"]
    eventually(refused_by_all(served, leaked), what="the end of the leaked key")
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(served, leaked)
    assert refused.value.code == "api_key_disabled"
    assert accepted(served, other, everywhere=True)
    assert leaked not in served.log()


def test_both_secrets_work_while_a_rotation_overlaps(served: Gateway) -> None:
    old = new_key(served, "rotated")
    new = rotated(served, "rotated", "1h")
    eventually(lambda: accepted(served, new, everywhere=True), what="the new secret")
    assert accepted(served, old, everywhere=True)
    assert report(served, old) == ["disabled"]
    eventually(refused_by_all(served, old), what="the end of the old secret")
    assert accepted(served, new, everywhere=True)
    newest = rotated(served, "rotated", "0m")
    eventually(lambda: accepted(served, newest, everywhere=True), what="the newest secret")
    eventually(refused_by_all(served, new), what="the end of the secret before it")


def test_the_terms_of_a_key_hold_for_the_sdk(served: Gateway) -> None:
    key = new_key(served, "terms", "--max-tokens", "3", "--denied-model", "replay/*")
    answer = ask(served, key)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    with pytest.raises(openai.BadRequestError) as too_much:
        ask(served, key, max_tokens=4)
    assert (too_much.value.code, too_much.value.param) == ("max_tokens_exceeds_key_limit", "max_tokens")
    with pytest.raises(openai.PermissionDeniedError) as denied:
        ask(served, key, model="replay/gpt-4o")
    assert denied.value.code == "model_not_allowed"


def test_a_forced_key_gets_its_model_whatever_it_asks_for(served: Gateway) -> None:
    key = new_key(served, "kiosk", "--forced-route", ECHO)
    assert ask(served, key, model="gpt-of-nobody").model == "echo"


def test_a_key_of_another_network_is_refused(served: Gateway) -> None:
    printed = served.manage(
        "create_key", "--tenant", "team", "--name", "elsewhere", "--network", "203.0.113.0/24"
    )
    secret = next(line for line in printed.splitlines() if line.startswith("sk-gw-"))
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(served, secret)
    assert refused.value.code == "ip_not_allowed"
    assert "127.0.0.1" in str(refused.value)
