"""What Claude models differ in, told from their names: by generation, so that no list has to be kept.

A name without a version is some other model behind this format: it gets what every server of it takes.
Sources: https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting (which models think
how), .../structured-outputs, .../effort, https://platform.claude.com/docs/en/about-claude/models/overview
(the most that each writes) and https://platform.claude.com/docs/en/api/versioning.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_FAMILY_FIRST = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")  # claude-opus-4-5-20251101
_VERSION_FIRST = re.compile(
    r"claude-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)(?:-([a-z]+))?"
)  # claude-3-5-sonnet-...
_ALWAYS_THINKING = frozenset({"fable", "mythos"})
_UNKNOWN_MAX_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model takes.

    `max_tokens`: the most it writes, and what it may write when the client says nothing (Anthropic has no
    default). `thinks` at all; with a budget of tokens (`budgets`) or as it sees fit (`adaptive`, with an
    effort, of which `xhigh` may be one); `by_default` or `always`. `sampling`: temperature, top_p, top_k.
    `schemas`: structured outputs and strict tools. `signs`: it takes no thoughts
    back but those that it has signed.
    """

    max_tokens: int = _UNKNOWN_MAX_TOKENS
    thinks: bool = True
    budgets: bool = True
    adaptive: bool = False
    xhigh: bool = False
    by_default: bool = False
    always: bool = False
    sampling: bool = True
    schemas: bool = False
    signs: bool = False


@lru_cache(maxsize=1024)
def traits_of(model: str) -> Traits:
    """Return what is known of a model, of whatever cloud its name is (anthropic.claude-opus-4-6-v1)."""
    name = model.lower()
    if "claude-mythos-preview" in name:
        return _traits("mythos", (4, 7))
    found = _FAMILY_FIRST.search(name)
    if found is not None:
        return _traits(found[1], (int(found[2]), int(found[3] or 0)))
    found = _VERSION_FIRST.search(name)
    if found is not None:
        return _traits(found[3] or "", (int(found[1]), int(found[2] or 0)))
    return Traits()


def _traits(family: str, version: tuple[int, int]) -> Traits:
    always = family in _ALWAYS_THINKING
    return Traits(
        max_tokens=_max_tokens(family, version),
        thinks=version >= (3, 7),
        budgets=version < (4, 7),
        adaptive=version >= (4, 6),
        xhigh=version >= (4, 7),
        by_default=always or version >= (5, 0),
        always=always,
        sampling=version < (4, 7),
        schemas=version >= (4, 5) or (family, version) == ("opus", (4, 1)),
        signs=True,
    )


def _max_tokens(family: str, version: tuple[int, int]) -> int:
    if version >= (4, 6):
        return 64_000 if family == "haiku" else 128_000
    if version >= (3, 7):
        return 32_000 if family == "opus" and version < (4, 5) else 64_000
    return 8192 if version >= (3, 5) else 4096
