"""Dollars and nano-dollars: exact both ways, or refused."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from config.money import UsdField, UsdFormField, nanousd, usd


@pytest.mark.parametrize(
    ("dollars", "expected"),
    [
        ("0", 0),
        ("0.000", 0),
        ("0e9999", 0),
        ("1", 10**9),
        (25, 25 * 10**9),
        ("25.00", 25 * 10**9),
        ("0.15", 150_000_000),
        ("1e2", 10**11),
        (Decimal("0.000000001"), 1),
        ("-0.5", -500_000_000),
        (" 5 ", 5 * 10**9),
        ("1." + "0" * 40, 10**9),
        ("9223372036.854775807", 2**63 - 1),
    ],
)
def test_it_reads_dollars_exactly(dollars, expected):
    assert nanousd(dollars) == expected


@pytest.mark.parametrize(
    ("dollars", "message"),
    [
        ("five", "must be a decimal number"),
        ("", "must be a decimal number"),
        ("1,5", "must be a decimal number"),
        ("NaN", "must be a finite number"),
        ("sNaN", "must be a finite number"),
        ("Infinity", "must be a finite number"),
        ("0.0000000001", "more than nine decimal places"),
        ("1.0000000000000000000000000000000001", "more than nine decimal places"),
        ("1." + "0" * 80 + "1", "more than nine decimal places"),
        ("1e-999999", "more than nine decimal places"),
        ("9223372036.854775808", "more than the ledger can hold"),
        ("1e999999", "more than the ledger can hold"),
        ("-1e30", "more than the ledger can hold"),
    ],
)
def test_it_refuses_what_it_cannot_hold_exactly(dollars, message):
    with pytest.raises(ValueError, match=message):
        nanousd(dollars)


@given(st.integers(-(2**63), 2**63 - 1).filter(lambda amount: abs(amount) < 2**63))
def test_it_writes_what_it_reads_back(amount):
    assert nanousd(usd(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (10**10, "10"),
        (1_500_000_000, "1.5"),
        (-1, "-0.000000001"),
        (10**20, "100000000000"),
    ],
)
def test_it_writes_plain_decimals(amount, expected):
    assert usd(amount) == expected


def test_a_form_takes_dollars_and_gives_nano_dollars():
    field = UsdFormField(required=False)
    assert field.clean("0.15") == 150_000_000
    assert field.clean("") is None
    assert field.prepare_value(150_000_000) == "0.15"
    assert field.prepare_value("0.1x") == "0.1x"  # shown again as typed
    with pytest.raises(ValidationError):
        field.clean("0.0000000001")


@pytest.mark.parametrize(
    ("typed", "changed"), [("0.15", False), ("0.150", False), ("0.16", True), ("", True)]
)
def test_a_form_notices_a_change_of_dollars_not_of_writing(typed, changed):
    assert UsdFormField(required=False).has_changed(150_000_000, typed) is changed


def test_a_model_field_is_typed_in_dollars():
    assert isinstance(UsdField().formfield(), UsdFormField)
