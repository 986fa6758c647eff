"""What keeps the requests of one session together, so that they find their vendor's prompt cache warm."""

from collections.abc import Mapping
from typing import Any

from providers.call import Call

BY_USER = "user"
# OpenAI's fields, the most specific first: https://platform.openai.com/docs/api-reference/chat/create
_USER_FIELDS = ("prompt_cache_key", "safety_identifier", "user")


def affinity(sticky: str, call: Call, headers: Mapping[bytes, bytes]) -> bytes:
    """Return the key of a request's session, empty if it names none. `sticky`: as in Resolved."""
    if sticky != BY_USER:
        return headers.get(sticky.encode("latin-1", "replace"), b"")
    asked: Mapping[str, Any] = call.sent or call.body
    for name in _USER_FIELDS:
        value = asked.get(name)
        if isinstance(value, str) and value:
            return value.encode()
    metadata = asked.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, Mapping) else None  # Anthropic's place for it
    return user.encode() if isinstance(user, str) else b""
