"""An installation whose clients may bring vendors' keys of their own, and how they bring them."""

from collections.abc import Mapping

from anthropic import Anthropic
from openai import OpenAI

from tests.gateway import Gateway
from tests.resilience import (
    KEY,
    configuration,
    key_of,
    provider,
    route,
)
from tests.upstream import FakeVendor, bearer

HEADER = "x-upstream-api-key"
OWN = key_of("a-client-of-its-own")  # that it bears this name makes `shown` tell it
NAME = "a-client-of-its-own"
BROUGHT: Mapping[str, str] = {"ALLOW_CLIENT_API_KEYS": "true"}
WAYS = ("beside", "instead")


def installation(vendor: FakeVendor) -> dict[str, str]:
    providers = [
        provider(vendor, "one", further=["spare"]),
        provider(vendor, "after"),
        provider(vendor, "limited"),
        provider(vendor, "claude", dialect="anthropic"),
        {**provider(vendor, "unkeyed"), "api_key": ""},
        {**provider(vendor, "openai"), "name": "openai"},
        {**provider(vendor, "anthropic", dialect="anthropic"), "name": "anthropic"},
    ]
    routes = [
        route("pair*", "one", "after"),
        route("limited*", "limited"),
        route("claude-pair*", "claude", "after"),
        route("unkeyed*", "unkeyed", "after"),
        route("gpt-4o-mini", {"provider": "openai", "model": "synthetic~tag=doc-openai"}),
        route("claude-haiku-4-5", {"provider": "anthropic", "model": "synthetic~tag=doc-anthropic"}),
    ]
    prices = [
        {"provider": name, "model": "*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
        for name in ("one", "after")
    ]
    return configuration(providers, routes, default_provider="one", prices=prices)


def headers_of(way: str, own: str = OWN) -> dict[str, str]:
    return {**bearer(KEY), HEADER: own} if way == "beside" else bearer(own)


def openai_of(gateway: Gateway, way: str, own: str = OWN) -> OpenAI:
    key, headers = (KEY, {HEADER: own}) if way == "beside" else (own, {})
    return OpenAI(
        base_url=f"{gateway.url}/v1", api_key=key, default_headers=headers, max_retries=0, timeout=60
    )


def anthropic_of(gateway: Gateway, way: str, own: str = OWN) -> Anthropic:
    key, headers = (KEY, {HEADER: own}) if way == "beside" else (own, {})
    return Anthropic(base_url=gateway.url, api_key=key, default_headers=headers, max_retries=0, timeout=60)
