"""Projections of budgets: pure arithmetic, to the microsecond."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from analytics.dashboard.projection import Outlook, in_words, projected
from config.money import nanousd

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 1, tzinfo=BERLIN).astimezone(UTC)
END = datetime(2026, 12, 1, tzinfo=BERLIN).astimezone(UTC)
HALF = datetime(2026, 11, 16, tzinfo=BERLIN).astimezone(UTC)


def said(spent: str, limit: str, now: datetime = HALF, end: datetime | None = END) -> str:
    found = projected(spent=nanousd(spent), limit=nanousd(limit), start=START, end=end, now=now)
    return in_words(found, end=end, zone=BERLIN)


def test_it_says_when_a_budget_will_be_over():
    assert said("15.60", "24.00") == ("At this pace $31.20 by the end of 30 Nov: over the limit on 24 Nov.")


def test_it_says_that_a_budget_will_do():
    assert said("5", "24") == "At this pace $10.00 by the end of 30 Nov: within the limit."
    assert said("12", "24") == "At this pace $24.00 by the end of 30 Nov: within the limit."


def test_a_limit_is_reached_where_the_line_crosses_it():
    found = projected(spent=3 * 10**9, limit=4 * 10**9, start=START, end=END, now=HALF)
    assert found.over_at == START + (HALF - START) * 4 / 3
    assert found.at_end_nanousd == 6 * 10**9


@pytest.mark.parametrize(
    ("spent", "limit", "now", "end", "outlook"),
    [
        (0, 5, HALF, END, Outlook.NOTHING),
        (-5, 5, HALF, END, Outlook.NOTHING),
        (5, 5, HALF, END, Outlook.USED_UP),
        (0, 0, HALF, END, Outlook.USED_UP),
        (1, 5, HALF, None, Outlook.ENDLESS),
        (1, 5, START + timedelta(minutes=5), END, Outlook.EARLY),
        (1, 5, START, END, Outlook.EARLY),
        (2, 4, HALF, END, Outlook.WITHIN),
        (3, 4, HALF, END, Outlook.OVER),
    ],
)
def test_each_way_a_window_may_end(spent, limit, now, end, outlook):  # noqa: PLR0917 - a row of the table
    found = projected(spent=spent, limit=limit, start=START, end=end, now=now)
    assert found.outlook is outlook
    assert in_words(found, end=end, zone=BERLIN)


def test_a_used_up_budget_says_until_when():
    assert said("24", "24") == "Used up: requests that cost something are refused until 1 Dec 00:00."
    assert said("24", "24", end=None) == "Used up: requests that cost something are refused."


def test_near_the_end_it_names_the_hour():
    now = END - timedelta(days=1)
    spent = nanousd("23.5")
    found = projected(spent=spent, limit=nanousd("24"), start=START, end=END, now=now)
    assert " at 14:48." in in_words(found, end=END, zone=BERLIN)
