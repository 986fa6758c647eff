"""Host names to addresses by c-ares: no threads, and no file or socket that blocks the event loop."""

import asyncio
import ipaddress
import socket
from functools import partial

import aiodns

from proxy.wire.errors import CannotConnect

RESOLVE_S = 2.0
TRIES = 2
KEEP_S = 30.0
MAX_KEPT = 1000

# As socket.getaddrinfo gives them: family, type, protocol, canonical name, address.
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class Addresses:
    """Remembers addresses for KEEP_S seconds; a burst of connections asks once."""

    def __init__(self) -> None:
        """Make the resolver at the first name."""
        self._resolver: aiodns.DNSResolver | None = None
        self._kept: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def of(self, host: str, port: int) -> list[AddressInfo]:
        """Return where `host` is. Raises CannotConnect."""
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        key = (host, port)
        loop = asyncio.get_running_loop()
        kept = self._kept.get(key)
        if kept is not None and loop.time() < kept[0]:
            return kept[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = loop.create_task(self._ask(host, port))
            asking.add_done_callback(partial(self._asked, key))
        found = await asyncio.shield(asking)
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = (loop.time() + KEEP_S, found)
        return found

    async def close(self) -> None:
        """Let go of the resolver."""
        for asking in list(self._asking.values()):
            asking.cancel()
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None

    def _asked(self, key: tuple[str, int], asking: "asyncio.Task[list[AddressInfo]]") -> None:
        self._asking.pop(key, None)
        if not asking.cancelled():
            asking.exception()  # whoever waited was told, unless all have left

    async def _ask(self, host: str, port: int) -> list[AddressInfo]:
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(timeout=RESOLVE_S, tries=TRIES)
        try:
            answer = await self._resolver.getaddrinfo(
                host, port=port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except (aiodns.error.DNSError, UnicodeError) as problem:
            raise CannotConnect(f"no such host: {host}") from problem
        found: list[AddressInfo] = []
        for node in answer.nodes:
            address = (node.addr[0].decode("ascii"), *node.addr[1:])
            found.append((node.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address))
        if not found:
            raise CannotConnect(f"no address: {host}")
        return found


def _literal(host: str, port: int) -> AddressInfo | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 6:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
