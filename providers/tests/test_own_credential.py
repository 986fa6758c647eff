"""A client's own credential: shown in the vendor's own way, and quoted in no error."""

import pytest

from providers.errors import Owner, UpstreamError
from providers.own_credential import hidden, plain, showing, take_for_own
from providers.tests.samples import make_upstream

OWN = "sk-own-0123456789-of-the-client"
CONFIGURED = "sk-configured-of-the-operator"


def account_of(dialect="openai", **fields):
    headers = {"authorization": f"Bearer {CONFIGURED}", "x-api-key": CONFIGURED, "x-goog-api-key": CONFIGURED}
    return make_upstream("vendor", dialect=dialect, headers=headers, **fields).account


@pytest.mark.parametrize(
    ("dialect", "header", "headers"),
    [
        ("openai", "", {"authorization": f"Bearer {OWN}"}),
        ("openai", "api-key", {"api-key": OWN}),
        ("anthropic", "", {"x-api-key": OWN}),
        ("gemini", "", {"x-goog-api-key": OWN}),
        ("mistral", "", {"authorization": f"Bearer {OWN}"}),
        ("ollama", "", {"authorization": f"Bearer {OWN}"}),
    ],
)
def test_it_is_shown_as_the_vendor_wants_it_and_beside_nothing_configured(dialect, header, headers):
    account = showing(account_of(dialect, auth_header=header), OWN)
    shown = {name.lower(): value for name, value in account.headers.items()}
    assert headers.items() <= shown.items()
    assert CONFIGURED not in str(shown)
    assert account.own_credential == OWN
    assert account.name == "vendor"


def test_it_is_shown_without_spares_and_not_in_a_repr():
    configured = account_of()
    account = showing(account_of(spares=(configured,)), OWN)
    assert account.spares == ()
    assert OWN not in repr(account)


def test_it_is_shown_beside_those_extra_headers_that_name_no_account():
    extra = {
        "HTTP-Referer": "https://example.com",
        "anthropic-version": "2023-06-01",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
        "Authorization": "Basic b3BlcmF0b3I=",
        "X-Goog-Api-Key": "k",
        "cf-aig-authorization": "k",
        "Cookie": "session=1",
        "x-secret": "k",
        "x-access-token": "k",
    }
    assert set(plain(extra)) == {"HTTP-Referer", "anthropic-version"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Incorrect API key provided: {}.", "Incorrect API key provided: ***."),
        ("{} and {}", "*** and ***"),
        ("no such model", "no such model"),
        ("", ""),
        (OWN[:-1], "***"),
        (f"cut off: {OWN[:9]}", "cut off: ***"),
        ("sk-", "sk-"),
    ],
)
def test_it_is_hidden_in_what_a_vendor_says(text, told):
    assert hidden(text.format(OWN, OWN), OWN) == told


def error(owner, **fields):
    return UpstreamError(f"said of {OWN}", owner=owner, code=OWN, param=OWN, kind=OWN, **fields)


@pytest.mark.parametrize("owner", Owner)
def test_no_part_of_an_error_quotes_it(owner):
    account, problem = showing(account_of(), OWN), error(owner)
    take_for_own(problem, account)
    told = [str(problem), repr(problem), problem.message, problem.code, problem.param, problem.kind]
    assert OWN not in str(told)
    assert problem.message == "said of ***"


def test_its_refusal_is_the_clients_to_hear():
    account, problem = showing(account_of(), OWN), error(Owner.CREDENTIAL)
    take_for_own(problem, account)
    assert (problem.own_credential, problem.retryable) == (True, False)


@pytest.mark.parametrize("owner", [Owner.HEALTH, Owner.CAPACITY])
def test_other_failures_stay_what_they_are(owner):
    account, problem = showing(account_of(), OWN), error(owner)
    take_for_own(problem, account)
    assert (problem.own_credential, problem.retryable) == (False, True)


def test_a_refusal_of_the_configured_one_stays_the_operators():
    problem = error(Owner.CREDENTIAL)
    take_for_own(problem, account_of())
    assert (problem.own_credential, problem.retryable) == (False, True)
