import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.counting import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, prompt_bytes, tokens_of


def message(content, **fields):
    return {"messages": [{"role": "user", "content": content, **fields}]}


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({}, 0),
        (message("12345678"), TOKENS_PER_MESSAGE + 2),
        (message(None), TOKENS_PER_MESSAGE),
        (
            message([{"type": "text", "text": "1234"}, {"type": "text", "text": "5678"}]),
            TOKENS_PER_MESSAGE + 2,
        ),
        (
            message([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}]),
            TOKENS_PER_MESSAGE + TOKENS_PER_IMAGE,
        ),
    ],
)
def test_it_guesses_the_size_of_a_prompt(body, count):
    assert tokens_of(body) == count


def test_it_counts_tools_and_calls():
    plain = message("hi")
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    assert tokens_of({**plain, "tools": [tool]}) > tokens_of(plain)
    assert tokens_of(message("hi", tool_calls=[call])) > tokens_of(plain)
    assert tokens_of({**plain, "response_format": {"type": "json_object"}}) > tokens_of(plain)


@given(st.text())
def test_it_counts_bytes_not_characters(text):
    assert tokens_of(message(text)) == TOKENS_PER_MESSAGE + -(-len(text.encode()) // 4)


def test_it_takes_no_image_for_text():
    image, words = "A1+/" * 50_000, "word and " * 20_000
    raw = orjson.dumps({"image": f"data:image/png;base64,{image}", "text": words, "minified": "f(x);" * 9000})
    size = prompt_bytes(raw)
    assert abs(size - len(words) - 5 * 9000 - TOKENS_PER_IMAGE * 4) < 200
    assert prompt_bytes(raw[:1000]) == 1000
