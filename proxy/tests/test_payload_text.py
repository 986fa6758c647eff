"""What is kept of a body, and what is blacked out in it."""

import base64
import json
import random

import pytest

from proxy.payload_text import Censor

CENSOR = Censor(limit=16_384, patterns=["INT-[0-9]+"])
BLOB = base64.b64encode(random.Random(1).randbytes(3_000)).decode()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("write to jane.doe@example.com now", "write to [EMAIL] now"),
        ("card 4111 1111 1111 1111", "card [CARD]"),
        ("card 4111 1111 1111 1112", "card 4111 1111 1111 1112"),
        ("key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789", "key [SECRET]"),
        ("password: hunter2, please", "password: [SECRET], please"),
        ("Authorization: Bearer abcdefghijklmnop.q", "Authorization: [SECRET]"),
        ("say Bearer abcdefghijklmnop.q", "say Bearer [SECRET]"),
        ("postgres://app:s3cret@db/app", "postgres://app:[SECRET]@db/app"),
        ("ticket INT-4711", "ticket [REDACTED]"),
        ('two\nlines\tand "quotes" \\ 你好', 'two\nlines\tand "quotes" \\ 你好'),
        ("\njane@example.com", "\n[EMAIL]"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_it_blacks_out_what_is_secret_and_stays_json(said, kept, ascii_only):
    body = json.dumps({"messages": [{"role": "user", "content": said}]}, ensure_ascii=ascii_only).encode()
    found = CENSOR.kept(body)
    assert json.loads(found.text)["messages"][0]["content"] == kept
    assert found.size == len(body)
    assert bool(found.redactions) == (said != kept)


@pytest.mark.parametrize("said", [r'{"a": "jane\u0040example.com"}', r'{"a": "jane@example\u002ecom"}'])
def test_an_escape_hides_nothing(said):
    assert json.loads(CENSOR.kept(said.encode()).text) == {"a": "[EMAIL]"}


def test_it_blacks_out_fields_by_their_names_in_json_within_json_too():
    body = {"api_key": "two words", "tool": json.dumps({"client_secret": "a b c", "n": 1}), "n": 1}
    kept = json.loads(CENSOR.kept(json.dumps(body).encode()).text)
    assert kept["api_key"] == "[SECRET]"
    assert json.loads(kept["tool"]) == {"client_secret": "[SECRET]", "n": 1}
    schema = {"properties": {"password": {"type": "string"}}}
    assert json.loads(CENSOR.kept(json.dumps(schema).encode()).text) == schema


def test_known_secrets_are_found_wherever_they_stand():
    kept = CENSOR.kept(b'{"a": "so my own word is here"}', secrets=("my own word", ""))
    assert kept.text == '{"a": "so [SECRET] is here"}'


@pytest.mark.parametrize("escaped", [BLOB, BLOB.replace("/", "\\/"), BLOB.replace("+", "\\u002B")])
def test_base64_is_its_size(escaped):
    body = b'{"image": "data:image/png;base64,%b", "text": "behind it"}' % escaped.encode()
    kept = CENSOR.kept(body)
    assert f"[BASE64 {len(escaped)} bytes]" in kept.text
    assert kept.text.endswith('"text": "behind it"}')


def test_large_base64_is_passed_over_to_what_stands_behind_it():
    body = json.dumps({"image": "A" * 3_000_000, "text": "jane@example.com"}).encode()
    assert json.loads(CENSOR.kept(body).text) == {"image": "[BASE64 3000000 bytes]", "text": "[EMAIL]"}


def test_escaped_text_of_another_script_is_no_base64():
    body = json.dumps({"text": "你好世界" * 200}).encode()
    assert json.loads(CENSOR.kept(body).text) == {"text": "你好世界" * 200}


def test_it_says_how_much_is_cut_off():
    small = Censor(limit=100)
    kept = small.kept(b"word " * 10_000)
    assert kept.text.startswith("word " * 20 + "…[cut: ")
    assert kept.text.endswith(f"[cut: {50_000 - 100} bytes more]")
    assert small.kept(b"word " * 20).text == "word " * 20


@pytest.mark.parametrize("place", range(80, 101))
def test_a_secret_at_the_cut_does_not_show_its_beginning(place):
    body = b" " * place + b"sk-proj-abcdefghijklmnopqrstuvwxyz0123456789" + b" " * 20_000
    assert "abcdef" not in Censor(limit=100).kept(body).text
