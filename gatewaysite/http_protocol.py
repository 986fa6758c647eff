"""uvicorn's HTTP/1.1 protocol with one rule more, for pipelined requests.

While a pipelined request waits, uvicorn stops reading the connection, and then nothing tells that
the client has left. So a pipelined request is answered with `Connection: close`: the client learns
to send its next ones on connections of their own.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PipelineClosingProtocol(HttpToolsProtocol):
    """Answers what is pipelined, and closes after it."""

    def on_headers_complete(self) -> None:
        """Mark a request that had to queue."""
        super().on_headers_complete()
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.cycle.keep_alive = False
