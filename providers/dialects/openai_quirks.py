"""Fits a request to an OpenAI-compatible server whose row says how it differs from OpenAI."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from providers.dialects.params import HINTS, is_default, unsupported
from providers.upstream import Upstream


def path_for(path: str, upstream: Upstream) -> str:
    """Return an endpoint's path under the base URL, as the provider's row makes it (Azure: by deployment)."""
    template = upstream.account.path_template
    if template == "{path}":
        return path
    return template.replace("{model}", quote(upstream.model, safe="")).replace("{path}", path)


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
    changed: dict[str, Any] = {
        quirks.rename_params.get(name, name): value for name, value in body.items() if name not in left_out
    }
    if not quirks.stream_usage:
        changed.pop("stream_options", None)
    messages = _with_role(body.get("messages"), quirks.developer_role)
    if messages is not None:
        changed["messages"] = messages
    return (body if changed == body else changed), tuple(refused)


def _with_role(messages: Any, role: str) -> list[Any] | None:
    if role == "developer" or not isinstance(messages, list):
        return None
    return [
        {**message, "role": role}
        if isinstance(message, dict) and message.get("role") == "developer"
        else message
        for message in messages
    ]
