"""What a caller gets of each failure of a vendor's: the design's table of failures, fault by fault.

Only what is expected is here; tests/fault_cells.py brings it about, tests/test_fault_matrix.py compares.
A fault is what the conformance kit's fake vendor does for a model's name (../shared/conformance/README.md),
or one of the answers of tests/fault_bodies.py. Where a stream is cut, its first content is behind it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

COUNTS, COOLS = "counts", "cools"
BRIEF_S = 1
# Waits of the vendor's, in seconds: one that a request's deadline leaves room for, and one that it does not.
SHORT_WAIT, LONG_WAIT = "3", "3600"
DEADLINE_S = 30
RESPONSE_LIMIT = "256KiB"
WHOLE_TEXT = "whole and right"
WHOLE = f"~text={WHOLE_TEXT.replace(' ', '%20')}"
CUT, JSON_CUT = 1500, 100  # bytes
# Codes of our own; any other is the vendor's.
OWN_CODE = re.compile(r"upstream_\w+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ends. `status` and `code` are those of the error, wherever it is told.

    `begun`: a stream had begun with 200, so the error is an event in it. `code` is "" for the vendor's own,
    or none. `breaker`: what the failure is to the upstream that failed.
    """

    status: int
    code: str = ""
    attempts: int = 1
    breaker: str = ""
    begun: bool = False
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: what the vendor does to a JSON request and to a stream, and what becomes of each.

    `answers` has the outcomes (with one target, with two of which the second is well). `brief` names the
    timeout of a stream that fires; for JSON it is the total.
    """

    name: str
    json: str
    stream: str
    json_answers: tuple[Outcome, Outcome]
    stream_answers: tuple[Outcome, Outcome]
    brief: str = ""
    vendor: str = ""  # what is wrong with its address
    vendor_words: str = field(default="", kw_only=True)  # in the message that the caller reads

    @property
    def slug(self) -> str:
        """The name, fit for a provider's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def answer(self, *, stream: bool, targets: int) -> Outcome:
        """Return what is expected."""
        return (self.stream_answers if stream else self.json_answers)[targets - 1]


Pair = tuple[Outcome, Outcome]


def retried(status: int, code: str) -> Pair:
    """Return the outcomes of a quick failure: the same target again after a pause, or the next one."""
    return Outcome(status, code, attempts=3, breaker=COUNTS), Outcome(200, attempts=2, breaker=COUNTS)


def once(status: int, code: str, breaker: str = COUNTS) -> Pair:
    """Return the outcomes of a failure that a second try of the same target would not mend."""
    return Outcome(status, code, breaker=breaker), Outcome(200, attempts=2, breaker=breaker)


def the_callers(status: int) -> Pair:
    """Return the outcomes of the caller's own mistake: nobody else is asked."""
    return Outcome(status), Outcome(status)


def broken(status: int, code: str) -> Pair:
    """Return the outcomes of a stream that fails after its first content."""
    told = Outcome(status, code, breaker=COUNTS, begun=True)
    return told, told


def limited(*, attempts: int, retry_after: str) -> Pair:
    """Return the outcomes of a vendor's rate limit."""
    refused = Outcome(429, attempts=attempts, breaker=COOLS, retry_after=retry_after)
    return refused, Outcome(200, attempts=2, breaker=COOLS)


def always(name: str, option: str, pair: Pair, **more: str) -> Fault:
    """Return a fault that is the same for a JSON request and for a stream."""
    return Fault(name, option, option, pair, pair, **more)


def refusing(status: int, pair: Pair) -> Fault:
    """Return the fault of a vendor that answers with an error status."""
    words = f"injected failure {status}" if pair[1].attempts == 1 else ""
    return always(str(status), f"~fail=999x{status}", pair, vendor_words=words)


RESET = retried(502, "upstream_reset")
INVALID = retried(502, "upstream_invalid_response")
ERROR = retried(502, "upstream_error")
TIMEOUT = once(504, "upstream_timeout")
REFUSED = once(502, "upstream_auth_failed", COOLS)
WELL = (Outcome(200), Outcome(200))

FAULTS = (
    always("connect refused", "", retried(502, "upstream_connect"), vendor="refused"),
    always("reset before head", "~reset=head", RESET),
    Fault(
        "reset mid-body",
        f"~reset=body:{JSON_CUT}",
        f"~reset=body:{CUT}",
        INVALID,
        broken(502, "upstream_invalid_response"),
    ),
    Fault("silent end", f"~end={JSON_CUT}", f"~end={CUT}", INVALID, broken(502, "upstream_invalid_response")),
    always("hang before head", "~hang=head", TIMEOUT, brief="first_content"),
    Fault(
        "hang mid-stream",
        f"~hang=body:{JSON_CUT}",
        f"~hang=body:{CUT}",
        TIMEOUT,
        broken(504, "upstream_timeout"),
        brief="idle",
    ),
    always("slow first byte", "~ttfb=20000", TIMEOUT, brief="first_content"),
    refusing(400, the_callers(400)),
    refusing(401, REFUSED),
    refusing(402, once(502, "upstream_quota_exhausted", COOLS)),
    refusing(403, REFUSED),
    refusing(404, the_callers(404)),
    refusing(408, TIMEOUT),
    refusing(409, the_callers(409)),
    refusing(413, the_callers(413)),
    refusing(422, the_callers(422)),
    always("429", "~fail=999x429", limited(attempts=3, retry_after="60")),
    always(
        "429, Retry-After inside the deadline",
        f"~fail=999x429~retry_after={SHORT_WAIT}",
        limited(attempts=3, retry_after=SHORT_WAIT),
    ),
    always(
        "429, Retry-After beyond the deadline",
        f"~fail=999x429~retry_after={LONG_WAIT}",
        limited(attempts=1, retry_after=LONG_WAIT),
    ),
    refusing(500, ERROR),
    refusing(502, ERROR),
    refusing(503, retried(503, "upstream_error")),
    refusing(504, retried(504, "upstream_timeout")),
    refusing(529, ERROR),
    always("invalid JSON", "~json=invalid", INVALID),
    Fault("truncated JSON", "~json=trunc", "~json=trunc", INVALID, broken(502, "upstream_invalid_response")),
    always("a page instead of an answer", "~json=invalid~ctype=text/html", INVALID),
    always("wrong content type, right answer", f"~ctype=text/html{WHOLE}", WELL),
    # Long, so that half of what is packed has content.
    Fault(
        "truncated gzip",
        "~gzip=trunc",
        "~tokens=300~gzip=trunc",
        INVALID,
        broken(502, "upstream_invalid_response"),
    ),
    always("huge body", "~huge=1", retried(502, "upstream_too_large")),
    always("error as first event", "error-first", ERROR),
    Fault("error after the role", "error-first", "error-early", ERROR, ERROR),
    # Event by event: an error that arrives together with the first content is still before it.
    Fault("error mid-stream", "error-late", "error-late~delay=100", ERROR, broken(502, "upstream_error")),
)

# The second target of a route, in every cell that has one: it is well.
RESCUED_TEXT = "from the spare"

# How an error is told, by its status: https://platform.openai.com/docs/guides/error-codes has OpenAI's types,
# https://platform.claude.com/docs/en/api/errors Anthropic's. "" is the vendor's own.
OPENAI_TYPES: Mapping[int, str] = MappingProxyType(
    {429: "rate_limit_error", 502: "api_error", 503: "api_error", 504: "timeout_error"}
)
ANTHROPIC_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        404: "not_found_error",
        409: "invalid_request_error",
        413: "request_too_large",
        422: "invalid_request_error",
        429: "rate_limit_error",
        502: "api_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


def expected_table() -> Mapping[tuple[str, bool, int], Outcome]:
    """Return every cell by (fault, stream, targets)."""
    return {
        (fault.name, stream, targets): fault.answer(stream=stream, targets=targets)
        for fault in FAULTS
        for stream in (False, True)
        for targets in (1, 2)
    }
