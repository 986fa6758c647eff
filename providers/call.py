"""One parsed client request, in the canonical form (OpenAI chat). Never mutated."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Call(NamedTuple):
    """What the client wants.

    `wire` names the format `raw` is in ("openai.chat"); a dialect that speaks it may send `raw` on
    as it came, unless `verbatim` is False (our reading of it is not the only possible one).
    `body` is the canonical request; `wants_usage` whether the client asked for a usage chunk.
    """

    wire: str
    model: str
    body: Mapping[str, Any]
    raw: bytes
    stream: bool = False
    wants_usage: bool = False
    choices: int = 1
    verbatim: bool = True
