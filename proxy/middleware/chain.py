"""The middlewares of this process in the order of their settings, and what happens when one fails.

A request's middleware that fails refuses the request. Of a response's, one that changes events fails the
answer, never lets it pass unchanged; one that only looks is logged and left out for the rest of the answer.
Nothing configured: both chains are false, which is all that anybody need ask.
"""

import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from providers.errors import UpstreamError
from providers.events import Answer, Event, failed_event
from proxy.assemble import assemble
from proxy.completion import Completion
from proxy.errors import GatewayError
from proxy.middleware.background import Background, remaining_s
from proxy.middleware.base import (
    Asked,
    Context,
    MiddlewareFailed,
    RequestMiddleware,
    ResponseMiddleware,
    ResponseWatch,
)
from proxy.plain import plain
from proxy.renderers import enveloped

log = structlog.get_logger()

# The pieces of an answer that are kept to tell all of it at the end; of a longer one nothing is told.
MAX_WHOLE_EVENTS = 100_000
MAX_CALLBACKS = 1000  # answers that have ended and wait for somebody to hear of it
CLOSE_WAIT_S = 2.0


class RequestChain:
    """The request middlewares. False when there are none."""

    def __init__(self, middlewares: Sequence[RequestMiddleware] = ()) -> None:
        """Call them in this order."""
        self._middlewares = middlewares

    def __bool__(self) -> bool:
        return bool(self._middlewares)

    async def request(self, asked: Asked) -> Asked:
        """Return what is asked after all have seen it. Raises GatewayError: a refusal, or a failure."""
        for middleware in self._middlewares:
            try:
                asked = _an_asked(await middleware.request(asked))
            except GatewayError:
                raise
            except Exception as problem:
                log.exception("request_middleware", middleware=_name(middleware))
                raise MiddlewareFailed from problem
        return asked


def _an_asked(passed: object) -> Asked:
    if not isinstance(passed, Asked):
        raise TypeError(f"request() returned {type(passed).__name__}, not an Asked")
    return passed


class ResponseChain:
    """The response middlewares. False when there are none."""

    def __init__(self, middlewares: Sequence[ResponseMiddleware] = ()) -> None:
        """Call them in this order."""
        self._middlewares = middlewares
        self._callbacks: Background[_Ended] = Background(
            "completion_callbacks", _call_back, capacity=MAX_CALLBACKS
        )
        self._tells_errors = [each for each in middlewares if hasattr(each, "error")]
        # Keeps answers apart in the cache: those that may be changed have their own form.
        self.namespace = "\0plain" if any(each.changes_events for each in middlewares) else ""

    def __bool__(self) -> bool:
        return bool(self._middlewares)

    def begin(self, context: Context) -> "Watching | None":
        """Return what watches this answer; None if nobody wants to."""
        watches, failure = [], None
        for middleware in self._middlewares:
            try:
                watch = middleware.begin(context)
            except Exception as problem:
                log.exception("response_middleware", middleware=_name(middleware))
                if middleware.changes_events:
                    failure = problem
                continue
            if watch is not None:
                watches.append(_Watched(watch, middleware))
        return Watching(watches, self._callbacks, failure) if watches or failure else None

    def error(self, headers: dict[str, str]) -> None:
        """Let those who have a word on errors see and change the headers of one. Never raises."""
        for middleware in self._tells_errors:
            try:
                middleware.error(headers)
            except Exception:  # an error tells nothing that would have to be kept back
                log.exception("response_middleware", middleware=_name(middleware))

    def close(self, timeout_s: float = CLOSE_WAIT_S) -> None:
        """Let callbacks, and the middlewares that have a `close(timeout_s)`, end what they have. Blocks."""
        deadline = time.monotonic() + timeout_s
        self._callbacks.close(timeout_s)
        for middleware in self._middlewares:
            close = getattr(middleware, "close", None)
            if close is not None:
                close(remaining_s(deadline))


class _Watched(NamedTuple):
    """A watch and what it comes from."""

    watch: ResponseWatch
    middleware: ResponseMiddleware


class Watching:
    """All who watch one answer. Lives as long as it; for the event loop, until `finished`."""

    __slots__ = ("_answer", "_callbacks", "_events", "_failure", "_watched", "changes_events", "wants_whole")

    def __init__(
        self,
        watched: Sequence[_Watched],
        callbacks: "Background[_Ended]",
        failure: Exception | None = None,
    ) -> None:
        """Begin before the head. `failure`: of one that did not, and without whom there is no answer."""
        self._watched = list(watched)
        self._callbacks = callbacks
        self._failure = failure
        self.changes_events = any(each.middleware.changes_events for each in watched)
        self.wants_whole = any(each.middleware.wants_whole for each in watched)
        self._events: list[Event] | None = [] if self.wants_whole else None
        self._answer: Answer | None = None

    def require_all(self) -> None:
        """Raise MiddlewareFailed unless all have begun who must. The others hear of the end."""
        if self._failure is not None:
            raise MiddlewareFailed from self._failure

    def head(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Let all see and change the response headers. Raises MiddlewareFailed."""
        for each in tuple(self._watched):
            try:
                each.watch.head(headers)
            except Exception as problem:
                log.exception("response_middleware", middleware=_name(each.middleware))
                self._leave_out(each, problem)

    def events(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return what the client gets of some events, maybe nothing. Raises MiddlewareFailed, UpstreamError.

        Where somebody changes them they come back in the canonical form, without raw bytes.
        """
        if self.changes_events:
            events = plain(events)
        for each in tuple(self._watched):
            try:
                seen = each.watch.events(events)
                if each.middleware.changes_events:
                    events = [*seen]  # which may be a generator, and must not be None
            except Exception as problem:
                log.exception("response_middleware", middleware=_name(each.middleware))
                self._leave_out(each, problem)
        if self._events is not None:
            self._events += events
            if len(self._events) > MAX_WHOLE_EVENTS:
                self._events = None
        return events

    def withheld(self, error: UpstreamError) -> Sequence[Event]:
        """Return what has been withheld of a stream that ends in `error`. Raises MiddlewareFailed."""
        return [event for event in self.events([failed_event(error)]) if event.error is None]

    def answer(self, answer: Answer) -> Answer:
        """Return the answer that the client gets. Raises MiddlewareFailed."""
        for each in tuple(self._watched):
            try:
                seen = each.watch.answer(answer)
                if each.middleware.changes_events:
                    answer = _an_answer(seen)
            except Exception as problem:
                log.exception("response_middleware", middleware=_name(each.middleware))
                self._leave_out(each, problem)
        if self.wants_whole:
            self._answer = answer
        return answer

    def finished(self, completion: Completion) -> None:
        """Tell all of the end, in a thread of its own, once `completion` is whole. Never raises or waits."""
        self._callbacks.put(_Ended(self._watched, completion, self._events, self._answer))

    def _leave_out(self, each: _Watched, problem: Exception) -> None:
        if each.middleware.changes_events:
            raise MiddlewareFailed from problem
        self._watched.remove(each)


def _an_answer(seen: object) -> Answer:
    if not isinstance(seen, Answer):
        raise TypeError(f"answer() returned {type(seen).__name__}, not an Answer")
    return seen


class _Ended(NamedTuple):
    """An answer that has ended, and what is known of all of it."""

    watched: Sequence[_Watched]
    completion: Completion
    events: Sequence[Event] | None
    answer: Answer | None

    def whole(self) -> Mapping[str, Any] | None:
        """Return what the client got as one object; of a stream that broke off, as far as it came."""
        try:
            if self.answer is not None:
                return self._whole_answer(self.answer)
            if not self.events:
                return None
            completion = self.completion
            name = f"chatcmpl-{completion.id}"
            return assemble(self.events, id=name, created=int(completion.at), model=completion.model)
        except UpstreamError:  # a chunk that nobody parsed until now
            return None

    def _whole_answer(self, answer: Answer) -> Mapping[str, Any]:
        message = answer.message
        if "object" in message or "choices" not in message:
            return message
        bare = Answer(message=message, usage=answer.usage, finish_reasons=answer.finish_reasons)
        return enveloped(bare, self.completion).message


def _call_back(ended: Sequence[_Ended]) -> None:
    for each in ended:
        whole = each.whole()
        for watch, middleware in each.watched:
            try:
                watch.finished(each.completion, whole)
            except Exception:  # a callback is a guest
                log.exception("completion_callback", middleware=_name(middleware))


class Chains(NamedTuple):
    """Both chains of a process."""

    request: RequestChain
    response: ResponseChain


def configured() -> Chains:
    """Return the chains of the settings, made once. Raises ImproperlyConfigured naming variable and path."""
    return _made(tuple(settings.REQUEST_MIDDLEWARE), tuple(settings.RESPONSE_MIDDLEWARE), settings.GATEWAY)


@lru_cache(maxsize=1)
def _made(request: tuple[str, ...], response: tuple[str, ...], _environment: Any) -> Chains:
    made: dict[str, Any] = {}
    for variable, paths in (("REQUEST_MIDDLEWARE", request), ("RESPONSE_MIDDLEWARE", response)):
        for path in paths:
            if path not in made:
                made[path] = _instance(path, variable)
            _check(made[path], path, variable)
    return Chains(RequestChain(_all(made, request)), ResponseChain(_all(made, response)))


def _all(made: Mapping[str, Any], paths: Iterable[str]) -> list[Any]:
    return [made[path] for path in paths]


def _instance(path: str, variable: str) -> Any:
    try:
        factory = import_string(path)
    except ImportError as problem:
        raise ImproperlyConfigured(f"{variable}: {path!r} cannot be imported ({problem}).") from problem
    if not callable(factory):
        raise ImproperlyConfigured(f"{variable}: {path!r} is no class of a middleware.")
    try:
        return factory()
    except ImproperlyConfigured:
        raise
    except Exception as problem:
        raise ImproperlyConfigured(
            f"{variable}: {path!r} cannot be made without arguments ({type(problem).__name__}: {problem})."
        ) from problem


def _check(middleware: Any, path: str, variable: str) -> None:
    if variable == "REQUEST_MIDDLEWARE":
        if not inspect.iscoroutinefunction(getattr(middleware, "request", None)):
            raise ImproperlyConfigured(
                f"{variable}: {path!r} is no middleware: it has no `async def request`."
            )
    elif not callable(getattr(middleware, "begin", None)):
        raise ImproperlyConfigured(f"{variable}: {path!r} is no middleware: it has no method `begin`.")
    else:
        for name in ("changes_events", "wants_whole"):
            if not isinstance(getattr(middleware, name, None), bool):
                raise ImproperlyConfigured(f"{variable}: {path!r} must say `{name} = True` or `False`.")


def _name(middleware: object) -> str:
    return type(middleware).__qualname__
