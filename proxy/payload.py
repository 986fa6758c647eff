"""What one request asked and was answered, for callers who have that stored (`payload_days`).

Taken down while it runs, which costs next to nothing; read, blacked out, encrypted and written by a thread
(proxy.payload_writer) when it has ended. Nobody else has one: `Exchange.payload` is None.
"""

from collections.abc import Callable, Sequence

from keys.caller import Caller
from providers.events import Event
from proxy.authentication import secret_of
from proxy.completion import Completion
from proxy.errors import GatewayError
from proxy.http import LaneRequest
from proxy.snapshot import Snapshot

# Of a stream, before it is read: what JSON makes of so much text is far more than is kept of it.
LIMITED = 429
MOST_BYTES = 4 << 20
_EVENT_BYTES = 100  # of the smallest event
_TEXTS = ("text/", "application/json", "application/x-ndjson", "application/jsonl", "application/x-www-form")


def payload_days(snapshot: Snapshot, caller: Caller) -> int:
    """Return for how many days a caller's payloads are stored; 0: they are not."""
    own = caller.terms.payload_days
    return snapshot.payload_days.get(caller.tenant_id, 0) if own is None else own


class Payload:
    """One exchange's. `answered`, `see` and `passed` take down what the client gets, whichever it is."""

    __slots__ = ("_kind", "_room", "_written", "answer", "days", "events", "pieces", "request", "whole")

    def __init__(self, request: LaneRequest, *, days: int, written: "Written") -> None:
        """Take down nothing yet. `written` has it written when it has ended."""
        self.request, self.days, self._written = request, days, written
        self.answer = b""  # a whole one
        self.events: list[Event] = []  # of a stream, in our form
        self.pieces: list[bytes] = []  # of one that is passed on
        self.whole = True  # is all of the stream there?
        self._kind = ""
        self._room = MOST_BYTES

    def answered(self, body: bytes) -> None:
        """The client gets this."""
        self.answer = body

    def see(self, events: Sequence[Event]) -> None:
        """The client gets these next."""
        for event in events:
            self._room -= len(event.raw) + _EVENT_BYTES
        if self._room > 0:
            self.events += events
        else:
            self.whole = False

    def passed(self, piece: bytes, kind: str) -> None:
        """The client gets this next, of a body of the type `kind`."""
        self._kind = kind
        self._room -= len(piece)
        if self._room > 0 and is_text(kind):
            self.pieces.append(piece)
        else:
            self.whole = False

    def failed(self, error: GatewayError) -> None:
        """The client gets an error, in the place of an answer or behind what there is of one."""
        if not (self.answer or self.events or self.pieces):
            self.answer = error.body()

    def ended(self, completion: Completion, own_secret: str) -> None:
        """Hand it over. `own_secret`: a vendor's key that the client has brought.

        What a limit refuses is asked of nobody, and may come by the thousand: it is not stored.
        """
        if completion.status != LIMITED or completion.attempts:
            self._written(completion, self, (secret_of(self.request), own_secret))

    @property
    def kind(self) -> str:
        """Return the type of what was passed on."""
        return self._kind

    def asked(self) -> bytes:
        """Return the request's body, or a note of why there is none."""
        request = self.request
        kind = request.wire.get(b"content-type", b"application/json").decode("latin-1")
        if request.incoming is not None or not is_text(kind):
            return unstored(kind, request.wire.get(b"content-length", b"").decode("latin-1"))
        return request.body or bytes(request.scope.get("query_string", b""))


Written = Callable[[Completion, Payload, Sequence[str]], None]


def is_text(kind: str) -> bool:
    """May a body of this content type be read as text?"""
    return kind.strip().lower().startswith(_TEXTS)


def unstored(kind: str, size: str) -> bytes:
    """Return what stands for a body that is no text."""
    sized = f", {size} bytes" if size.isdecimal() else ""
    return f"[{kind.partition(';')[0][:80]}{sized}: not stored]".encode()
