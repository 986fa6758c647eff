"""What an endpoint is to the gateway."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from providers.call import Call


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An inbound format: its name in records and metrics, its parser, and whether it may be cached.

    `headers` are those of a request (lower-case) that its format defines: they belong to the call. `asked` is
    what is asked, in the form of the endpoint `name`, where that is not the request's own body.
    """

    name: str
    parse: Callable[[bytes], Call]
    cacheable: bool = True
    headers: tuple[str, ...] = ()
    asked: Mapping[str, Any] | None = None

    def headers_in(self, sent: Mapping[bytes, bytes]) -> dict[str, str]:
        """Return the call's headers out of all that the client sent."""
        return {name: sent[name.encode()].decode("latin-1") for name in self.headers if name.encode() in sent}
