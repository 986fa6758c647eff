"""Forms that go by: the model is found wherever the network cuts them, and no other reader finds another."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.multipart import MAX_BLANKS, MAX_PART_HEADERS, MAX_PARTS, FormScanner, boundary_of

BOUNDARY = b"xyz-1"


def part(name, value=b"", *, extra=b"", disposition=None):
    shown = disposition or b'form-data; name="%b"' % name
    return b"--%b\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n" % (BOUNDARY, shown, extra, value)


END = b"--" + BOUNDARY + b"--\r\n"
SOUND = b"\r\n--xyz\r\n--xyz-\r\n\r\n--\r" * 3
FORM = (
    part(b"language", b"en")
    + part(b"model", b"main/whisper-1")
    + part(
        b"", SOUND, disposition=b'form-data; name="file"; filename="a.wav"', extra=b"Content-Type: a/b\r\n"
    )
    + END
)


def scanned(*pieces):
    scanner = FormScanner(BOUNDARY)
    for piece in pieces:
        scanner.feed(piece)
    return scanner


def outcome(pieces):
    """Return what a reader learns, or the words of the refusal."""
    try:
        scanner = scanned(*pieces)
    except BadRequest as refused:
        return refused.message
    return scanner.model, scanner.over


def test_it_finds_the_model_and_where_it_stands():
    scanner = scanned(FORM)
    assert scanner.over
    assert scanner.model.name == "main/whisper-1"
    assert FORM[scanner.model.start : scanner.model.end] == b"main/whisper-1"


@pytest.mark.parametrize("at", range(len(FORM)))
def test_it_finds_it_wherever_the_form_is_cut(at):
    assert outcome([FORM[:at], FORM[at:]]) == outcome([FORM])


def test_it_finds_it_byte_by_byte():
    assert outcome([bytes([byte]) for byte in FORM]) == outcome([FORM])


def test_it_keeps_next_to_nothing_of_a_file():
    scanner = scanned(part(b"model", b"m") + part(b"file", b"")[:-2], b"x" * 1_000_000)
    assert len(scanner._tail) < 64


@pytest.mark.parametrize(
    ("disposition", "found"),
    [
        (b'form-data; name="model"', True),
        (b"form-data; name=model", True),
        (b'form-data; NAME = "model"', True),
        (b'form-data; filename="name=model"; name="x"', False),
        (b'form-data; name="mo\\del"', True),
        (b'form-data; name="model "', False),
        (b'form-data; name="model"; filename="m.txt"', True),
    ],
)
def test_it_reads_the_name_of_a_field(disposition, found):
    scanner = scanned(part(b"", b"m", disposition=disposition) + END)
    assert (scanner.model is not None) is found


def test_it_skips_what_stands_before_and_behind():
    form = b"preamble\r\n" + part(b"model", b"m") + END + b"\r\n--xyz\r\nepilogue" * 100
    assert scanned(form).model.name == "m"
    assert len(scanned(form)._tail) < 64


def test_it_reads_many_parts_in_linear_time():
    form = part(b"x") * MAX_PARTS + END
    assert scanned(form).over
    with pytest.raises(BadRequest, match="more than 1000 parts"):
        scanned(part(b"x") + form)


def test_it_allows_blanks_behind_a_delimiter():
    form = part(b"model", b"m").replace(BOUNDARY, BOUNDARY + b" \t ", 1) + END
    assert outcome([form]) == outcome([bytes([byte]) for byte in form])
    assert scanned(form).model.name == "m"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (part(b"model", b"a") + part(b"model", b"b") + END, "twice"),
        (part(b"model", b"a") + part(b"file", b"x" * 100_000) + part(b"model", b"b") + END, "twice"),
        (part(b"model", b"") + END, "not empty"),
        (part(b"model", b"x" * 300) + END, "at most 256"),
        (part(b"model", b"x" * 3000), "at most 256"),
        (part(b"model", b"a\nb") + END, "control"),
        (part(b"model", b"\xff") + END, "UTF-8"),
        (part(b"", b"a", disposition=b"form-data; name*=utf-8''model") + END, "plainly"),
        (part(b"", b"a", disposition=b'form-data; name="x"; name="model"') + END, "plainly"),
        (part(b"", b"a", disposition=b"form-data") + END, "plainly"),
        (part(b"x", b"a", extra=b'Content-Disposition: form-data; name="model"\r\n') + END, "plainly"),
        (
            part(b"x", b"a", extra=b'X: y\nContent-Disposition: form-data; name="model"\r\n') + END,
            "bare line",
        ),
        (part(b"", b"a", disposition=b'form-data;\r\n name="model"') + END, "folded"),
        (b"--" + BOUNDARY + b"\r\n\r\nvalue\r\n" + END, "plainly"),
        (b"--" + BOUNDARY + b"x\r\n", "behind a delimiter"),
        (part(b"model", b"m") + END + part(b"model", b"other"), "behind its end"),
        (part(b"model", b"m") + END[:-2] + END, "behind its end"),
        (part(b"model", b"m") + END.replace(b"--\r\n", b"----xyz-1"), "behind its end"),
        (b"x" + part(b"model", b"other") + part(b"model", b"m") + END, "within a line"),
        (b"\n" + part(b"model", b"other") + part(b"model", b"m") + END, "within a line"),
        (part(b"x", b"a")[:-2] + b"\n" + part(b"model", b"other") + END, "within a line"),
        (part(b"model", b"a")[:-2] + b"\n" + part(b"x", b"other") + END, "within a line"),
        (b"--" + BOUNDARY + b" " * (MAX_BLANKS + 1), "too long"),
        (b"--" + BOUNDARY + b"\r\nX: " + b"y" * MAX_PART_HEADERS, "too large"),
    ],
)
def test_it_refuses_what_could_be_read_in_two_ways(form, words):
    said = outcome([form])
    assert words in str(said)
    assert outcome([form[at : at + 1] for at in range(len(form))]) == said


def test_it_sees_a_part_right_behind_the_headers_of_another():
    """Some readers share one line end between them."""
    form = part(b"x")[:-2] + part(b"model", b"m") + END
    assert scanned(form).model.name == "m"


@given(st.data())
def test_any_bytes_have_one_outcome_for_every_split(data):
    pieces = st.sampled_from(
        [
            b"--xyz-1",
            b"--",
            b"\r\n",
            b"\r",
            b"\n",
            b" ",
            b"x",
            b"model",
            part(b"model", b"a"),
            part(b"f"),
            END,
        ]
    )
    form = b"".join(data.draw(st.lists(pieces, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(form)), max_size=6)))
    bounds = [0, *cuts, len(form)]
    split = [form[start:stop] for start, stop in itertools.pairwise(bounds)]
    assert outcome(split) == outcome([form])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; Boundary="a b+c"', b"a b+c"),
        ("multipart/form-data;boundary====a_1'== ; charset=x", b"===a_1'=="),
    ],
)
def test_it_reads_the_boundary(content_type, boundary):
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="\u00e9"',
        "multipart/form-data; boundary=a b",
        'multipart/form-data; boundary="a "',
        'multipart/form-data; boundary="a',
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a; boundary*=utf-8''b",
        "multipart/form-data; boundary=" + "a" * 201,
    ],
)
def test_it_refuses_a_form_without_a_usable_one(content_type):
    with pytest.raises(BadRequest, match="boundary"):
        boundary_of(content_type)
