import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet.news import MAX_BYTES, MAX_FOR_S, Kind, News, unpack

OPEN = News(Kind.OPEN, "openai/gpt", "me", for_s=12.5, reason="upstream_error")


@pytest.mark.parametrize(
    "news",
    [
        OPEN,
        News(Kind.CLOSED, "openai/gpt", "me"),
        News(Kind.COOL, "openai/org/gpt:1", "me", for_s=3.0, credential="spare"),
        News(Kind.COOL, "openai/gpt", "me"),
    ],
)
def test_it_reads_what_it_has_written(news):
    assert unpack(news.pack()) == news


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "exploded"},
        {"kind": None},
        {"upstream": ""},
        {"upstream": "no-slash"},
        {"upstream": 7},
        {"upstream": "a/" + "x" * 600},
        {"for_s": -1},
        {"for_s": 0},
        {"for_s": "soon"},
        {"for_s": None},
        {"reason": "x" * 300},
        {"reason": {}},
        {"by": None},
        {"credential": ["x"]},
    ],
)
def test_it_takes_garbage_for_no_news(changes):
    assert unpack(orjson.dumps({**orjson.loads(OPEN.pack()), **changes})) is None


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"open"',
        b"{}",
        "text",
        1,
        None,
        b"\xff",
        b" " * MAX_BYTES + OPEN.pack(),
    ],
)
def test_it_takes_what_is_no_message_for_no_news(packed):
    assert unpack(packed) is None


def test_it_believes_nobody_for_more_than_a_day():
    read = unpack(orjson.dumps({**orjson.loads(OPEN.pack()), "for_s": 1e12}))
    assert read is not None
    assert read.for_s == MAX_FOR_S


def test_it_knows_what_is_left_of_it():
    assert OPEN.after(2.5).for_s == 10.0
    assert OPEN.after(60).for_s == 0.0


def test_it_replaces_news_of_the_same_subject_alone():
    assert OPEN.subject == News(Kind.CLOSED, "openai/gpt", "you").subject
    cool = News(Kind.COOL, "openai/gpt", "me", for_s=1.0, credential="a")
    assert len({OPEN.subject, cool.subject, News(Kind.COOL, "openai/gpt", "me", credential="b").subject}) == 3


VALUES = st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
FIELDS = ("kind", "upstream", "by", "for_s", "reason", "credential")


def written(fields):
    """Return JSON of any numbers: orjson writes none of more than 64 bits."""
    return json.dumps(fields).encode()


@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from(FIELDS), VALUES).map(written))
def test_it_never_raises(packed):
    news = unpack(packed)
    assert news is None or isinstance(news.kind, Kind)
