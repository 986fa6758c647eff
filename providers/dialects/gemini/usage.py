"""Gemini's usageMetadata in the gateway's one meaning: https://ai.google.dev/api/generate-content#UsageMetadata."""

from typing import Any

from providers.usage import Usage, count

_COUNTS = ("promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount")


def usage_of(metadata: Any) -> Usage | None:
    """Return the counts, those of a stream so far; None when there are none. A zero stays zero."""
    if not isinstance(metadata, dict) or not any(name in metadata for name in _COUNTS):
        return None
    prompt = count(metadata.get("promptTokenCount")) + count(metadata.get("toolUsePromptTokenCount"))
    candidates, thoughts = (
        count(metadata.get("candidatesTokenCount")),
        count(metadata.get("thoughtsTokenCount")),
    )
    # Some models count the thoughts among the candidates' tokens; then the total says so.
    inside = prompt + candidates == count(metadata.get("totalTokenCount"))
    return Usage(
        prompt=prompt,
        completion=candidates if inside else candidates + thoughts,
        cached=count(metadata.get("cachedContentTokenCount")),
        reasoning=thoughts,
    )
