"""Images and files in a canonical request: data URLs taken apart, ordinary URLs as they are."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from providers.dialects.params import invalid
from providers.errors import UnsupportedParameter

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*?)(;base64)?,", re.IGNORECASE)


class Media(NamedTuple):
    """Inline bytes (`base64`, `mime` known) or a `url` that the vendor or somebody else fetches."""

    mime: str = ""
    base64: str = ""
    url: str = ""
    filename: str = ""


def media_of(part: Mapping[str, Any], where: str) -> Media:
    """Return what an `image_url`, `input_audio` or `file` part holds; `where` names it in errors.

    A `file_id` is not media: it means nothing to another vendor. Raises UnsupportedParameter.
    """
    holder = part.get(str(part.get("type")))
    if isinstance(holder, str):  # Mistral's short form: {"type": "image_url", "image_url": "https://..."}
        holder = {"url": holder}
    if not isinstance(holder, dict):
        raise invalid(where, "is not a content part of a known type")
    if part["type"] == "input_audio":
        return Media(mime=f"audio/{holder.get('format') or 'wav'}", base64=str(holder.get("data") or ""))
    name = str(holder.get("filename") or "")
    url = holder.get("url") or holder.get("file_data") or holder.get("file_url")
    if not isinstance(url, str) or not url:
        raise UnsupportedParameter(where, f"'{where}' has neither a URL nor data that can be sent on.")
    return media_at(url, where, filename=name)


def media_at(url: str, where: str, *, filename: str = "") -> Media:
    """Return the media that a URL holds (data:) or names. Raises UnsupportedParameter."""
    if url[:5].lower() != "data:":
        if url[:7].lower() == "http://" or url[:8].lower() == "https://" or url[:5] == "gs://":
            return Media(url=url, filename=filename)
        # OpenAI takes file_data as bare base64, too.
        return Media(mime="application/pdf", base64=url, filename=filename)
    found = _DATA_URL.match(url)
    if found is None or not found[3]:
        raise invalid(where, "is a data URL without base64 data")
    return Media(mime=found[1].lower() or "text/plain", base64=url[found.end() :], filename=filename)
