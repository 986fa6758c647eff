"""Renderers write Events and Answers in the client's format: one small file for each format."""

from providers.call import Call
from proxy.completion import Completion
from proxy.renderers.base import KEEP_ALIVE, STREAM_CONTENT_TYPE, Renderer, RendererFactory, sse
from proxy.renderers.chat import ChatRenderer, enveloped
from proxy.renderers.completions import CompletionsRenderer
from proxy.renderers.messages import MessagesRenderer
from proxy.renderers.responses import ResponsesRenderer
from proxy.renderers.simple import SimpleRenderer

__all__ = [
    "KEEP_ALIVE",
    "STREAM_CONTENT_TYPE",
    "ChatRenderer",
    "CompletionsRenderer",
    "MessagesRenderer",
    "Renderer",
    "RendererFactory",
    "ResponsesRenderer",
    "SimpleRenderer",
    "chat",
    "completions",
    "enveloped",
    "messages",
    "responses",
    "simple",
    "sse",
]


def chat(completion: Completion, call: Call) -> Renderer:
    """Make OpenAI's renderer."""
    return ChatRenderer(completion, wants_usage=call.wants_usage)


def messages(completion: Completion, call: Call) -> Renderer:
    """Make Anthropic's renderer."""
    return MessagesRenderer(completion, call)


def responses(completion: Completion, call: Call) -> Renderer:
    """Make the Responses renderer."""
    return ResponsesRenderer(completion, call)


def completions(completion: Completion, call: Call) -> Renderer:
    """Make the text completions' renderer."""
    return CompletionsRenderer(completion, call)


def simple(completion: Completion, call: Call) -> Renderer:  # noqa: ARG001 - the factory's signature
    """Make the simple chat's renderer."""
    return SimpleRenderer(completion)
