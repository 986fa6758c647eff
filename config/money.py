"""Money is an integer of nano-dollars; people read and write decimal dollars."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

NANO = 10**9
# What a column holds: about 9.2 thousand million dollars.
_MOST, _MOST_DIGITS = 2**63 - 1, 9
# The usual context rounds to 28 digits in silence.
_EXACT = Context(prec=60, traps=[Inexact])


def usd(nanousd: int) -> str:
    """Return `nanousd` as a plain decimal string of dollars: 1_500_000_000 -> "1.5"."""
    text = format(Decimal(nanousd) / NANO, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def nanousd(dollars: str | Decimal | int) -> int:
    """Return dollars as nano-dollars, exactly. Raises ValueError when it is not exact."""
    try:
        amount = Decimal(str(dollars))
    except InvalidOperation:
        raise ValueError("must be a decimal number of dollars") from None
    if not amount.is_finite():
        raise ValueError("must be a finite number of dollars")
    if not amount:
        return 0
    if amount.adjusted() > _MOST_DIGITS:  # before int() would spell 1e999999 out
        raise ValueError("is more than the ledger can hold")
    try:
        scaled = _EXACT.multiply(amount, NANO)
    except Inexact:
        raise ValueError("has more than nine decimal places") from None
    if scaled != scaled.to_integral_value():
        raise ValueError("has more than nine decimal places")
    if abs(scaled) > _MOST:
        raise ValueError("is more than the ledger can hold")
    return int(scaled)


class UsdFormField(forms.DecimalField):
    """A decimal number of dollars whose value is nano-dollars."""

    def __init__(self, **options: Any) -> None:
        """Allow nine decimals: a nano-dollar."""
        super().__init__(max_digits=18, decimal_places=9, **options)

    def prepare_value(self, value: Any) -> Any:
        """Show stored nano-dollars as dollars; typed text stays as typed."""
        return usd(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        """Return nano-dollars."""
        dollars = super().clean(value)
        if dollars is None:
            return None
        try:
            return nanousd(dollars)
        except ValueError as problem:
            raise ValidationError(str(problem)) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as dollars: 0.150 typed over a stored 0.15 is no change."""
        return super().has_changed(self.to_python(self.prepare_value(initial)), data)


class UsdField(models.BigIntegerField):  # type: ignore[type-arg]  # generic only in the stubs
    """Nano-dollars in the database, decimal dollars in forms."""

    def formfield(self, **options: Any) -> Any:
        """Use the dollar form field."""
        options.pop("widget", None)
        return models.Field.formfield(self, **{"form_class": UsdFormField, **options})
