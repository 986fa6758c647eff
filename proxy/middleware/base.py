"""What a middleware is: two protocols, what they are given, and a watch to begin from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keys.caller import Caller
from providers.call import Call
from providers.events import Answer, Event
from proxy.completion import Completion
from proxy.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Asked:
    """A request after its caller is known, before it is read and routed.

    `endpoint` is the name in records ("chat", "completions", "messages", "responses", "embeddings", ...;
    proxy.endpoints). `headers` have lower-case names. `body` is the client's JSON, in the client's format,
    and never to be mutated: change a copy. It is None where there is no JSON (multipart forms).
    """

    endpoint: str
    headers: Mapping[str, str]
    body: Mapping[str, Any] | None
    caller: Caller


@dataclass(frozen=True, slots=True)
class Context:
    """An answer that is about to be made: for whom, to what. `completion` is filled while it runs.

    Where a request is passed on unread, `call` has a model and no body (providers.wires.UNREAD); its answer
    has a head and an end for those who watch, and nothing between.
    """

    completion: Completion
    call: Call
    caller: Caller


class RequestMiddleware(Protocol):
    """Sees each request."""

    async def request(self, asked: Asked) -> Asked:
        """Return the request, or a changed one (`dataclasses.replace`). Raises GatewayError to refuse it."""


class ResponseWatch(Protocol):
    """Sees one answer: its head, then its events (streams); or all of it, then its head. Then the end.

    Whoever withholds something of a stream lets go of it at FINISH (of its choice), DONE or ERROR.
    """

    def head(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Add, change or remove response headers. Names are lower-case."""

    def events(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that the client gets instead. What is withheld is due at the end."""

    def answer(self, answer: Answer) -> Answer:
        """Return the answer that the client gets instead."""

    def finished(self, completion: Completion, whole: Mapping[str, Any] | None) -> None:
        """Hear of the end. `whole`: what the client got, as an OpenAI completion object, if it is known."""


class ResponseMiddleware(Protocol):
    """Sees each answer.

    `changes_events`: its watches change events or answers. Without, what they return is not looked at, and
    a vendor's bytes go out as they came. `wants_whole`: its watches want to know all of it at the end.

    It may have a method `error(headers: dict[str, str]) -> None`, which sees and changes the headers of each
    response that is an error: those have no watch, or none any more. Names are lower-case.
    """

    changes_events: bool
    wants_whole: bool

    def begin(self, context: Context) -> ResponseWatch | None:
        """Return what watches this answer; None if nothing need."""


class Watch:
    """A watch that does nothing: override what is of interest."""

    def head(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Leave the headers alone."""

    def events(self, events: Sequence[Event]) -> Sequence[Event]:
        """Pass all on."""
        return events

    def answer(self, answer: Answer) -> Answer:
        """Pass it on."""
        return answer

    def finished(self, completion: Completion, whole: Mapping[str, Any] | None) -> None:
        """Do nothing."""


class MiddlewareFailed(GatewayError):
    """A middleware that must not be left out failed: the client gets this instead of what it has not seen."""

    code = "middleware_failed"

    def __init__(self) -> None:
        """Say no more than that: what happened is in the log."""
        super().__init__("A middleware of the gateway failed. This was logged.")
