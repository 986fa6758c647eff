"""What the lane and the views share of HTTP: requests without META, replies that stream, errors."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.http.response import ResponseHeaders

from proxy.envelopes import enveloped, speaks_anthropic
from proxy.errors import GatewayError
from proxy.incoming import Incoming
from proxy.renderers import STREAM_CONTENT_TYPE

MAX_REQUEST_ID = 128
ANTHROPIC_REQUEST_ID = "request-id"
_MODELS_PATH = "/v1/models"


# A header as it goes over the wire: lower-case name, value.
WireHeader = tuple[bytes, bytes]
Detain = Callable[[Callable[[], object]], bool]


class LaneRequest(HttpRequest):
    """An HttpRequest without META; `headers` are decoded on first use and have lower-case names.

    `wire` holds the same headers as they came, for the hot path; of repeated ones the last. `incoming` is
    there instead of a body where the view reads it itself.
    """

    incoming: Incoming | None = None
    # Is asked when the client has left: must the answer be made all the same? It is told how to give it up.
    detained: Detain | None = None

    def __init__(self, scope: Mapping[str, Any], body: bytes = b"") -> None:
        """Take the scope as it is; the parent's constructor would build dictionaries nobody reads."""
        self.scope = scope
        self.method = scope["method"]
        self.path = self.path_info = scope["path"]
        self.resolver_match = None
        self.content_type = None
        self.content_params = None
        self.wire: dict[bytes, bytes] = dict(scope["headers"])
        self._body = body
        self._lane_headers: dict[str, str] | None = None

    @property
    def headers(self) -> Any:
        """Return the headers as a plain dict; of repeated ones the last holds."""
        if self._lane_headers is None:
            self._lane_headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in self.wire.items()
            }
        return self._lane_headers

    def detain_by(self, detain: Detain) -> None:
        """Have another one asked when the client has left, once those before it have given up."""
        earlier = self.detained
        if earlier is None:
            self.detained = detain
            return

        def detained(give_up: Callable[[], object]) -> bool:
            def next_one() -> None:
                if not detain(give_up):
                    give_up()

            return earlier(next_one) or detain(give_up)

        self.detained = detained

    def change_headers(self, headers: Mapping[str, str]) -> None:
        """Go on with other headers than the client has sent."""
        self.wire = {
            name.lower().encode("latin-1", "replace"): value.encode("latin-1", "replace")
            for name, value in headers.items()
        }
        self._lane_headers = None

    def change_wire(self, wire: dict[bytes, bytes]) -> None:
        """Go on with other headers than the client has sent, as they go over the wire."""
        self.wire = wire
        self._lane_headers = None

    def change_body(self, body: bytes) -> None:
        """Go on with another body than the client has sent."""
        self._body = body

    @property
    def META(self) -> dict[str, Any]:  # type: ignore[override]  # noqa: N802 - Django's name
        """Return what little of WSGI's environment is asked for."""
        client = self.scope.get("client")
        return {
            "REMOTE_ADDR": client[0] if client else "",
            "QUERY_STRING": self.scope.get("query_string", b"").decode("latin-1"),
        }

    @property
    def GET(self) -> Any:  # type: ignore[override]  # noqa: N802 - Django's name
        """Return the query."""
        return QueryDict(self.scope.get("query_string", b""))


class JsonReply(HttpResponse):
    """A whole JSON answer, without the header dictionary that a plain HttpResponse builds."""

    def __init__(self, body: bytes, wire_headers: Sequence[WireHeader] = ()) -> None:
        """Keep both as they are; the parent's constructor costs more than the rest of the reply."""
        self._body = body
        self.wire_headers = [_JSON_TYPE, *wire_headers]
        self.closed = False
        # Is told what went out, when all who may add to it have done so.
        self.went_out: Callable[[Sequence[WireHeader], bytes], None] | None = None

    @property
    def content(self) -> bytes:  # type: ignore[override]  # read-only here
        """Return the body."""
        return self._body

    @property
    def headers(self) -> ResponseHeaders:  # type: ignore[override]
        """Return Django's form of the headers, for whoever is not the lane."""
        return _decoded(self.wire_headers)


class StreamReply(StreamingHttpResponse):
    """A stream of server-sent events. `pieces` is the generator itself, for the lane."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        wire_headers: Sequence[WireHeader] = (),
        *,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        """`abandon` is called if the client left before the first piece was asked for."""
        self.pieces = pieces
        self.wire_headers = [*_STREAM_HEADERS, *wire_headers]
        self.abandon = abandon
        self.closed = False

    @property
    def headers(self) -> ResponseHeaders:  # type: ignore[override]
        """Return Django's form of the headers, for whoever is not the lane."""
        return _decoded(self.wire_headers)


class PassedReply(StreamReply):
    """A vendor's answer of any type, passed on as it comes."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        wire_headers: Sequence[WireHeader],
        *,
        status: int,
        abandon: Callable[[], None],
    ) -> None:
        """Keep the headers as they are, the type among them."""
        super().__init__(pieces, abandon=abandon)
        self.wire_headers = list(wire_headers)
        self.status_code = status


class StreamBroken(Exception):
    """The rest of a reply will not come, and its format cannot say so: the connection must."""


def _decoded(wire_headers: Sequence[WireHeader]) -> ResponseHeaders:
    return ResponseHeaders({name.decode("latin-1"): value.decode("latin-1") for name, value in wire_headers})


_JSON_TYPE: WireHeader = (b"content-type", b"application/json")
_STREAM_HEADERS: Sequence[WireHeader] = (
    (b"content-type", STREAM_CONTENT_TYPE.encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


def request_id_of(request: LaneRequest) -> str:
    """Return the client's x-request-id if it is one we may echo, else the empty string."""
    sent = request.wire.get(b"x-request-id")
    return "" if sent is None else echoed(sent)


def echoed(sent: bytes) -> str:
    """Return what an x-request-id says if we may echo it, else the empty string."""
    text = sent.decode("latin-1")
    return text if len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable() else ""


def is_anthropic(request: LaneRequest) -> bool:
    """Does the client read Anthropic's format? Its SDKs ask for models under the path that OpenAI's do."""
    return speaks_anthropic(request.path) or (
        request.path.startswith(_MODELS_PATH) and b"anthropic-version" in request.wire
    )


def error_response(request: LaneRequest, error: GatewayError) -> HttpResponse:
    """Return an error in the envelope that the client reads."""
    headers = error.headers
    if "x-request-id" not in headers and request_id_of(request):
        headers = {**headers, "x-request-id": request_id_of(request)}
    request_id = headers.get("x-request-id", "")
    anthropic = is_anthropic(request)
    if request_id and anthropic:
        headers = {**headers, ANTHROPIC_REQUEST_ID: request_id}
    return HttpResponse(
        enveloped(error, request_id, anthropic=anthropic),
        status=error.status,
        headers=headers,
        content_type="application/json",
    )


def named_as_anthropic(reply: HttpResponseBase) -> HttpResponseBase:
    """Tell the request's id under the name that Anthropic's SDKs look for, too."""
    if isinstance(reply, JsonReply | StreamReply):
        told = [value for name, value in reply.wire_headers if name == b"x-request-id"]
        reply.wire_headers += [(ANTHROPIC_REQUEST_ID.encode(), value) for value in told]
    return reply
