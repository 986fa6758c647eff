"""Secrets at rest: Fernet tokens under rotatable keys.

Keys come from GATEWAY_SECRET_KEYS (first encrypts, all decrypt) or, on the embedded default,
from a generated 0600 file in the data directory. Any string is a key: it is stretched by
SHA-256, so an operator may paste what `openssl rand` prints.
"""

import base64
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured

_SEALED = "enc:"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SecretUnreadable(Exception):
    """A stored secret opens with none of the configured keys."""


def keys_from_file(path: Path) -> tuple[str, ...]:
    """Return the keys in `path`, one a line, newest first; make the file (0600) if absent."""
    if not path.exists():
        _make_key_file(path)
    keys = tuple(path.read_text().split())
    if not keys:
        raise ImproperlyConfigured(f"{path} holds no key: restore it, or delete it to start with a new one.")
    return keys


def _make_key_file(path: Path) -> None:
    """Put a complete file in place, unless another process was first: nobody ever reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


class Vault:
    """Seals and opens short secrets. Stateless but for its keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take `keys`, newest first; the first one seals."""
        self._fernet = MultiFernet([Fernet(_stretch(key)) for key in keys])

    def seal(self, secret: str) -> str:
        """Return what may be stored for `secret`: a reference as it is, else a token."""
        if not secret or reference(secret):
            return secret
        return _SEALED + self._fernet.encrypt(secret.encode()).decode()

    def open(self, stored: str, variables: Mapping[str, str] | None = None) -> str:
        """Return the secret behind `stored`; an unset `${VAR}` opens as the empty string.

        Raises SecretUnreadable when no key opens it.
        """
        name = reference(stored)
        if name:
            return (os.environ if variables is None else variables).get(name, "")
        if not sealed(stored):
            return stored
        try:
            return self._fernet.decrypt(stored.removeprefix(_SEALED)).decode()
        except (InvalidToken, ValueError):  # ValueError: not even ASCII
            raise SecretUnreadable("no key in GATEWAY_SECRET_KEYS opens this credential") from None

    def rotate(self, stored: str) -> str:
        """Return `stored` sealed anew under the newest key."""
        if not sealed(stored):
            return stored
        return self.seal(self.open(stored))

    def seal_bytes(self, content: bytes) -> bytes:
        """Encrypt a file's content."""
        return self._fernet.encrypt(content)

    def open_bytes(self, token: bytes) -> bytes:
        """Decrypt what `seal_bytes` made. Raises SecretUnreadable."""
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise SecretUnreadable("no key in GATEWAY_SECRET_KEYS opens this file") from None


def sealed(text: str) -> bool:
    """Is `text` a token that `Vault.seal` made?"""
    return text.startswith(_SEALED)


def reference(text: str) -> str:
    """Return VAR when `text` is `${VAR}`, else the empty string."""
    match = _REFERENCE.fullmatch(text.strip())
    return match[1] if match else ""


def _stretch(key: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(b"gateway-vault:" + key.encode()).digest())
