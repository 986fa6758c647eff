"""The headers in which an answer says where it comes from."""

from functools import lru_cache

from proxy.completion import Completion
from proxy.http import WireHeader


def wire_headers(completion: Completion) -> list[WireHeader]:
    """Return what every answer says about itself."""
    facts = (completion.provider, completion.model, completion.cache, len(completion.attempts))
    headers = [(b"x-request-id", completion.request_id.encode("latin-1", "replace")), *_facts_on_wire(*facts)]
    if completion.told:
        headers += completion.told
    return headers


@lru_cache(maxsize=1024)
def _facts_on_wire(provider: str, model: str, cached: str, attempts: int) -> tuple[WireHeader, ...]:
    headers = []
    if provider:
        headers += [("x-gateway-provider", provider), ("x-gateway-model", model)]
    if cached:
        headers += [("x-gateway-cache", cached), ("x-gateway-attempts", str(attempts))]
    return tuple((name.encode(), value.encode("latin-1", "replace")) for name, value in headers)


def gateway_headers(completion: Completion) -> dict[str, str]:
    """Return the same for an answer that is an error; without what is not known by then."""
    return {name.decode(): value.decode("latin-1") for name, value in wire_headers(completion) if value}
