"""Binds the address that the gateway listens on, or says in a sentence why it cannot."""

import errno
import socket
import time

BACKLOG = 2048
PATIENCE_S = 3.0  # a killed predecessor's processes let go of the port within a second


class CannotListen(Exception):
    """The address cannot be had; the message tells the operator why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Return the listening socket. Raises CannotListen with a sentence when the address cannot be had."""
    family, kind, _, _, address = _resolve(host, port)
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            listener.bind(address)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            listener.close()
            raise CannotListen(_why_not(host, port, problem)) from None
        else:
            listener.listen(BACKLOG)
            return listener


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as problem:
        raise CannotListen(f"HOST={host} is no address of this machine: {problem.strerror}.") from None
    return found[0]  # type: ignore[return-value]  # an IPv6 address has two more fields


def _why_not(host: str, port: int, problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another process. Stop it, or choose another: PORT={port + 1}."
        )
    if problem.errno in {errno.EACCES, errno.EPERM}:
        return f"Port {port} needs root. Choose one above 1023: PORT=8080."
    return f"Cannot listen on {host}:{port}: {problem.strerror}."
