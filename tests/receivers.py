"""Servers that take what the gateway sends by itself: a mail server, and a webhook's receiver.

with mail_sink() as mails, webhook_receiver() as hook:
    ...EMAIL_URL=mails.url, BUDGET_ALERT_WEBHOOK_URL=hook.url...
    assert mails.taken[0]["Subject"]
"""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class MailSink:
    """What a mail server has taken. `refused`: recipients that it refuses, for as long as they are in it."""

    url: str = ""
    taken: list[EmailMessage] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def to(self, address: str) -> list[EmailMessage]:
        """Return the mails to one address."""
        return [mail for mail in self.taken if mail["To"] == address]


@contextlib.contextmanager
def mail_sink() -> Iterator[MailSink]:
    """Run a mail server on a free port."""
    sink = MailSink()

    class Session(socketserver.StreamRequestHandler):
        """As much of SMTP (RFC 5321) as smtplib speaks without extensions."""

        def handle(self) -> None:
            self._say("220 sink")
            while line := self.rfile.readline().decode().strip():
                verb = line.split(":")[0].upper()
                if verb == "RCPT TO" and line.split("<")[1].split(">")[0] in sink.refused:
                    self._say("550 nobody of that name")
                elif verb == "DATA":
                    self._say("354 go on")
                    self._take()
                    self._say("250 taken")
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 ok")

        def _take(self) -> None:
            lines = list(iter(self.rfile.readline, b".\r\n"))
            whole = b"".join(line.removeprefix(b".") for line in lines)
            sink.taken.append(message_from_bytes(whole, policy=default))

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with _served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)) as port:
        sink.url = f"smtp://127.0.0.1:{port}"
        yield sink


@dataclass
class Received:
    """One request to a webhook: its headers in lower case, and its body's bytes."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """What a webhook's receiver was sent. `answers`: the statuses of the next answers; afterwards 200."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def told(self, *names: str) -> Sequence[Sequence[Any]]:
        """Return these fields of all bodies."""
        return [[request.json[name] for name in names] for request in self.requests]


@contextlib.contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    """Run an HTTP server on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(Received(self.path, told, body))
            self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        receiver.url = f"http://127.0.0.1:{port}/hooks/of-a-team"
        yield receiver


@contextlib.contextmanager
def _served(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
