"""Provider rows to Accounts: credentials opened, and with each Account the same by its further credentials.

A provider whose own credential is missing goes by the first of its further ones. One that nothing opens
is a mistake of the whole configuration; one whose variable is not set is left out, with a warning.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.conf import settings

from config.vault import SecretUnreadable, Vault, reference
from providers import demo
from providers.dialects import DIALECTS
from providers.faults import Faults, faults_of
from providers.models import DEMO_URL
from providers.own_credential import plain
from providers.quirks import read_quirks
from providers.upstream import Account, Quirks, Timeouts
from proxy.snapshot import ConfigurationError

Row = Mapping[str, Any]
# A URL with a password or a key in it shows the operator's account, whatever the headers say.
_TELLING_URL = re.compile(r"//[^/]*@|[?&][\w-]*(?:key|token|auth|secret|password)[\w-]*=", re.IGNORECASE)


def compile_accounts(rows: Sequence[Row]) -> tuple[dict[str, Account], list[str]]:
    """Return the enabled providers' accounts by name, and warnings. Raises ConfigurationError."""
    vault = Vault(settings.SECRET_KEYS)
    accounts: dict[str, Account] = {}
    warnings: list[str] = []
    for row in rows:
        if row["enabled"]:
            account, remarks = _account(row, vault)
            accounts[account.name] = account
            if account.faults is not None:
                warnings.append(f"provider {account.name} fails on purpose: {account.faults}")
            warnings += [f"provider {account.name}: {remark}" for remark in remarks]
    return accounts, warnings


def _account(row: Row, vault: Vault) -> tuple[Account, list[str]]:
    """Return the account with its spares, and what is to be said about its credentials."""
    account = _without_credential(row)
    if not account.usable:
        return account, [account.why_unusable]
    own, missing = _opened(row["credential"], vault, row["name"])
    further, remarks = _further(row, vault)
    shown = [*([("", own)] if own else []), *further]
    if not shown and missing:
        return replace(account, usable=False, why_unusable=missing), [missing, *remarks]
    # A provider without any goes by its extra headers alone, as local servers do.
    account = replace(account, takes_credential=bool(shown) and _takes_another(account))
    first, *spares = [_showing(row, account, *each) for each in shown or [("", "")]]
    if missing:
        remarks = [f"{missing}: credential {first.credential} is used", *remarks]
    return replace(first, spares=tuple(spares)), remarks


def _takes_another(account: Account) -> bool:
    """May a client's own credential take the place of the configured one, and nothing show that any more?

    Where none is configured nobody knows whether the server would look at the client's.
    """
    shown_in_url = _TELLING_URL.search(account.base_url) or _TELLING_URL.search(account.path_template)
    return account.base_url != DEMO_URL and not shown_in_url


def _without_credential(row: Row) -> Account:
    name = row["name"]
    known = row["dialect"] in DIALECTS
    limit = row.get("max_concurrency")
    return Account(
        name=name,
        dialect=row["dialect"],
        base_url=row["base_url"] if row["base_url"] == DEMO_URL else row["base_url"].rstrip("/"),
        headers=row["extra_headers"],
        timeouts=_timeouts(row),
        max_connections=row["max_connections"],
        drop_unsupported_params=row["drop_unsupported_params"],
        shares_stored=row.get("shares_stored", False),
        path_template=row.get("path_template") or "{path}",
        quirks=demo.QUIRKS if row["base_url"] == DEMO_URL else _quirks(row.get("quirks") or {}, name),
        usable=known,
        why_unusable="" if known else f"this version does not speak the {row['dialect']} dialect",
        max_concurrency=None if limit is None else max(1, limit // settings.GATEWAY.workers),
        max_queue=row.get("max_queue", 100),
        queue_timeout_s=row.get("queue_timeout_s", 30.0),
        faults=_faults(row),
        auth_header=row["auth_header"],
        plain_headers=plain(row["extra_headers"]),
    )


def _faults(row: Row) -> Faults | None:
    """Return how the demo fails on purpose; None where it does not, and for every real vendor."""
    faults = faults_of(row)
    return faults if faults.on and row["base_url"] == DEMO_URL else None


def _showing(row: Row, account: Account, name: str, credential: str) -> Account:
    auth = DIALECTS[account.dialect].auth_headers(credential, row["auth_header"])
    return replace(account, headers={**account.headers, **auth}, credential=name)


def _further(row: Row, vault: Vault) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the names and secrets of the further credentials, and what is wrong with others."""
    usable, remarks = [], []
    for further in row.get("credentials", ()):
        where = f"{row['name']}, credential {further['name']}"
        secret, missing = _opened(further["credential"], vault, where)
        if secret:
            usable.append((further["name"], secret))
        else:
            remarks.append(f"credential {further['name']}: {missing or 'no key is stored'}")
    return usable, remarks


def _opened(stored: str, vault: Vault, where: str) -> tuple[str, str]:
    """Return the secret, and what it lacks where it is a reference to nothing."""
    try:
        secret = vault.open(stored)
    except SecretUnreadable as problem:
        raise ConfigurationError(f"provider {where}: {problem}") from None
    variable = reference(stored)
    return secret, f"the environment variable {variable} is not set" if variable and not secret else ""


def _quirks(value: Any, provider: str) -> Quirks:
    try:
        return read_quirks(value)
    except ValueError as problem:
        raise ConfigurationError(f"provider {provider}: quirks {problem}") from None


def _timeouts(row: Row) -> Timeouts:
    general = settings.GATEWAY.provider_timeout_s
    total = row["total_timeout_s"]
    return Timeouts(
        connect_s=row["connect_timeout_s"],
        first_content_s=row["first_content_timeout_s"] or general or 30.0,
        idle_s=row["idle_timeout_s"],
        total_s=total or 600.0,
        total_json_s=total or general or 600.0,
    )
