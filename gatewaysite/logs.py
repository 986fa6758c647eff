"""Structured logs: structlog for the data plane, off the event loop through one writer thread.

A log call costs a few microseconds: the line is rendered and put into a queue; a daemon thread
writes it to standard output. Standard-library loggers (Django, celery, uvicorn) join the queue.
"""

import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import Any

import orjson
import structlog

MAX_QUEUED = 50_000
MAX_BATCH = 500
LOOK_EVERY_S = 0.02
_LEVEL_NAMES = {"exception": "error", "warn": "warning", "fatal": "critical"}
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class QueuedOutput:
    """Takes rendered lines without blocking; a full queue drops lines and counts them.

    The writer looks every few milliseconds instead of being woken by each line: a wake-up hands the
    interpreter from the event loop to the writer and back, which costs more than the rest of a line.
    """

    def __init__(self) -> None:
        """Start no thread yet: it starts with the first line, after any fork."""
        self.dropped = 0
        self._lines: deque[bytes] = deque()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._starting = threading.Lock()

    def msg(self, line: str | bytes) -> None:
        """Queue one line."""
        if self._thread is None:
            self._start()
        if len(self._lines) >= MAX_QUEUED:
            self.dropped += 1
            return
        self._lines.append(line if isinstance(line, bytes) else line.encode("utf-8", "replace"))

    log = debug = info = warn = warning = error = critical = fatal = exception = failure = msg

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
            self._thread = None

    def forked(self) -> None:
        """Begin anew in a child process: the parent's thread is not here, and writes what is queued."""
        self._thread = None
        self._lines.clear()
        self._starting = threading.Lock()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return  # another thread was faster
            self._closing = threading.Event()
            thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
            thread.start()
            self._thread = thread  # only now: `close` joins what it finds here

    def _write(self) -> None:
        closing = self._closing
        while not closing.wait(LOOK_EVERY_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._lines:
            count = min(len(self._lines), MAX_BATCH)
            batch = b"\n".join([self._lines.popleft() for _ in range(count)]) + b"\n"
            try:
                while batch:
                    batch = batch[os.write(sys.stdout.fileno(), batch) :]
            except (OSError, ValueError):
                return  # standard output is gone (closed pipe): there is nowhere left to say so


OUTPUT = QueuedOutput()
_second, _second_text = 0, ""
_requests_as = ""  # style of the lines of finished requests; empty: their level is not logged
atexit.register(OUTPUT.close)
os.register_at_fork(after_in_child=OUTPUT.forked)


class _ToStructlog(logging.Handler):
    """Sends standard-library records down the same road."""

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        method = getattr(structlog.get_logger(), record.levelname.lower(), None)
        (method or structlog.get_logger().info)(record.getMessage(), **event)


def configure_logging(level: str, style: str) -> None:
    """Set up structlog and the standard library for `level` and `style` (json or console)."""
    global _requests_as  # noqa: PLW0603 - logging is the process's
    _requests_as = style if _LEVELS[level] <= logging.INFO else ""
    structlog.configure(
        processors=[_render_json]
        if style == "json"
        else [
            structlog.processors.add_log_level,
            _stamp,
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: OUTPUT,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    for noisy in ("httpx", "httpcore", "asyncio", "daphne", "uvicorn.access", "django.channels.server"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_request(record: bytes, attempts: int, prompt: str) -> None:
    """Write the line of a finished request: `record` (proxy.completion), already JSON, goes on as it is.

    The other lines take structlog's road; this one is written for every request, and rendering the same
    facts a second time would cost more than all the rest of it.
    """
    if _requests_as == "json":
        tail = b"" if not prompt else b',"prompt":' + orjson.dumps(prompt)
        line = b'{"event":"request","level":"info","timestamp":"%b",%b,"attempts":%d%b}'
        OUTPUT.msg(line % (_timestamp().encode(), record[1:-1], attempts, tail))
    elif _requests_as:
        fields = {name: value for name, value in orjson.loads(record).items() if value not in (None, "")}
        structlog.get_logger().info(
            "request", **fields, attempts=attempts, **({"prompt": prompt} if prompt else {})
        )


def _stamp(_logger: Any, _method: str, event: Any) -> Any:
    event["timestamp"] = _timestamp()
    return event


def _timestamp() -> str:
    """Return the time in UTC, to the millisecond; the text of a second is made once."""
    global _second, _second_text
    now = time.time()
    second = int(now)
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_second_text}.{int((now - second) * 1000):03d}Z"


def _render_json(logger: Any, method: str, event: Any) -> bytes:
    """Return the whole line: one processor, because each costs a call for every request."""
    event["level"] = _LEVEL_NAMES.get(method, method)
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(logger, method, event)
    return orjson.dumps(_stamp(logger, method, event), default=str)
