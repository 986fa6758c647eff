"""Moments as people write them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.moments import moment, moment_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        (" 2027-01-31 12:00:00Z ", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_it_reads_dates_and_times_in_utc(text, expected):
    assert moment(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "2027-02-30", "31.01.2027", "2027-01-31T25:00", "0001-01-01T00:00+05:00"]
)
def test_it_refuses_what_is_no_moment(text):
    with pytest.raises(ValueError, match="must be a date or time such as 2027-01-31"):
        moment(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_it_reads_back_what_it_writes(value):
    assert moment(moment_text(value)) == value


def test_it_writes_short():
    assert moment_text(datetime(2027, 1, 31, tzinfo=UTC)) == "2027-01-31"
    assert moment_text(datetime(2027, 1, 31, 12, tzinfo=UTC)) == "2027-01-31T12:00:00Z"
