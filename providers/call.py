"""One parsed client request, in the canonical form (OpenAI chat). Never mutated."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Untranslatable(NamedTuple):
    """What of a request no other format can say: the parameter, and why.

    `extras`: all of that, where the request makes sense without it; a provider's row may say to drop it.
    """

    param: str
    message: str
    extras: tuple[str, ...] = ()


class Call(NamedTuple):
    """What the client wants.

    `wire` names the format that `raw` is in (providers.wires); a dialect that speaks it may send `raw`
    on as it came, unless `verbatim` is False (our reading of it is not the only possible one), and
    `sent`, its parsed form, with changes. `body` is the canonical request: of an embeddings call OpenAI's
    embeddings request, of everything else OpenAI's chat request with the extensions of
    providers.canonical. `headers` are the client's, as far as its format defines some (anthropic-beta).
    `only_native` says why `body` is not all of it, when only a vendor that speaks `wire` can answer.
    `wants_usage`: the client asked for a usage chunk. `asked_model`: what it asked for, where its key makes
    that another `model`; else "".
    """

    wire: str
    model: str
    body: Mapping[str, Any]
    raw: bytes
    stream: bool = False
    wants_usage: bool = False
    choices: int = 1
    verbatim: bool = True
    sent: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    only_native: Untranslatable | None = None
    asked_model: str = ""
