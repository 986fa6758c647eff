"""The client's address, believing X-Forwarded-For only from proxies the operator trusts."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from django.http import HttpRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_ip(request: HttpRequest, trusted_proxies: Sequence[str]) -> str:
    """Return the nearest address that is not one of `trusted_proxies` (addresses or CIDR)."""
    peer: str = request.META.get("REMOTE_ADDR", "")
    if not trusted_proxies or not _trusted(peer, tuple(trusted_proxies)):
        return peer
    forwarded: list[str] = [
        part.strip() for part in str(request.headers.get("x-forwarded-for") or "").split(",")
    ]
    for address in reversed(forwarded):
        if address and not _trusted(address, tuple(trusted_proxies)):
            return address
    return peer


def comes_from(address: str, networks: Sequence[Network]) -> bool:
    """Is `address` in one of `networks`? An IPv4 address written as IPv6 (::ffff:10.0.0.1) is IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def _trusted(address: str, proxies: tuple[str, ...]) -> bool:
    return comes_from(address, _networks(proxies))


@lru_cache
def _networks(proxies: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(proxy, strict=False) for proxy in proxies)
