"""The data plane's one table of paths."""

from collections.abc import Mapping
from typing import Any

from proxy import views
from proxy.views import View

EXACT: Mapping[str, View] = {
    "/v1/chat/completions": views.chat_completions,
    "/v1/completions": views.completions,
    "/v1/embeddings": views.embeddings,
    "/v1/messages": views.messages,
    "/v1/messages/count_tokens": views.count_tokens,
    "/v1/models": views.models,
    "/v1/responses": views.responses,
    "/api/chat": views.simple,
    "/api/chat/stream": views.simple_stream,
    "/health": views.health,
    "/ready": views.ready,
    "/readiness": views.ready,
    "/metrics": views.metrics,
}
_MODELS = "/v1/models/"


def is_data_plane(path: str) -> bool:
    """Is this path the lane's?"""
    return path in EXACT or path.startswith("/v1/") or path == "/v1" or path.rstrip("/") in EXACT


def find(path: str) -> tuple[View, Mapping[str, Any]]:
    """Return the view of a data-plane path and its arguments."""
    view = EXACT.get(path) or EXACT.get(path.rstrip("/"))
    if view is not None:
        return view, {}
    if path.startswith(_MODELS):
        return views.model, {"name": path[len(_MODELS) :].rstrip("/")}
    return views.not_found, {}
