"""Ids of tool calls that are made or fitted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.call_ids import made_id, nine_letters


@pytest.mark.parametrize("identity", ["rEJDoePqM", "123456789"])
def test_it_leaves_an_id_of_nine_letters_alone(identity):
    assert nine_letters(identity) == identity


@given(st.text())
def test_it_fits_any_other_id_always_alike(identity):
    fitted = nine_letters(identity)
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", fitted, re.ASCII)
    assert nine_letters(identity) == fitted


def test_it_keeps_ids_apart():
    assert len({nine_letters(f"call_{number}") for number in range(1000)}) == 1000
    assert made_id("model", "now", 0) != made_id("model", "now", 1)
    assert made_id("model", "now", 0) == made_id("model", "now", 0)
