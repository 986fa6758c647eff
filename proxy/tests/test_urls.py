import pytest

from proxy import views
from proxy.urls import READS_FORMS, find, is_data_plane


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
        ("/v1/moderations/more", views.not_found, {}),
        ("/v1/files/../models", views.not_found, {}),
        ("/v1/files/..", views.not_found, {}),
        ("/v1/files/a b", views.not_found, {}),
        ("/v1/files/*", views.not_found, {}),
        ("/v1/files//content", views.not_found, {}),
        ("/v1/batches/b/content", views.not_found, {}),
        ("/v1/", views.not_found, {}),
        ("/v1", views.not_found, {}),
    ],
)
def test_it_has_one_table_of_paths(path, view, arguments):
    assert is_data_plane(path)
    assert find(path) == (view, arguments)


@pytest.mark.parametrize(
    ("path", "name", "methods", "vendors"),
    [
        ("/v1/moderations", "moderations", ("POST",), "/moderations"),
        ("/v1/images/generations/", "images", ("POST",), "/images/generations"),
        ("/v1/images/edits", "images", ("POST",), "/images/edits"),
        ("/v1/images/variations", "images", ("POST",), "/images/variations"),
        ("/v1/audio/speech", "audio.speech", ("POST",), "/audio/speech"),
        ("/v1/audio/transcriptions", "audio.transcriptions", ("POST",), "/audio/transcriptions"),
        ("/v1/audio/translations", "audio.translations", ("POST",), "/audio/translations"),
        ("/v1/rerank", "rerank", ("POST",), "/rerank"),
        ("/v1/files", "files", ("GET", "POST"), "/files"),
        ("/v1/files/file-1", "files", ("GET", "DELETE"), "/files/file-1"),
        ("/v1/files/file-1/content", "files", ("GET",), "/files/file-1/content"),
        ("/v1/batches", "batches", ("GET", "POST"), "/batches"),
        ("/v1/batches/batch_1", "batches", ("GET",), "/batches/batch_1"),
        ("/v1/batches/batch_1/cancel", "batches", ("POST",), "/batches/batch_1/cancel"),
        ("/v1/responses/resp_1", "responses", ("GET", "DELETE"), "/responses/resp_1"),
        ("/v1/responses/resp_1/cancel", "responses", ("POST",), "/responses/resp_1/cancel"),
        ("/v1/responses/resp_1/input_items", "responses", ("GET",), "/responses/resp_1/input_items"),
    ],
)
def test_it_passes_on_what_it_does_not_translate(path, name, methods, vendors):
    view, arguments = find(path)
    assert (view, view in READS_FORMS) == (views.forwarded(*methods), True)
    assert (arguments["target"].name, arguments["path"]) == (name, vendors)


@pytest.mark.parametrize(
    "path", ["/", "", "/admin/", "/v1x", "/api/v1/keys", "/api/chat/more", "/healthz", "//v1/models"]
)
def test_it_leaves_the_rest_to_django(path):
    assert not is_data_plane(path)
