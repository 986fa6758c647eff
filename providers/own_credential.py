"""A client's own credential in the configured one's place: how an account shows it, how errors hide it."""

import re
from collections.abc import Mapping
from dataclasses import replace

from providers.dialects import DIALECTS
from providers.errors import Owner, UpstreamError
from providers.upstream import Account

HIDDEN = "***"
MIN_PART = 4  # of a credential at the end of a text that was cut
# Headers of the operator's that show or name an account: they are not for another one.
_OF_AN_ACCOUNT = re.compile(
    r"auth|key|token|secret|cookie|credential|password|organi[sz]ation|project|account", re.IGNORECASE
)


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of a provider's extra headers that may go out beside anybody's credential."""
    return {name: value for name, value in headers.items() if not _OF_AN_ACCOUNT.search(name)}


def showing(account: Account, credential: str) -> Account:
    """Return an account by a client's own credential and by nothing else, for one request."""
    auth = DIALECTS[account.dialect].auth_headers(credential, account.auth_header)
    return replace(
        account,
        headers={**account.plain_headers, **auth},
        credential="",
        spares=(),
        own_credential=credential,
    )


def take_for_own(error: UpstreamError, account: Account) -> None:
    """Make a vendor's error one of the client's own credential, if that was shown; it quotes it no more.

    A refusal is then the client's to hear: nobody else is asked in its place, at somebody else's expense.
    """
    credential = account.own_credential
    if not credential:
        return
    error.message = hidden(error.message, credential)
    error.args = (error.message,)
    for name in ("code", "param", "kind"):
        told = getattr(error, name)
        if told:
            setattr(error, name, hidden(told, credential))
    if error.owner is Owner.CREDENTIAL:
        error.own_credential, error.retryable = True, False


def hidden(text: str, credential: str) -> str:
    """Return a text without a credential, nor the beginning of one where the text ends."""
    text = text.replace(credential, HIDDEN)
    for size in range(min(len(credential) - 1, len(text)), MIN_PART - 1, -1):
        if text.endswith(credential[:size]):
            return text[:-size] + HIDDEN
    return text
