"""Values as the admin shows them to people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils.html import format_html, format_html_join

from config.money import usd

CENT = 10**7  # nano-dollars


def dollars(nanousd: int | None, *, unknown: str = "unknown") -> str:
    """Return nano-dollars for people: all their digits, and two decimals at least."""
    if nanousd is None:
        return unknown
    whole, _, decimals = usd(abs(nanousd)).partition(".")
    return f"{'-' if nanousd < 0 else ''}${whole}.{decimals:0<2}"


def about(nanousd: int) -> str:
    """Return dollars to the cent, or all digits of less than a cent."""
    if abs(nanousd) < CENT:
        return dollars(nanousd)
    return f"${round(nanousd / CENT) / 100:,.2f}"


def signed_dollars(nanousd: int) -> str:
    """Return a difference: as `dollars`, with a plus where it is more."""
    return f"+{dollars(nanousd)}" if nanousd > 0 else dollars(nanousd)


def duration(milliseconds: float | None) -> str:
    """Return milliseconds for people: "12.3 ms", "1.25 s"."""
    if milliseconds is None:
        return "-"
    # No-break spaces: a number and its unit are one word.
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:,.2f}\N{NO-BREAK SPACE}s"
    return f"{milliseconds:,.1f}\N{NO-BREAK SPACE}ms"


def moment(at: datetime | None) -> str:
    """Return a time (UTC) to the second, on one line, in an order that sorts."""
    if at is None:
        return "-"
    return format_html('<span class="gw-nowrap">{}</span>', f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}")


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a small table of text, escaped."""
    return format_html(
        '<table class="gw-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>',
        format_html_join("", "<th>{}</th>", ((head,) for head in heads)),
        format_html_join("", "<tr>{}</tr>", ((_cells(row),) for row in rows)),
    )


def _cells(row: Sequence[Any]) -> str:
    return format_html_join("", "<td>{}</td>", ((cell,) for cell in row))
