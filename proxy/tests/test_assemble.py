from itertools import zip_longest

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.events import Event, Kind
from providers.tests.samples import TEXT_STREAM, chunk, make_call, sse
from providers.usage import Usage
from proxy.assemble import assemble, disassemble, text_bytes, texts_of

TEXT = st.text(max_size=12)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text("abc123", min_size=1, max_size=4),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text("fgh", min_size=1), "arguments": TEXT}),
        },
        optional={"extra_content": st.just({"google": {"thought_signature": "sig"}})},
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda call: str(call["id"]),
)
USAGES = st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda counts: Usage(*counts))


def thought(blocks):
    """Return what a message with such blocks says."""
    text = "".join(block.get("thinking", "") for block in blocks)
    return {"thinking_blocks": blocks, **({"reasoning_content": text} if text else {})}


BLOCKS = st.fixed_dictionaries(
    {"type": st.just("thinking"), "thinking": TEXT, "signature": st.text("ab", min_size=1, max_size=4)}
) | st.just({"type": "redacted_thinking", "data": "e30="})
THOUGHTS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"reasoning_content": st.text(min_size=1, max_size=5)}),
    st.lists(BLOCKS, min_size=1, max_size=3).map(thought),
    # Of another origin than the text: both are kept, each as it is.
    st.just({"thinking_blocks": [{"type": "thinking", "thinking": "a"}], "reasoning_content": "b"}),
)
URL = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
EXTRAS = st.fixed_dictionaries(
    {}, optional={"annotations": st.just([URL, URL]), "images": st.just([IMAGE]), "reasoning": st.just("hm")}
)


@st.composite
def choices(draw, index):
    message = {"role": "assistant", "content": None, "refusal": None}
    filled = draw(st.sampled_from(["content", "refusal", "tool_calls", "both"]))
    if filled in ("content", "both"):
        message["content"] = draw(TEXT)
    if filled == "refusal":
        message["refusal"] = draw(st.text(min_size=1, max_size=5))
    if filled in ("tool_calls", "both"):
        message["tool_calls"] = draw(CALLS)
    message |= draw(THOUGHTS) | draw(EXTRAS)
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    logprobs = draw(st.none() | st.just({"content": [{"token": "a", "logprob": -1.0}]}))
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


MESSAGES = st.integers(1, 3).flatmap(lambda n: st.tuples(*[choices(index) for index in range(n)])).map(list)


def whole(choices, usage=None):
    answer = {"id": "i", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    return answer if usage is None else {**answer, "usage": usage.to_openai()}


def assembled(events):
    return assemble(events, id="i", created=1, model="m")


def decoded(*chunks):
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    return [*decoder.feed(b"".join(sse(each) for each in chunks)), *decoder.close()]


@given(MESSAGES, USAGES)
def test_it_assembles_what_it_took_apart(choices, usage):
    answer = whole(choices, usage)
    before = orjson.dumps(answer)
    events = disassemble(answer, usage)
    assert orjson.dumps(answer) == before
    assert assembled(events) == answer
    assert [event.kind for event in events][-1] is Kind.DONE


@given(MESSAGES, st.data())
def test_it_assembles_a_stream_however_the_vendor_cut_it(choices, data):
    """Each text, and each tool call's arguments, in pieces of any size, choices in turn."""
    pieces = [[(choice["index"], piece) for piece in pieces_of(choice, data.draw)] for choice in choices]
    in_turn = [each for round_ in zip_longest(*pieces) for each in round_ if each is not None]
    events = [Event(Kind.CONTENT, choices=[{"index": index, "delta": piece}]) for index, piece in in_turn]
    for choice in choices:
        closing = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        events.append(Event(Kind.FINISH, choices=[closing]))
    expected = [{**choice, "logprobs": None} for choice in choices]
    assert assembled(events)["choices"] == expected


def pieces_of(choice, draw):
    yield {"role": "assistant"}
    for name, value in choice["message"].items():
        if name == "tool_calls":
            for place, call in enumerate(value):
                function = {"name": call["function"]["name"], "arguments": ""}
                yield {"tool_calls": [{**call, "index": place, "function": function}]}
            for place, call in enumerate(value):
                for part in cut(call["function"]["arguments"], draw):
                    yield {"tool_calls": [{"index": place, "function": {"arguments": part}}]}
        elif isinstance(value, list):
            for part in value:
                yield {name: [part]}
        elif name != "role" and value is not None:
            for part in cut(value, draw):
                yield {name: part}


def cut(text, draw):
    place = draw(st.integers(0, len(text)))
    return text[:place], text[place:]


def test_it_assembles_a_vendors_stream():
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    answer = assembled([*decoder.feed(TEXT_STREAM), *decoder.close()])
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert (answer["id"], answer["object"], answer["created"], answer["model"]) == (
        "i",
        "chat.completion",
        1,
        "m",
    )


def test_it_keeps_parallel_tool_calls_apart_by_index():
    events = decoded(
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
                ]
            }
        ),
        chunk(
            {
                "tool_calls": [
                    {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
                ]
            }
        ),
        chunk({"tool_calls": [{"index": 1, "id": None, "function": {"arguments": '{"b"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": ": 1}"}}]}),
        chunk(finish="tool_calls"),
    )
    calls = assembled(events)["choices"][0]["message"]["tool_calls"]
    assert calls == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"b": 1}'}},
    ]


def test_it_keeps_tool_calls_apart_that_have_no_index():
    """Gemini's compatible endpoint sends each call whole, without an index."""
    events = decoded(
        chunk({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"id": "b", "function": {"name": "f", "arguments": '{"x":1}'}}]}),
        chunk(finish="tool_calls"),
    )
    calls = assembled(events)["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", "{}"), ("b", '{"x":1}')]


def test_it_keeps_tool_calls_apart_that_all_have_the_same_index():
    events = decoded(
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": None, "arguments": "}"}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "f", "arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        chunk(finish="tool_calls"),
    )
    calls = assembled(events)["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", "{}"), ("b", '{"x":1}')]


def test_it_goes_on_with_the_last_call_where_neither_index_nor_id_says_which():
    events = decoded(
        chunk({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"function": {"arguments": ":1}"}}]}),
        chunk(finish="tool_calls"),
    )
    (call,) = assembled(events)["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}
    (only,) = assembled(decoded(chunk({"tool_calls": [{"function": {"name": "f"}}]}), chunk(finish="stop")))[
        "choices"
    ]
    assert only["message"]["tool_calls"] == [{"function": {"name": "f", "arguments": ""}}]


def test_it_joins_old_function_calls():
    events = decoded(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk(finish="function_call"),
    )
    message = assembled(events)["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": "{}"}


def test_it_joins_logprobs_and_lists_and_keeps_the_rest():
    one, two = {"token": "a"}, {"token": "b"}
    first = chunk({"content": "a", "annotations": [1], "audio": {"id": "x"}, "content_x": None})
    first["choices"][0]["logprobs"] = {"content": [one], "refusal": None}
    second = chunk({"content": "b", "annotations": [2], "audio": {"id": "y"}})
    second["choices"][0]["logprobs"] = {"content": [two], "refusal": None}
    (choice,) = assembled(decoded(first, second, chunk(finish="stop")))["choices"]
    assert choice["logprobs"] == {"content": [one, two]}
    assert choice["message"]["annotations"] == [1, 2]
    assert choice["message"]["audio"] == {"id": "y"}
    assert "content_x" not in choice["message"]


def test_it_gives_each_thinking_block_after_its_text():
    first = {"type": "thinking", "thinking": "one", "signature": "s1"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    second = {"type": "thinking", "thinking": "two", "signature": "s2"}
    message = {"role": "assistant", "content": "Hi", **thought([first, hidden, second])}
    *pieces, closing, end = disassemble(whole([{"message": message, "finish_reason": "stop"}]), None)
    said = [{k: v for k, v in event.choices[0]["delta"].items() if k != "role"} for event in pieces]
    assert said == [
        {"reasoning_content": "one"},
        {"thinking_blocks": [first]},
        {"thinking_blocks": [hidden]},
        {"reasoning_content": "two"},
        {"thinking_blocks": [second]},
        {"content": "Hi"},
    ]
    assert [event.kind for event in (closing, end)] == [Kind.FINISH, Kind.DONE]


def test_it_joins_audio_whose_pieces_are_base64_each_by_itself():
    events = decoded(
        chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
        chunk({"audio": {"data": "AQ=="}}),
        chunk({"audio": {"transcript": "lo"}}),
        chunk({"audio": {"data": "AgM="}}),
        chunk({"audio": {"expires_at": 7}}),
        chunk(finish="stop"),
    )
    audio = assembled(events)["choices"][0]["message"]["audio"]
    assert audio == {"id": "audio_1", "transcript": "Hello", "data": "AQID", "expires_at": 7}
    odd = decoded(chunk({"audio": {"data": "A"}}), chunk({"audio": {"data": "B"}}), chunk(finish="stop"))
    assert assembled(odd)["choices"][0]["message"]["audio"] == {"data": "AB"}


def test_it_says_stop_where_the_vendor_gave_no_reason():
    (opening, closing, end) = disassemble({"choices": [{"message": {"content": "a"}}]}, None)
    assert opening.choices == [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]
    assert closing.finish_reasons == ["stop"]
    assert end.kind is Kind.DONE


def test_it_takes_an_answer_without_choices_apart():
    assert [event.kind for event in disassemble({}, Usage(1, 2))] == [Kind.USAGE, Kind.DONE]
    assert assembled([])["choices"] == []


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ([], ""),
        ([{"index": 0, "delta": {"content": "a"}}], "a"),
        ([{"delta": {"content": "a"}}], "a"),
        ([{"index": 1, "delta": {"content": "a"}}], ""),
        ([{"index": 0, "delta": {"content": None}}], ""),
        ([{"index": 0, "delta": None}], ""),
        ([{"index": 0}], ""),
        ([{"index": 0, "delta": {"content": [{"type": "text"}]}}], ""),
    ],
)
def test_it_reads_the_text_of_the_first_choice(choices, text):
    assert "".join(texts_of(choices)) == text


def test_it_measures_what_is_said_and_no_signature():
    said = {
        "role": "assistant",
        "content": "four",
        "reasoning_content": "five!",
        "thinking_blocks": [{"type": "thinking", "thinking": "five!", "signature": "s" * 1000}],
        "tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert (
        text_bytes([{"index": 0, "delta": said}, {"index": 1, "delta": {"refusal": "no"}}, {"delta": None}])
        == 14
    )
