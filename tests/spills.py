"""What must not get out: an answer full of it, a tap on what clients get, a sink of records."""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAIL = "ada.lovelace@example.com"
PHONE = "+49 30 1234567"
CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
TOKEN = "sk-proj-" + "Ab1" * 16
SECRETS = (MAIL, PHONE, CARD, IBAN, TOKEN)
SPILLED = f"Write to {MAIL}, call {PHONE}, card {CARD}, account {IBAN}, key {TOKEN} . Bye now"
CLEAN = "Write to [EMAIL], call [PHONE], card [CARD], account [IBAN], key [SECRET] . Bye now"
# Long enough pieces of them to be told by: no answer has these by chance.
TRACES = ("lovelace@", "1234567", "1111 1111", "0044 0532", "Ab1Ab1Ab1")


class Tap:
    """A port before a server, which keeps every byte that goes to its clients."""

    def __init__(self, port: int) -> None:
        """Stand before the server at `port` of this machine."""
        self.got = b""
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def values(self, header: str) -> list[str]:
        """Return the values of a response header, in the order of the responses."""
        return [value.decode() for value in re.findall(rb"\r\n%b: ([^\r]*)" % header.encode(), self.got)]

    @property
    def responses(self) -> int:
        """How many heads have passed."""
        return self.got.count(b"HTTP/1.1 ")

    def close(self) -> None:
        """Take no more, and wait for those who are there to hang up."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for source, sink_, keeps in ((client, server, False), (server, client, True)):
                    arguments = (source, sink_, keeps)
                    thread = threading.Thread(target=self._pump, args=arguments, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, keeps: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if keeps:
                    self.got += piece
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@dataclass
class Sink:
    """Takes batches of records, as a webhook does."""

    url: str
    batches: list[Any] = field(default_factory=list)

    def of(self, request_id: str) -> list[dict[str, Any]]:
        """Return the records of a request, by the id that its client knows."""
        records = [record for batch in list(self.batches) for record in batch["completions"]]
        return [record for record in records if record["request_id"] == request_id]


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """Run one on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            kept.batches.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept = Sink(url=f"http://127.0.0.1:{server.server_address[1]}/completions")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
