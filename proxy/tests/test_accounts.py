"""Providers' credentials and limits, compiled."""

import pytest

from config.vault import Vault
from proxy.snapshot import ConfigurationError
from proxy.tests.fakes import environment, make_snapshot, provider_row


def further(name, credential, **fields):
    return {"provider_id": 1, "name": name, "credential": credential, **fields}


def account_of(**fields):
    return make_snapshot(provider_row(**fields)).accounts["openai"]


def shown(account):
    """Return the names and keys that are shown, in their order."""
    return [
        (each.credential, each.headers.get("authorization", "").removeprefix("Bearer "))
        for each in (account, *account.spares)
    ]


def test_it_has_a_spare_for_each_further_credential(settings):
    sealed = Vault(settings.SECRET_KEYS).seal("second")
    account = account_of(
        credential="first",
        credentials=[further("b", sealed), further("c", "third")],
        extra_headers={"x-team": "blue"},
        max_connections=3,
    )
    assert shown(account) == [("", "first"), ("b", "second"), ("c", "third")]
    for spare in account.spares:
        assert (spare.name, spare.base_url, spare.max_connections) == ("openai", account.base_url, 3)
        assert (spare.timeouts, spare.spares, spare.headers["x-team"]) == (account.timeouts, (), "blue")


def test_it_shows_further_credentials_in_the_providers_own_header():
    account = account_of(credential="a", auth_header="Api-Key", credentials=[further("b", "second")])
    assert account.spares[0].headers == {"api-key": "second"}


def test_it_tells_no_secret():
    account = account_of(credential="first-key", credentials=[further("b", "second-key")])
    told = repr(account) + repr(account.spares) + repr(make_snapshot(provider_row()).upstream("openai", "m"))
    assert "-key" not in told


def test_it_has_no_spares_where_there_is_one_credential():
    assert account_of(credential="first").spares == ()
    assert account_of().spares == ()


@pytest.mark.parametrize("own", ["", "${NO_SUCH_VARIABLE_HERE}"])
def test_it_goes_by_a_further_credential_where_its_own_is_missing(own):
    account = account_of(credential=own, credentials=[further("b", "second"), further("c", "third")])
    assert (account.name, account.usable) == ("openai", True)
    assert shown(account) == [("b", "second"), ("c", "third")]


def test_it_says_which_credential_is_used_instead():
    row = provider_row(credential="${NO_SUCH_VARIABLE_HERE}", credentials=[further("b", "second")])
    assert make_snapshot(row).warnings == [
        "provider openai: the environment variable NO_SUCH_VARIABLE_HERE is not set: credential b is used"
    ]


def test_it_leaves_out_what_is_not_there_and_says_so():
    row = provider_row(
        credential="a", credentials=[further("b", "${NO_SUCH_VARIABLE_HERE}"), further("c", "")]
    )
    snapshot = make_snapshot(row)
    assert shown(snapshot.accounts["openai"]) == [("", "a")]
    assert snapshot.warnings == [
        "provider openai: credential b: the environment variable NO_SUCH_VARIABLE_HERE is not set",
        "provider openai: credential c: no key is stored",
    ]


def test_it_is_unusable_where_no_credential_is_there():
    row = provider_row(
        credential="${NO_SUCH_VARIABLE_HERE}", credentials=[further("b", "${NOR_THIS_ONE_HERE}")]
    )
    account = make_snapshot(row).accounts["openai"]
    assert not account.usable
    assert account.why_unusable == "the environment variable NO_SUCH_VARIABLE_HERE is not set"


def test_it_needs_no_credential_where_none_is_given():
    account = account_of(credentials=[])
    assert (account.usable, shown(account)) == (True, [("", "")])


def test_it_refuses_a_further_credential_that_no_key_opens():
    row = provider_row(credentials=[further("b", Vault(["another"]).seal("secret"))])
    with pytest.raises(ConfigurationError, match="provider openai, credential b: no key"):
        make_snapshot(row)


@pytest.mark.parametrize(
    ("limit", "workers", "each"), [(None, 4, None), (8, 1, 8), (8, 3, 2), (2, 4, 1), (1, 1, 1)]
)
def test_it_shares_the_calls_at_a_time_among_the_workers(settings, limit, workers, each):
    settings.GATEWAY = environment(workers=workers)
    assert account_of(max_concurrency=limit).max_concurrency == each


def test_it_compiles_the_line():
    account = account_of(max_queue=0, queue_timeout_s=1.5)
    assert (account.max_queue, account.queue_timeout_s) == (0, 1.5)


def test_it_compiles_rows_that_an_older_version_has_kept():
    row = provider_row(credential="a")
    for column in ("max_concurrency", "max_queue", "queue_timeout_s", "credentials"):
        del row[column]
    account = make_snapshot(row).accounts["openai"]
    assert (account.max_concurrency, account.max_queue, account.queue_timeout_s) == (None, 100, 30.0)
    assert account.spares == ()
