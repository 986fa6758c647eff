import orjson
import pytest

from proxy.endpoints import parse_chat, parse_messages
from proxy.fleet.affinity import affinity

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields):
    return parse_chat(orjson.dumps({"model": "m", "messages": MESSAGES, **fields}))


def message(**fields):
    return parse_messages(orjson.dumps({"model": "m", "max_tokens": 9, "messages": MESSAGES, **fields}))


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (chat(), b""),
        (chat(user="u"), b"u"),
        (chat(user="u", safety_identifier="s"), b"s"),
        (chat(user="u", safety_identifier="s", prompt_cache_key="p"), b"p"),
        (chat(user=""), b""),
        (chat(user="ü"), "ü".encode()),
        (message(metadata={"user_id": "someone"}), b"someone"),
        (message(), b""),
    ],
)
def test_it_keeps_the_requests_of_a_user_together(call, key):
    assert affinity("user", call, {}) == key


def test_it_keeps_the_requests_with_the_same_header_together():
    assert affinity("x-session-id", chat(user="u"), {b"x-session-id": b"s1"}) == b"s1"
    assert affinity("x-session-id", chat(user="u"), {}) == b""
