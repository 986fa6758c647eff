"""uvicorn's HTTP/1.1 protocol with a rule more, for pipelined requests, and a shorter way out, for the lane.

While a pipelined request waits, uvicorn stops reading the connection, and then nothing tells that
the client has left. So a pipelined request is answered with `Connection: close`: the client learns
to send its next ones on connections of their own.

uvicorn searches every name and value of a response's headers with two regular expressions, and writes
head and body apart. What the lane sends (it says so: LANE_KEY) is checked all at once and, where it is
whole, written in one piece: a system call less, and a wake-up of the client.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from proxy.asgi import LANE_KEY


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
        elif message["more_body"]:
            body = message["body"]
            if body and self.scope["method"] != "HEAD":
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            self._finish(message["body"])

    def _start(self, message: Any) -> None:
        """Write a head whose names are lower-case and whose content-length, if any, comes last."""
        headers = message["headers"]
        lines = [b"%b: %b\r\n" % header for header in (*self.default_headers, *headers)]
        head = b"".join(lines)
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
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class PipelineClosingProtocol(HttpToolsProtocol):
    """Answers what is pipelined, and closes after it."""

    def on_headers_complete(self) -> None:
        """Mark a request that had to queue."""
        super().on_headers_complete()
        # uvicorn names the class of its cycles inside the method just called.
        if self.cycle is not None:
            self.cycle.__class__ = LaneCycle
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.cycle.keep_alive = False
