"""Lines out of bytes, however the bytes were split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.ndjson import LineSplitter


def lines_in(pieces):
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines, splitter.rest()


@pytest.mark.parametrize(
    ("text", "lines", "rest"),
    [
        (b"", [], b""),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}'], b""),
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}'], b""),
        (b'\n\r\n  \n{"a":1}\n', [b'{"a":1}'], b""),
        (b'{"a":1}\n{"b"', [b'{"a":1}'], b'{"b"'),
        (b'{"a":1}', [], b'{"a":1}'),
    ],
)
def test_it_splits_at_line_ends(text, lines, rest):
    assert lines_in([text]) == (lines, rest)


@given(st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b"\r", b" ", b"x", b""])), st.data())
def test_it_gives_the_same_lines_for_every_split(parts, data):
    text = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert lines_in(pieces) == lines_in([text])


def test_it_keeps_a_long_line_in_pieces_until_it_ends():
    splitter = LineSplitter()
    for _ in range(10_000):
        assert splitter.feed(b"x" * 10) == []
    assert splitter.feed(b"\n") == [b"x" * 100_000]
    assert splitter.rest() == b""
