from datetime import UTC, datetime, timedelta, timezone

import pytest

from config.audit import hide
from config.words import dollars, moment, table


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (2_500_000_000, "$2.50"),
        (10**10, "$10.00"),
        (313_650, "$0.00031365"),
        (None, "unknown"),
        (-(5 * 10**8), "-$0.50"),
    ],
)
def test_it_writes_money_with_all_its_digits(nanousd, text):
    assert dollars(nanousd) == text


def test_it_writes_moments_in_utc():
    berlin = timezone(timedelta(hours=1))
    assert "2026-02-03 03:05:06" in moment(datetime(2026, 2, 3, 4, 5, 6, tzinfo=berlin))
    assert "2026-02-03 04:05:06" in moment(datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert moment(None) == "-"


def test_it_escapes_what_a_table_holds():
    html = table(("<h>",), [("<b>", 1)])
    assert "<th>&lt;h&gt;</th>" in html
    assert "<td>&lt;b&gt;</td><td>1</td>" in html


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("", "(none)"), ("None", "(none)"), ("{}", "(none)"), ("enc:abc", "(hidden)"), ("${KEY}", "${KEY}")],
)
def test_it_hides_secrets_from_the_audit_log_but_not_their_references(stored, shown):
    assert hide(stored) == shown
