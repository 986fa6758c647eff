"""Ids of tool calls: made where a vendor gives none, and fitted where a vendor takes only its own kind.

Nothing here is random: the same bytes make the same id, however they were split, and a call's id and its
result's are fitted alike.
"""

import re
from hashlib import blake2b

import orjson

MAX_LENGTH = 40
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NINE = re.compile(r"[a-zA-Z0-9]{9}", re.ASCII)


def made_id(*marks: object) -> str:
    """Return an id for a call that came without one; `marks` tell it from all others, as far as they do."""
    return f"call_{blake2b(orjson.dumps(marks), digest_size=12).hexdigest()}"


def short(identity: str) -> str:
    """Return an id as OpenAI's chat takes it: one of at most 40 characters as it is, any other as a digest.

    "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40".
    """
    if len(identity) <= MAX_LENGTH:
        return identity
    return f"call_{blake2b(identity.encode(errors='replace'), digest_size=16).hexdigest()}"


def nine_letters(identity: str) -> str:
    """Return an id as Mistral demands it: one of nine letters and digits as it is, any other as a digest.

    "Tool call id was ... but must be a-z, A-Z, 0-9, with a length of 9":
    https://mistralai.github.io/mistral-common/usage/tools/#tool-calling-and-messages
    """
    if _NINE.fullmatch(identity):
        return identity
    number = int.from_bytes(blake2b(identity.encode(errors="replace"), digest_size=8).digest())
    letters = []
    for _ in range(9):
        number, place = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)
