"""Token counts in one meaning everywhere."""

from typing import Any, NamedTuple

BYTES_PER_TOKEN = 4  # of English text, about
MAX_COUNT = 10**12  # of tokens: more is no count, and no column and no JSON number would hold its cost


class Usage(NamedTuple):
    """Token counts of one attempt.

    `prompt` includes `cached` (read from the vendor's cache) and `cache_write`; `completion`
    includes `reasoning`. `estimated` marks our own count where the vendor sent none. The others are parts
    too: `cache_write_1h` of `cache_write`, `audio_prompt` and `image_prompt` of `prompt`, `audio_cached` and
    `image_cached` of `cached` and of those, `audio_completion` and `image_completion` of `completion`.
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
            rarer = dict(zip(self._fields, self, strict=True))
            form |= {name: rarer[name] for name in self._fields[_RARER] if rarer[name]}
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
        return usage


_RARER = slice(6, None)  # of a Usage: the counts that few answers have
_NONE_OF_THEM = Usage()[_RARER]


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
    prompt_details = usage.get("prompt_tokens_details")
    completion_details = usage.get("completion_tokens_details")
    prompt_details = prompt_details if isinstance(prompt_details, dict) else {}
    completion_details = completion_details if isinstance(completion_details, dict) else {}
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    reasoning = count(completion_details.get("reasoning_tokens"))
    # xAI leaves the thoughts out of the completion that it bills them with; then the total says so.
    # https://docs.x.ai/docs/guides/reasoning#reasoning-tokens
    if reasoning and count(usage.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    # DeepSeek says prompt_cache_hit_tokens: https://api-docs.deepseek.com/guides/kv_cache
    cached = count(prompt_details.get("cached_tokens")) or count(usage.get("prompt_cache_hit_tokens"))
    cache_write = count(prompt_details.get("cache_write_tokens"))
    return Usage(prompt, completion, cached, cache_write, reasoning)


def tokens_in(size: int) -> int:
    """Guess how many tokens `size` bytes of UTF-8 are."""
    return -(-size // BYTES_PER_TOKEN)


def estimate(*, prompt_bytes: int, completion_bytes: int) -> Usage:
    """Guess usage from UTF-8 sizes, flagged as estimated."""
    return Usage(prompt=tokens_in(prompt_bytes), completion=tokens_in(completion_bytes), estimated=True)
