import pytest

from proxy import views
from proxy.urls import find, is_data_plane


@pytest.mark.parametrize(
    ("path", "view", "arguments"),
    [
        ("/v1/chat/completions", views.chat_completions, {}),
        ("/v1/chat/completions/", views.chat_completions, {}),
        ("/v1/completions", views.completions, {}),
        ("/v1/embeddings", views.embeddings, {}),
        ("/v1/messages", views.messages, {}),
        ("/v1/messages/", views.messages, {}),
        ("/v1/messages/count_tokens", views.count_tokens, {}),
        ("/v1/messages/batches", views.not_found, {}),
        ("/v1/models", views.models, {}),
        ("/v1/models/", views.models, {}),
        ("/v1/models/openai/gpt-4o", views.model, {"name": "openai/gpt-4o"}),
        ("/v1/models/gpt-4o/", views.model, {"name": "gpt-4o"}),
        ("/api/chat", views.simple, {}),
        ("/api/chat/stream", views.simple_stream, {}),
        ("/health", views.health, {}),
        ("/ready", views.ready, {}),
        ("/readiness", views.ready, {}),
        ("/metrics", views.metrics, {}),
        ("/v1/nothing", views.not_found, {}),
        ("/v1/", views.not_found, {}),
        ("/v1", views.not_found, {}),
    ],
)
def test_it_has_one_table_of_paths(path, view, arguments):
    assert is_data_plane(path)
    assert find(path) == (view, arguments)


@pytest.mark.parametrize(
    "path", ["/", "", "/admin/", "/v1x", "/api/v1/keys", "/api/chat/more", "/healthz", "//v1/models"]
)
def test_it_leaves_the_rest_to_django(path):
    assert not is_data_plane(path)
