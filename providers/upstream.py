"""One compiled target: everything an attempt needs to know about a vendor, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from providers.faults import Faults
from providers.pricing import RateSchedule


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_content` and `idle` apply to streams, `total` to everything."""

    connect_s: float = 5.0
    first_content_s: float = 30.0
    idle_s: float = 60.0
    total_s: float = 600.0
    total_json_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an OpenAI-compatible server differs from OpenAI: data of the provider's row, no branch on names.

    `rename_params`: parameters that the server knows by another name ({"max_completion_tokens":
    "max_tokens"}). `unsupported_params`: those that it refuses. `developer_role`: what it calls the
    developer's role. `stream_usage`: whether it takes `stream_options`. `completions`, `responses`: whether
    it has those endpoints; without them such requests are translated to chat. `reasoning_content`: whether
    it wants what the model thought in earlier turns back (DeepSeek), which other servers refuse.
    """

    rename_params: Mapping[str, str] = field(default_factory=dict)
    unsupported_params: frozenset[str] = frozenset()
    developer_role: str = "developer"
    stream_usage: bool = True
    completions: bool = True
    responses: bool = True
    reasoning_content: bool = False


NO_QUIRKS = Quirks()


@dataclass(frozen=True, slots=True)
class Account:
    """A compiled Provider: where it is and how to show our credential. No secret in its repr.

    `path_template` makes an endpoint's path under the base URL: {model} is the vendor's model, {path} the
    endpoint ("/chat/completions"). `credential` names the one that `headers` show ("": the first), `spares`
    are the same account by its other credentials. `max_concurrency`: calls at a time in this process (None:
    any number), `max_queue` how many may wait for one to end, `queue_timeout_s` how long. `faults`: how the
    demo fails on purpose; None for every real vendor.

    `takes_credential`: another one may be shown in the place of the configured one, in `auth_header` if that
    overrides the dialect's own, beside the `plain_headers`. `own_credential`: the one of the client for whose
    request this account has been made (providers.own_credential); "" where the configured one is shown.
    """

    name: str
    dialect: str
    base_url: str
    headers: Mapping[str, str]
    timeouts: Timeouts
    max_connections: int
    drop_unsupported_params: bool = False
    shares_stored: bool = False
    path_template: str = "{path}"
    quirks: Quirks = NO_QUIRKS
    usable: bool = True
    why_unusable: str = ""
    credential: str = ""
    spares: tuple["Account", ...] = ()
    max_concurrency: int | None = None
    max_queue: int = 100
    queue_timeout_s: float = 30.0
    faults: Faults | None = None
    auth_header: str = ""
    plain_headers: Mapping[str, str] = field(default_factory=dict)
    takes_credential: bool = False
    own_credential: str = ""

    def __repr__(self) -> str:
        """Leave the headers out: they carry the credential."""
        return f"Account({self.name!r}, {self.dialect!r}, {self.base_url!r})"


@dataclass(frozen=True, slots=True)
class Upstream:
    """An Account and the vendor's model; `id` names it in the breaker, metrics and records.

    `timeouts` are the route's where it has some, else the account's. `context_window`: the tokens that the
    model takes, `max_output` those that it answers with at the most; None where nobody has told us.
    `spares`: the same by the account's other credentials.
    """

    id: str
    account: Account
    model: str
    prices: RateSchedule
    timeouts: Timeouts
    context_window: int | None = None
    max_output: int | None = None
    spares: tuple["Upstream", ...] = ()


class UpstreamRequest(NamedTuple):
    """What a dialect wants sent: a path under the base URL, its own headers, the body.

    `wire` is the format in which the vendor is asked, when that is not the call's own; the answer is
    then decoded for a call in that format.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]
    dropped_params: tuple[str, ...] = ()
    wire: str = ""
