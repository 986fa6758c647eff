"""Reads vendors' cost exports: CSV files whose columns are recognised by their headers.

All of a file is read, or nothing: each line that makes no sense is named by its number and column. What a
vendor splits up (by kind of token, project, workspace, key) is added up by day and model.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import NamedTuple

from config.money import NANO

MOST_PROBLEMS = 50
_MOST_NANOUSD = 2**63 - 1
_MOST_TOKENS = 10**15


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns hold what, in one vendor's export. `instead`: what names a cost that is no model's."""

    name: str
    day: Sequence[str]
    model: Sequence[str]
    cost: Sequence[str]
    currency: Sequence[str] = ()
    input_tokens: Sequence[str] = ()
    output_tokens: Sequence[str] = ()
    instead: Sequence[str] = ()


# In each sequence the first column that a file has is taken. The first layout that a file fits is.
LAYOUTS = (
    # Console > Cost > Export: one line per day, model, workspace, key and kind of token.
    Layout(
        "Anthropic cost export",
        day=("usage_date_utc",),
        model=("model", "model_version"),
        cost=("cost_usd",),
        instead=("cost_type", "usage_type", "token_type"),
    ),
    # Usage > Export > Cost data, grouped by line item: "gpt-4o-2024-08-06, input" and so on, per day.
    Layout(
        "OpenAI cost export",
        day=("start_time_iso", "start_time"),
        model=("model", "line_item"),
        cost=("amount_value", "cost_usd"),
        currency=("amount_currency",),
    ),
    Layout(
        "generic",
        day=("date", "day"),
        model=("model",),
        cost=("cost_usd", "cost"),
        currency=("currency",),
        input_tokens=("input_tokens",),
        output_tokens=("output_tokens",),
    ),
)


class Problem(NamedTuple):
    """What is wrong in which line, and in which column if in one."""

    line: int
    column: str
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}, {self.column}" if self.column else f"line {self.line}"
        return f"{where}: {self.text}"


class BadExport(ValueError):
    """A file that cannot be read. `problems` are the first of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Say them all."""
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class DayCost(NamedTuple):
    """What a model cost on a day (UTC). Tokens are None where the file does not count them."""

    day: date
    model: str
    cost_nanousd: int
    input_tokens: int | None
    output_tokens: int | None


class Export(NamedTuple):
    """A whole file."""

    layout: str
    lines: int
    costs: Sequence[DayCost]


def read_export(content: bytes) -> Export:
    """Return what a file says. Raises BadExport."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadExport([Problem(1, "", "is not text in UTF-8: is it a CSV file?")]) from None
    lines = _lines(text)
    number, header = next(lines, (1, []))
    names = [name.strip().lower() for name in header]
    layout = _layout(names, number)
    sums: dict[tuple[date, str], list[Decimal | int | None]] = {}
    problems: list[Problem] = []
    count = 0
    for number, fields in lines:
        count += 1
        reading = _Line(layout, names, fields, number)
        reading.add_to(sums)
        problems += reading.problems
        if len(problems) >= MOST_PROBLEMS:
            break
    if not count:
        problems.append(Problem(number + 1, "", "there is no line below the header"))
    if problems:
        raise BadExport(problems[:MOST_PROBLEMS])
    return Export(layout.name, count, [_day_cost(key, values) for key, values in sorted(sums.items())])


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not empty, with the number of each one's last line."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as problem:
        raise BadExport([Problem(reader.line_num, "", f"is no CSV: {problem}")]) from None


def _layout(names: Sequence[str], line: int) -> Layout:
    for layout in LAYOUTS:
        needed = (layout.day, layout.model, layout.cost)
        if all(_first(names, columns) for columns in needed):
            return layout
    known = "; ".join(
        f"{layout.name}: " + ", ".join("|".join(each) for each in (layout.day, layout.model, layout.cost))
        for layout in LAYOUTS
    )
    found = ", ".join(filter(None, names)) or "nothing"
    raise BadExport([Problem(line, "", f"the header has {found}; needed are the columns of one of {known}")])


def _first(names: Sequence[str], columns: Sequence[str]) -> str:
    return next((column for column in columns if column in names), "")


def _day_cost(key: tuple[date, str], values: Sequence[Decimal | int | None]) -> DayCost:
    cost, input_tokens, output_tokens = values
    assert cost is not None
    nanousd = int((Decimal(cost) * NANO).to_integral_value(ROUND_HALF_UP))
    if abs(nanousd) > _MOST_NANOUSD:
        raise BadExport(
            [Problem(1, "", f"its lines of {key[1]} on {key[0]} add up to more than can be held")]
        )
    return DayCost(*key, nanousd, _whole(input_tokens), _whole(output_tokens))


def _whole(value: Decimal | int | None) -> int | None:
    return None if value is None else int(value)


class _Line:
    """Reads one line, and collects what is wrong in it."""

    def __init__(self, layout: Layout, names: Sequence[str], fields: Sequence[str], number: int) -> None:
        self._layout, self._names, self._number = layout, names, number
        self._fields: Mapping[str, str] = {
            name: field.strip() for name, field in zip(names, fields, strict=False)
        }
        self.problems: list[Problem] = []
        if len(fields) != len(names):
            self._wrong("", f"has {len(fields)} fields, the header {len(names)}")

    def add_to(self, sums: dict[tuple[date, str], list[Decimal | int | None]]) -> None:
        """Add the line to its day and model, unless something is wrong."""
        if self.problems:
            return
        layout = self._layout
        day, model, cost = self._day(), self._model(), self._cost()
        self._dollars()
        tokens = [self._count(layout.input_tokens), self._count(layout.output_tokens)]
        if self.problems or day is None or cost is None:
            return
        known = sums.setdefault((day, model), [Decimal(0), None, None])
        for place, value in enumerate([cost, *tokens]):
            if value is not None:
                known[place] = value + (known[place] or 0)

    def _day(self) -> date | None:
        column, text = self._field(self._layout.day)
        try:
            if text.isascii() and text.isdigit() and len(text) > 8:  # seconds since 1970
                return datetime.fromtimestamp(int(text), UTC).date()
            moment = datetime.fromisoformat(text)
            return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
        except (ValueError, OverflowError, OSError):
            self._wrong(column, f"{text[:40]!r} is no date such as 2026-01-31")
            return None

    def _model(self) -> str:
        column, text = self._field(self._layout.model)
        model = text.partition(",")[0].strip()  # "gpt-4o-2024-08-06, input"
        if not model:
            _, other = self._field(self._layout.instead)
            if other:
                return f"({other})"[:200]
            self._wrong(column, "is empty")
        return model[:200]

    def _cost(self) -> Decimal | None:
        column, text = self._field(self._layout.cost)
        try:
            cost = Decimal(text.removeprefix("$"))
        except InvalidOperation:
            self._wrong(column, f"{text[:40]!r} is no amount of dollars such as 12.34")
            return None
        if not cost.is_finite() or abs(cost) * NANO > _MOST_NANOUSD:
            self._wrong(column, f"{text[:40]!r} is no amount that the ledger can hold")
            return None
        return cost

    def _dollars(self) -> None:
        column, text = self._field(self._layout.currency)
        if column and text.lower() not in {"", "usd"}:
            self._wrong(column, f"{text[:40]!r}: only US dollars are compared")

    def _count(self, columns: Sequence[str]) -> int | None:
        column, text = self._field(columns)
        if not text:
            return None
        if not (text.isascii() and text.isdigit()) or int(text) > _MOST_TOKENS:
            self._wrong(column, f"{text[:40]!r} is no count of tokens")
            return None
        return int(text)

    def _field(self, columns: Sequence[str]) -> tuple[str, str]:
        column = _first(self._names, columns)
        return column, self._fields.get(column, "") if column else ""

    def _wrong(self, column: str, text: str) -> None:
        self.problems.append(Problem(self._number, column, text))
