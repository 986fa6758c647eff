"""What each endpoint takes: body bytes to a Call, or a 400 that names the field and the rule."""

from proxy.endpoints.base import Endpoint
from proxy.endpoints.chat import CHAT_COMPLETIONS, parse_chat
from proxy.endpoints.embeddings import EMBEDDING, parse_embeddings
from proxy.endpoints.simple import read_message, simple_chat

__all__ = [
    "CHAT_COMPLETIONS",
    "EMBEDDING",
    "Endpoint",
    "parse_chat",
    "parse_embeddings",
    "read_message",
    "simple_chat",
]
