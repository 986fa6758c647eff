"""Fits a request to an OpenAI-compatible server whose row says how it differs from OpenAI."""

import re
from collections.abc import Mapping
from typing import Any

from providers.dialects.params import HINTS, is_default, path_segment, unsupported
from providers.errors import UnsupportedParameter
from providers.upstream import Quirks, Upstream

_MODEL_SEGMENT = re.compile(r"(?:/deployments)?/[^/{}?]*\{model\}[^/{}?]*")
_MODEL_ARGUMENT = re.compile(r"(?<=[?&])[^?&=]+=\{model\}(?:&|$)")


def path_for(path: str, upstream: Upstream) -> str:
    """Return an endpoint's path under the base URL, as the provider's row makes it (Azure: by deployment).

    Raises UnsupportedParameter for a model that is no name but a step in the path.
    """
    template = upstream.account.path_template
    if template == "{path}":
        return path
    if "{model}" in template:
        template = template.replace("{model}", path_segment(upstream.model))
    return template.replace("{path}", path)


def path_without_model(path: str, template: str) -> str:
    """Return the path of what no single model serves: the list of models.

    Azure: /openai/deployments/{model}{path}?api-version=... -> /openai/models?api-version=...
    https://learn.microsoft.com/azure/ai-services/openai/reference#data-plane-inference
    """
    general = _MODEL_ARGUMENT.sub("", _MODEL_SEGMENT.sub("", template)).rstrip("?&")
    return general.replace("{model}", "").replace("{path}", path)


def fitted(body: Mapping[str, Any], upstream: Upstream) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the body as the server takes it (the same object where nothing changes), and what was dropped.

    Raises UnsupportedParameter.
    """
    quirks = upstream.account.quirks
    refused = [
        name for name in body if name in quirks.unsupported_params and not is_default(name, body[name])
    ]
    for name in refused:
        if name not in HINTS and not upstream.account.drop_unsupported_params:
            raise unsupported(name, upstream)
    left_out = quirks.unsupported_params.intersection(body)
    changed = _renamed({name: value for name, value in body.items() if name not in left_out}, quirks)
    if not quirks.stream_usage and changed.pop("stream_options", None):
        refused.append("stream_options")
    messages = _with_role(body.get("messages"), quirks.developer_role)
    if messages is not None:
        changed["messages"] = messages
    return (body if changed == body else changed), tuple(refused)


def _renamed(body: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    """Return the body under the server's names. Raises UnsupportedParameter for two values of one name."""
    if quirks.rename_params.keys().isdisjoint(body):
        return body
    changed: dict[str, Any] = {}
    for name, value in body.items():
        theirs = quirks.rename_params.get(name, name)
        known = changed.get(theirs)
        if known is not None and value is not None and known != value:
            raise UnsupportedParameter(
                name, f"{name!r} and another parameter both set this provider's {theirs!r}: send one of them."
            )
        if known is None:
            changed[theirs] = value
    return changed


def _with_role(messages: Any, role: str) -> list[Any] | None:
    if role == "developer" or not isinstance(messages, list):
        return None
    return [
        {**message, "role": role}
        if isinstance(message, dict) and message.get("role") == "developer"
        else message
        for message in messages
    ]
