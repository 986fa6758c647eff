"""What a continuation says again of a text is left out, however it arrives."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.echoes import NOTHING_KNOWN, Known


def said(known: Known, pieces: list[str]) -> str:
    """Return what is new in the pieces of a continuation."""
    new = ""
    for piece in pieces:
        if known:
            piece, known = known.left_out_of(piece)  # noqa: PLW2901 - as the caller does
        new += piece
    return new


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {len(text)})
    starts = [0, *ends]
    return [text[start:end] for start, end in zip(starts, ends, strict=False) if end > start]


texts = st.text("ab c", min_size=1)


@given(texts, texts, st.booleans(), st.lists(st.integers(0, 99)))
def test_it_leaves_out_what_is_repeated(text: str, rest: str, blanks: bool, places: list[int]) -> None:
    new = said(Known(text, blanks), cut(text + rest, places))
    assert new == (rest.lstrip() if blanks else rest)


@given(texts, texts, st.booleans(), st.lists(st.integers(0, 99)))
def test_it_keeps_what_only_begins_alike(text: str, rest: str, blanks: bool, places: list[int]) -> None:
    other = f"{text[:-1]}x{rest}"
    new = said(Known(text, blanks), cut(other, places))
    assert new == (other.lstrip() if blanks else other)


@given(texts, st.lists(st.integers(0, 99)))
def test_it_leaves_out_blanks_alone_where_nothing_is_repeated(rest: str, places: list[int]) -> None:
    assert said(Known("", blanks=True), cut(rest, places)) == rest.lstrip()


def test_there_is_nothing_to_look_out_for_where_nothing_is_known() -> None:
    assert not NOTHING_KNOWN
    assert Known("", blanks=True)
    assert Known("said", blanks=False)
