"""The contract of a dialect: a pure translator between the canonical form and a vendor's wire.

No I/O, no clock, no framework: bytes in, events out. `encode` runs once per attempt and never
mutates the call. A decoder lives for one stream; it gives the same events for every split of its
input. Dialects raise UpstreamError for what the vendor did wrong and UnsupportedParameter for what
the vendor cannot express. The canonical form is described in providers.canonical.

`decode` and `stream` get the call as the vendor was asked: its `wire` is that of the UpstreamRequest.
An answer or event in that very format keeps its bytes (`raw`, `body`); any other is canonical.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from providers.call import Call
from providers.errors import UpstreamError
from providers.events import Answer, Event
from providers.upstream import Upstream, UpstreamRequest
from providers.usage import Usage


class StreamDecoder(Protocol):
    """Turns a stream's bytes into events. Never raises: a failure is an ERROR event, and the last one.

    The last event of a whole stream is DONE; nothing follows either.
    """

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """Return the events completed by `chunk`."""

    def close(self) -> Sequence[Event]:
        """Return what the end of the bytes completes: DONE, or ERROR when a choice had not finished."""

    def so_far(self) -> Usage | None:
        """Return the counts told so far and in no event yet: the prompt's of a stream that breaks off."""


class Dialect(Protocol):
    """What adding a vendor needs."""

    name: str
    label: str  # for people, where they choose one
    # Does the vendor count a prompt's tokens (calls of the wire COUNT_TOKENS)? Else the gateway guesses.
    counts_tokens: bool
    # Does a model go on with its own answer where the last message is the beginning of it?
    prefills: bool
    # Does its answer then begin with that beginning once more?
    repeats_prefill: bool

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return the headers that show `credential`; `header` overrides the dialect's own one."""

    def models_path(self) -> str:
        """Return the path, under the base URL, of the vendor's model list."""

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Return `[{"id", "created", "owned_by"}]` from the vendor's model list. Raises UpstreamError."""

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Return the vendor's request. Raises UnsupportedParameter."""

    def decode(self, body: bytes, call: Call) -> Answer:
        """Return a whole answer. Raises UpstreamError when the body is no answer."""

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify an answer with an error status. `headers` has lower-case names."""
