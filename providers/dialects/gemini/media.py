"""Images, sound and files of a canonical message as Gemini's parts: inlineData, or fileData for a URL.

Gemini fetches ordinary URLs, files of Cloud Storage (gs://) and its own Files API by itself:
https://ai.google.dev/gemini-api/docs/file-input-methods
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from providers.dialects.media import Media, media_of
from providers.errors import UnsupportedParameter

_TYPES = ("image_url", "input_audio", "file", "video_url")
_MIMES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
}
# Of a URL whose path does not say it.
_USUAL = {"image_url": "image/jpeg", "file": "application/pdf", "video_url": "video/mp4"}


def media_part(part: Any, where: str) -> dict[str, Any]:
    """Return Gemini's part; `where` names the canonical one in errors. Raises UnsupportedParameter."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in _TYPES:
        raise UnsupportedParameter(where, f"'{where}' is not a content part that Gemini takes.")
    media = media_of(_with_uri(part), where)
    if media.url:
        return {"fileData": {"mimeType": media.mime or _mime_at(media, kind), "fileUri": media.url}}
    return {"inlineData": {"mimeType": media.mime, "data": media.base64}}


def _with_uri(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part with a file's id as its URL where it is one: the Files API's ids may be URIs."""
    held = part.get("file")
    if part["type"] != "file" or not isinstance(held, dict):
        return part
    file_id = held.get("file_id")
    if not isinstance(file_id, str) or not file_id.startswith(("https://", "gs://")):
        return part
    return {"type": "file", "file": {**held, "file_url": file_id}}


def _mime_at(media: Media, kind: str) -> str:
    for name in (media.filename, _path(media.url)):
        found = _MIMES.get(name.rpartition(".")[2].lower())
        if found:
            return found
    return _USUAL[kind]


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # such as a broken IPv6 address
        return ""
