from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sse import EventSplitter, data_of

LINE_ENDS = (b"\n", b"\r\n", b"\r")
BOM = b"\xef\xbb\xbf"
# Few letters and many line ends: what a splitter can get wrong stands close together.
STREAMS = st.lists(
    st.sampled_from([b"data: a", b"data:b", b": note", b"event: x", b"c", b"\xc3\xa9", BOM, *LINE_ENDS * 3])
).map(b"".join)


def split(chunks):
    """Feed the chunks and return the events and what is left."""
    splitter = EventSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.rest()


def cut(text, places):
    edges = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(STREAMS, st.data())
def test_it_gives_the_same_events_for_every_split(text, data):
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    whole = split([text])
    assert split(cut(text, places)) == whole
    assert split([text[i : i + 1] for i in range(len(text))]) == whole


@given(STREAMS)
def test_it_loses_no_byte(text):
    events, rest = split([text])
    # A byte order mark is stripped once, with the first line end.
    assert b"".join(events) + rest in (text, text.removeprefix(BOM))


@pytest.mark.parametrize("end", LINE_ENDS)
def test_it_ends_an_event_at_a_blank_line_of_any_kind(end):
    text = b"data: 1" + end + end + b"event: x" + end + b"data: 2" + end + end + b"data: 3"
    # What ends in \r waits for the \n that may still come, hence the next event behind it.
    events, rest = split([text])
    assert events == [b"data: 1" + end + end, b"event: x" + end + b"data: 2" + end + end]
    assert rest == b"data: 3"


def test_it_waits_for_the_line_feed_of_a_carriage_return():
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert splitter.feed(b"\ndata: 2") == [b"data: 1\r\n\r\n"]
    assert splitter.rest() == b"data: 2"


def test_it_strips_a_byte_order_mark_that_arrives_in_pieces():
    splitter = EventSplitter()
    assert [splitter.feed(piece) for piece in (BOM[:1], BOM[1:2], BOM[2:] + b"data: 1\n", b"\n")] == [
        [],
        [],
        [],
        [b"data: 1\n\n"],
    ]


def test_it_takes_one_mark_only():
    assert split([BOM + BOM + b"data: 1\n\n"])[0] == [BOM + b"data: 1\n\n"]


def test_it_keeps_bytes_without_a_line_end_unjoined():
    """The promise that a huge event costs O(n): nothing is copied before its end arrives."""
    splitter = EventSplitter()
    piece = b"x" * 1000
    for _ in range(1000):
        assert splitter.feed(piece) == []
    assert splitter._pending == [piece] * 1000
    assert all(held is piece for held in splitter._pending)
    assert splitter.feed(b"\n\n") == [piece * 1000 + b"\n\n"]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: one\n\n", b"one"),
        (b"data:one\n\n", b"one"),
        (b"data:  one\n\n", b" one"),
        (b"data: one\r\n\r\n", b"one"),
        (b"data: one\r\r", b"one"),
        (b"data: one\ndata: two\n\n", b"one\ntwo"),
        (b"data: one\r\ndata:two\r\n\r\n", b"one\ntwo"),
        (b"event: delta\nid: 7\ndata: one\n\n", b"one"),
        (b": comment\ndata: one\n\n", b"one"),
        (b"data:\n\n", b""),
        (b"data: \n\n", b""),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"\n\n", None),
        (b"", None),
        (b'data: {"a": "b\\n"}\n\n', b'{"a": "b\\n"}'),
    ],
)
def test_it_joins_the_data_lines_of_an_event(event, data):
    assert data_of(event) == data


def test_it_reads_line_ends_of_two_kinds_in_one_event():
    assert data_of(b"data: one\rdata: two\n\n") == b"one\ntwo"
