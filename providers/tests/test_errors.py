from email.utils import formatdate

import pytest

from providers.errors import MAX_MESSAGE, Owner, UnsupportedParameter, UpstreamError, retry_after_s, text_of

# Sun, 21 Nov 2027 08:49:37 GMT
DATE, MOMENT = "Sun, 21 Nov 2027 08:49:37 GMT", 1_826_786_977.0


@pytest.mark.parametrize("owner", list(Owner))
def test_it_lets_the_next_target_try_unless_the_caller_is_wrong(owner):
    assert UpstreamError("no", owner=owner).retryable is (owner is not Owner.CALLER)
    assert UpstreamError("no", owner=owner, retryable=True).retryable is True
    assert UpstreamError("no", owner=owner, retryable=False).retryable is False


def test_it_cuts_a_vendors_long_message():
    error = UpstreamError("x" * 10_000, owner=Owner.HEALTH)
    assert error.message == str(error) == "x" * MAX_MESSAGE


def test_it_names_the_parameter_a_vendor_lacks():
    problem = UnsupportedParameter("logit_bias", "anthropic has no logit_bias")
    assert (problem.param, problem.message) == ("logit_bias", str(problem))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "  "}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 20 "}, 20.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_it_reads_retry_after(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_it_counts_to_a_date():
    assert retry_after_s({"retry-after": DATE, "date": formatdate(MOMENT - 30, usegmt=True)}) == 30.0
    assert retry_after_s({"retry-after": DATE, "date": formatdate(MOMENT + 30, usegmt=True)}) == 0.0
    assert retry_after_s({"retry-after": DATE}) is None


@pytest.mark.parametrize(
    "text", ["²", "1²", ".", "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 99 Jan 2024", "\x00"]
)
def test_it_ignores_a_retry_after_that_makes_no_sense(text):
    assert retry_after_s({"retry-after": text}) is None
    assert retry_after_s({"retry-after-ms": text}) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ({}, None), ([1], None), ("words", "words"), (429, "429"), ("", ""), (True, "True")],
)
def test_it_reads_a_field_as_text(value, text):
    assert text_of(value) == text
