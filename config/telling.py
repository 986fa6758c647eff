"""Tells people by e-mail and programs by POST, once each; to repeat what has failed is the caller's part."""

import time

import httpx
from django.core.mail import EmailMessage

from config.mail import MailNotConfigured
from config.signatures import SIGNATURE, signature

TIMEOUT_S = 10.0


class Untold(Exception):
    """Somebody was not told; the text says why, without an address or a secret. `lasting`: nor will be."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        """Say why."""
        super().__init__(message)
        self.lasting = lasting


def mail(message: EmailMessage) -> None:
    """Send a mail. Raises Untold."""
    try:
        message.send()
    except MailNotConfigured as problem:
        raise Untold(str(problem)) from None
    except (OSError, ValueError) as problem:  # smtplib's errors are OSErrors; a bad header is a ValueError
        raise Untold(f"{type(problem).__name__}: {problem}") from None


def post(url: str, body: bytes, *, secret: str) -> None:
    """POST a JSON body, signed if there is a `secret`: any 2xx takes it. Raises Untold.

    A URL may hold a secret, so no problem tells it.
    """
    headers = {"content-type": "application/json"}
    if secret:
        headers[SIGNATURE] = signature(body, secret.encode(), at=int(time.time()))
    if not url.startswith(("http://", "https://")):
        raise Untold("the webhook's URL does not start with http:// or https://" if url else "no URL is set")
    try:
        # Neither proxies from the environment nor redirects: it goes where the operator said.
        with (
            httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as reply,
        ):
            status, taken = reply.status_code, reply.is_success
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as problem:
        raise Untold(type(problem).__name__) from None
    if not taken:
        raise Untold(f"status {status}")
