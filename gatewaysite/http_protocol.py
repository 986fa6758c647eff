"""uvicorn's HTTP/1.1 protocol with two rules more, for pipelines and the end, and shorter ways for the lane.

While a pipelined request waits, uvicorn stops reading the connection, and then nothing tells that
the client has left. So a pipelined request is answered with `Connection: close`: the client learns
to send its next ones on connections of their own.

When the server ends (draining.py), a connection is closed after an answer that says so, or when nothing
was asked on it for as long as clients would. uvicorn closes it at once, and resets what is on its way.

uvicorn searches every name and value of a response's headers with two regular expressions, and writes
head and body apart. What the lane sends (it says so: LANE_KEY) is checked all at once and, where it is
whole, written in one piece: a system call less, and a wake-up of the client.

uvicorn starts the application, in a task, with the headers. Here a request is looked at when its body
has come: one that the lane can answer at once (proxy.encore) needs no task.
"""

import asyncio
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gatewaysite.draining import DrainState
from proxy.asgi import BROKEN, LANE_KEY, at_once, refusal
from proxy.encore import WireReply
from proxy.errors import stopping

log = structlog.get_logger()


class LaneCycle(RequestResponseCycle):
    """One request and its response."""

    _head = b""  # of a whole response, until its body is here: both go out in one write

    async def send(self, message: Any) -> None:
        """Write the lane's responses; leave all else to uvicorn."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if LANE_KEY not in message or self.disconnected or self.response_complete:
            await super().send(message)
        elif not self.response_started:
            self._start(message)
        elif message[LANE_KEY] == BROKEN:
            self.disconnected = True  # otherwise uvicorn logs an error: a response without an end
            self.transport.close()
        elif message["more_body"]:
            body = message["body"]
            if body and self.scope["method"] != "HEAD":
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            self._finish(message["body"])

    def answer(self, reply: WireReply) -> None:
        """Write a whole response at once."""
        ours = b"".join([b"%b: %b\r\n" % header for header in self.default_headers])
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.response_started = True
        self.transport.write(b"%b%b%b%b%b" % (STATUS_LINE[200], ours, reply.head, end, reply.body))
        self._over()
        self.on_response = _nothing  # as uvicorn does at a task's end: it leads back to the connection

    def cut_off(self) -> None:
        """End it: refuse it if its response has not begun. The application learns that its client is gone."""
        if not self.response_started:
            error = stopping()
            headers, body = refusal(self.scope, error)
            self.keep_alive = False
            self._start({"status": error.status, "headers": headers})
            self._finish(body)
        self.disconnected = True
        self.message_event.set()

    def _start(self, message: Any) -> None:
        """Write a head whose names are lower-case and whose content-length, if any, comes last."""
        headers = message["headers"]
        lines = [b": ".join(header) for header in (*self.default_headers, *headers)]
        head = b"\r\n".join([*lines, b""])
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header of the response has a line end in it")
        self.response_started = True
        self.waiting_for_100_continue = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.chunked_encoding = not headers or headers[-1][0] != b"content-length"
        if self.chunked_encoding and self.scope["method"] != "HEAD":
            end = b"transfer-encoding: chunked\r\n" + end
        head = b"%b%b%b" % (STATUS_LINE[message["status"]], head, end)
        if self.chunked_encoding:
            self.transport.write(head)
        else:
            self._head = head

    def _finish(self, body: bytes) -> None:
        """Write the rest, and let the connection go on to the next request."""
        if not self.chunked_encoding:
            self.transport.write(self._head + body)
        elif self.scope["method"] != "HEAD":
            self.transport.write(b"0\r\n\r\n" if not body else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        self._over()

    def _over(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _nothing() -> None:
    """Be called when a response is over for the second time."""


class PipelineClosingProtocol(HttpToolsProtocol):
    """Answers what is pipelined, and closes after it. A request that it can answer at once, it does."""

    server_state: DrainState
    _awaits_body: Any = None  # the application that gets the request once its body is here
    _ends = False  # the server is ending: the next answer is the last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin, even if the end has come by now."""
        super().connection_made(transport)
        if self.server_state.idle_s is not None:
            self.shutdown()

    def on_headers_complete(self) -> None:
        """Mark a request that had to queue, or is the last."""
        super().on_headers_complete()
        # uvicorn names the class of its cycles inside the method just called.
        if self.cycle is not None:
            self.cycle.__class__ = LaneCycle
        if self._ends or (self.pipeline and self.pipeline[0][0] is self.cycle):
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece; a body that is too large to be kept whole is handed over as it comes."""
        super().on_body(body)
        if self._awaits_body is not None and self.flow.read_paused:
            app, self._awaits_body = self._awaits_body, None
            super()._start_asgi_task(self.cycle, app)

    def on_message_complete(self) -> None:
        """Answer at once, or start the application."""
        super().on_message_complete()
        if self._awaits_body is not None:
            app, self._awaits_body = self._awaits_body, None
            if not self._answered_at_once():
                super()._start_asgi_task(self.cycle, app)

    def shutdown(self) -> None:
        """Let the next answer be the last, or the silence until then."""
        self._ends = True
        idle_s = self.server_state.idle_s or 0.0
        self.timeout_keep_alive = idle_s  # type: ignore[assignment]  # uvicorn's are whole seconds
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.response_started:  # otherwise its head has not told that the connection ends
                cycle.keep_alive = False
        elif not self._reads_head():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(idle_s, self.timeout_keep_alive_handler)

    def cut_off(self) -> None:
        """End now, whatever is running."""
        # Of what is pipelined the first is answered now, and only the last is at hand.
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete and not self.pipeline:
            cycle.cut_off()
        self.transport.close()

    def _reads_head(self) -> bool:
        """Has a request begun whose head is not here as a whole?"""
        begun: Any = self.scope
        cycle: Any = self.cycle
        return begun is not None and (cycle is None or begun is not cycle.scope)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Wait for the body first, unless the client waits for us."""
        if self.transport.is_closing():  # what came behind an answer that closes
            return
        if cycle.more_body and not cycle.waiting_for_100_continue:
            self._awaits_body = app
        else:
            super()._start_asgi_task(cycle, app)

    def _answered_at_once(self) -> bool:
        cycle: Any = self.cycle
        if self.flow.write_paused:
            return False
        try:
            reply = at_once(cycle.scope, bytes(cycle.body))
        except Exception:  # a fault of ours: the usual way may do without what failed, or tells the client
            log.exception("at_once", path=cycle.scope["path"])
            return False
        if reply is not None:
            cycle.answer(reply)
        return reply is not None
