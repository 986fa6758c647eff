"""The data plane's one table of paths."""

from collections.abc import Mapping
from typing import Any

from proxy import views
from proxy.endpoints.forwarded import FORWARDED, forwarded_at
from proxy.views import View

EXACT: Mapping[str, View] = {
    "/v1/chat/completions": views.chat_completions,
    "/v1/completions": views.completions,
    "/v1/embeddings": views.embeddings,
    "/v1/messages": views.messages,
    "/v1/messages/count_tokens": views.count_tokens,
    "/v1/models": views.models,
    "/v1/limits": views.limits,
    "/v1/responses": views.responses,
    "/api/chat": views.simple,
    "/api/chat/stream": views.simple_stream,
    "/health": views.health,
    "/ready": views.ready,
    "/readiness": views.ready,
    "/metrics": views.metrics,
}
_MODELS = "/v1/models/"
# The views that take a form while it arrives.
READS_FORMS = frozenset(views.forwarded(*target.methods) for target in FORWARDED.values())


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
    passed_on = forwarded_at(path)
    if passed_on is not None:
        target, vendors = passed_on
        return views.forwarded(*target.methods), {"target": target, "path": vendors}
    return views.not_found, {}
