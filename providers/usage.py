"""Token counts in one meaning everywhere."""

from collections.abc import Mapping
from typing import Any, NamedTuple

BYTES_PER_TOKEN = 4  # of English text, about
MAX_COUNT = 10**12  # of tokens: more is no count, and no column and no JSON number would hold its cost


class Usage(NamedTuple):
    """Token counts of one attempt.

    `prompt` includes `cached` (read from the vendor's cache) and `cache_write`; `completion`
    includes `reasoning`. `estimated` marks our own count where the vendor sent none. The others are parts
    too: `cache_write_1h` (written for the vendor's longer time: Anthropic's hour, OpenAI's 12 hours) of
    `cache_write`, `audio_prompt` and `image_prompt` of `prompt`, `audio_cached` and `image_cached` of
    `cached` and of those, `audio_completion` and `image_completion` of `completion`. Images are pictures,
    moving ones too, and the pages of documents that a vendor looks at as such.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    estimated: bool = False
    cache_write_1h: int = 0
    audio_prompt: int = 0
    audio_cached: int = 0
    audio_completion: int = 0
    image_prompt: int = 0
    image_cached: int = 0
    image_completion: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the counts of two attempts together."""
        added = {name: getattr(self, name) + getattr(other, name) for name in self._fields}
        return Usage(**{**added, "estimated": self.estimated or other.estimated})

    @property
    def total(self) -> int:
        """Prompt and completion together."""
        return self.prompt + self.completion

    @property
    def has_parts(self) -> bool:
        """Is there any of what may be billed at a rate of its own, besides what is cached?"""
        return self.reasoning > 0 or self[_RARER] != _NONE_OF_THEM

    def to_json(self) -> dict[str, Any]:
        """Return the spool's and the log's form. Of the rarer counts it has those that are not 0."""
        form: dict[str, Any] = {
            "prompt": self.prompt,
            "completion": self.completion,
            "cached": self.cached,
            "cache_write": self.cache_write,
            "reasoning": self.reasoning,
            "estimated": self.estimated,
        }
        if self[_RARER] != _NONE_OF_THEM:
            form |= {name: tokens for name in self._fields[_RARER] if (tokens := getattr(self, name))}
        return form

    def to_openai(self) -> dict[str, Any]:
        """Return OpenAI's usage object."""
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.total,
        }
        if self.cached or self.cache_write:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
        if (
            self.cache_write
        ):  # OpenRouter's name: https://openrouter.ai/docs/guides/best-practices/prompt-caching
            usage["prompt_tokens_details"]["cache_write_tokens"] = self.cache_write
        if self.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        if self[_RARER] != _NONE_OF_THEM:
            self._tell_parts(usage)
        return usage

    def _tell_parts(self, usage: dict[str, Any]) -> None:
        into = {"audio_tokens": self.audio_prompt, "image_tokens": self.image_prompt}
        out = {"audio_tokens": self.audio_completion, "image_tokens": self.image_completion}
        for details, parts in (("prompt_tokens_details", into), ("completion_tokens_details", out)):
            told = {name: tokens for name, tokens in parts.items() if tokens}
            if told:
                usage[details] = {**usage.get(details, {}), **told}


_RARER = slice(6, None)  # of a Usage: the counts that few answers have
_NONE_OF_THEM = Usage()[_RARER]
_NO_DETAILS: Mapping[str, Any] = {}


def count(value: Any) -> int:
    """Return a vendor's count as an int from 0 to MAX_COUNT; what is no count is 0."""
    if type(value) is not int:
        return 0
    return value if 0 <= value <= MAX_COUNT else min(max(0, value), MAX_COUNT)


def from_openai(usage: Any) -> Usage | None:
    """Read OpenAI's usage object; None when there is none. An explicit zero stays zero."""
    if not isinstance(usage, dict):
        return None
    if "prompt_tokens" not in usage and "completion_tokens" not in usage:
        return None
    into, out = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    into = into if isinstance(into, dict) else _NO_DETAILS
    out = out if isinstance(out, dict) else _NO_DETAILS
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    reasoning = count(told) if (told := out.get("reasoning_tokens")) else 0
    # xAI leaves the thoughts out of the completion that it bills them with; then the total says so.
    # https://docs.x.ai/docs/guides/reasoning#reasoning-tokens
    if reasoning and count(usage.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    cached = count(told) if (told := into.get("cached_tokens")) else 0
    if not cached and "prompt_cache_hit_tokens" in usage:
        # DeepSeek's name: https://api-docs.deepseek.com/guides/kv_cache
        cached = count(usage["prompt_cache_hit_tokens"])
    cache_write = count(told) if (told := into.get("cache_write_tokens")) else 0
    read = Usage(prompt, completion, cached, cache_write, reasoning)
    return with_parts(read, into, out) if into or out else read


def with_parts(usage: Usage, into: Mapping[str, Any], out: Mapping[str, Any]) -> Usage:
    """Return `usage` with the rarer counts that OpenAI's details of the prompt and of the answer tell."""
    if not (
        usage.cache_write
        or into.get("audio_tokens")
        or into.get("image_tokens")
        or out.get("audio_tokens")
        or out.get("image_tokens")
    ):
        return usage
    cached, written = into.get("cached_tokens_details"), into.get("cache_write_tokens_details")
    cached = cached if isinstance(cached, dict) else _NO_DETAILS
    written = written if isinstance(written, dict) else _NO_DETAILS
    return usage._replace(
        cache_write_1h=count(written.get("ttl_12h_tokens")),
        audio_prompt=count(into.get("audio_tokens")),
        audio_cached=count(cached.get("audio_tokens")),
        audio_completion=count(out.get("audio_tokens")),
        image_prompt=count(into.get("image_tokens")),
        image_cached=count(cached.get("image_tokens")),
        image_completion=count(out.get("image_tokens")),
    )


def tokens_in(size: int) -> int:
    """Guess how many tokens `size` bytes of UTF-8 are."""
    return -(-size // BYTES_PER_TOKEN)


def estimate(*, prompt_bytes: int, completion_bytes: int) -> Usage:
    """Guess usage from UTF-8 sizes, flagged as estimated."""
    return Usage(prompt=tokens_in(prompt_bytes), completion=tokens_in(completion_bytes), estimated=True)
