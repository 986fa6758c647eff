"""Gemini's usageMetadata in the gateway's one meaning: https://ai.google.dev/api/generate-content#UsageMetadata."""

from collections.abc import Mapping
from typing import Any

from providers.usage import Usage, count

# https://ai.google.dev/api/generate-content#Modality; pages of documents and films are looked at as pictures.
_PICTURES = frozenset({"IMAGE", "DOCUMENT", "VIDEO"})
_NO_MEDIA = (0, 0)


def usage_of(metadata: Any) -> Usage | None:
    """Return the counts, those of a stream so far; None when there are none. A zero stays zero."""
    if not isinstance(metadata, dict) or not (
        "promptTokenCount" in metadata
        or "candidatesTokenCount" in metadata
        or "totalTokenCount" in metadata
        or "thoughtsTokenCount" in metadata
    ):
        return None
    prompt = count(metadata.get("promptTokenCount")) + count(metadata.get("toolUsePromptTokenCount"))
    candidates, thoughts = (
        count(metadata.get("candidatesTokenCount")),
        count(metadata.get("thoughtsTokenCount")),
    )
    # Some models count the thoughts among the candidates' tokens; then the total says so.
    inside = prompt + candidates == count(metadata.get("totalTokenCount"))
    completion = candidates if inside else candidates + thoughts
    told = Usage(prompt, completion, count(metadata.get("cachedContentTokenCount")), 0, thoughts)
    into = _media(metadata, "promptTokensDetails", "toolUsePromptTokensDetails")
    cached, out = _media(metadata, "cacheTokensDetails"), _media(metadata, "candidatesTokensDetails")
    if into is out is _NO_MEDIA:
        return told
    return told._replace(
        audio_prompt=into[0],
        audio_cached=cached[0],
        audio_completion=out[0],
        image_prompt=into[1],
        image_cached=cached[1],
        image_completion=out[1],
    )


def _media(metadata: Mapping[str, Any], *names: str) -> tuple[int, int]:
    """Return the tokens of sound and of pictures in the lists of counts by modality that have those names."""
    audio = image = 0
    for name in names:
        details = metadata.get(name)
        if not isinstance(details, list):
            continue
        for each in details:
            modality = each.get("modality") if isinstance(each, dict) else None
            if modality == "TEXT":
                continue
            if modality == "AUDIO":
                audio += count(each.get("tokenCount"))
            elif isinstance(modality, str) and modality in _PICTURES:
                image += count(each.get("tokenCount"))
    return (audio, image) if audio or image else _NO_MEDIA
