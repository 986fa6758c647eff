import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import secret as secrets

URL_SAFE = string.ascii_letters + string.digits + "-_"
BODIES = st.text(URL_SAFE, min_size=43, max_size=43)


def issued(body):
    return f"{secrets.PREFIX}{body}{secrets._checksum(body)}"


def test_it_issues_256_random_bits_with_prefix_and_checksum():
    once, again = secrets.issue(), secrets.issue()
    assert once != again
    assert once.startswith("sk-gw-")
    assert len(once) == len("sk-gw-") + 43 + 6
    assert set(once) <= set(URL_SAFE)
    assert secrets.well_formed(once)


@given(BODIES, st.data())
def test_it_catches_every_mistyped_character(body, data):
    secret = issued(body)
    assert secrets.well_formed(secret)
    place = data.draw(st.integers(len(secrets.PREFIX), len(secret) - 1))
    wrong = data.draw(st.characters(exclude_categories=["Cs"], exclude_characters=secret[place]))
    assert not secrets.well_formed(secret[:place] + wrong + secret[place + 1 :])


@given(BODIES, st.data())
def test_it_catches_two_neighbours_changed_over(body, data):
    secret = issued(body)
    place = data.draw(st.integers(len(secrets.PREFIX), len(secret) - 2))
    swapped = secret[:place] + secret[place + 1] + secret[place] + secret[place + 2 :]
    assert secrets.well_formed(swapped) is (swapped == secret)


@pytest.mark.parametrize(
    "secret", ["sk-gw-", "sk-gw-abc", "sk-gw-abcdef", "sk-gw-" + "a" * 49, "sk-gw-é" * 7]
)
def test_it_catches_what_is_no_secret_at_all(secret):
    assert not secrets.well_formed(secret)


@pytest.mark.parametrize("secret", ["", "any-24-chars-or-more-here", "sk-proj-abc", "SK-GW-abc"])
def test_it_demands_no_checksum_of_other_peoples_secrets(secret):
    assert secrets.well_formed(secret)


@given(st.text())
def test_it_looks_a_secret_up_by_its_sha256(secret):
    assert secrets.digest(secret) == hashlib.sha256(secret.encode()).digest()
    assert len(secrets.digest(secret)) == 32


def test_it_digests_what_a_terminal_could_not_decode():
    assert secrets.digest("caf\udce9") == hashlib.sha256(b"caf\xe9").digest()


def test_it_judges_what_a_terminal_could_not_decode():
    assert not secrets.well_formed("sk-gw-" + "\udce9" * 49)


@given(BODIES)
def test_it_shows_too_little_to_be_of_use(body):
    shown = secrets.display_prefix(issued(body))
    assert shown == f"sk-gw-{body[:6]}"


def test_it_shows_less_of_a_secret_that_somebody_chose():
    assert secrets.display_prefix("correct horse battery staple") == "corr"
