"""The form of an API key: `sk-gw-` + 43 characters of 256 random bits + a 6-character checksum.

The checksum lets a typo be refused without any lookup. A 256-bit random secret needs no slow
hash: plain SHA-256 is stored and looked up.
"""

import hashlib
import secrets
import zlib

PREFIX = "sk-gw-"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM_LENGTH = 6
MIN_SECRET_LENGTH = 20  # of an operator's own secret; ours have 55


def issue(prefix: str = PREFIX) -> str:
    """Return a new secret; other secrets of the same form begin with another `prefix`."""
    body = secrets.token_urlsafe(32)
    return f"{prefix}{body}{_checksum(body)}"


def well_formed(secret: str, prefix: str = PREFIX) -> bool:
    """Does the checksum hold? Secrets without the prefix carry none and pass."""
    if not secret.startswith(prefix):
        return True
    body = secret[len(prefix) : -_CHECKSUM_LENGTH]
    return bool(body) and body.isascii() and secret[-_CHECKSUM_LENGTH:] == _checksum(body)


def digest(secret: str) -> bytes:
    """Return the 32-byte SHA-256 that identifies the key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def display_prefix(secret: str, prefix: str = PREFIX) -> str:
    """Return what may be shown of a secret: enough to tell keys apart, useless to a thief."""
    return secret[: len(prefix) + 6] if secret.startswith(prefix) else secret[:4]


def _checksum(body: str) -> str:
    number, letters = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, remainder = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[remainder]
    return letters
