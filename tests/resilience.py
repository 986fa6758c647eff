"""Providers, routes and requests for the tests of resilience: all of it before the fake vendor.

    document = configuration([provider(vendor, "one")], [route("few*", "one")])
    with running_gateway(CALM, files=document) as gateway, client_of(gateway) as client:
        ask(client, model := unique("few~fail=1x503"))
        assert shown(vendor, model) == ["one", "one"]

Each provider shows a key that bears its name, so that the vendor's log tells which one has asked.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import yaml
from anthropic import Anthropic
from openai import OpenAI

from tests.gateway import Gateway
from tests.records import logged
from tests.upstream import FakeVendor, bearer, chat, data_lines

CHAT = "/v1/chat/completions"
KEY = "the-key-of-who-needs-resilience"
SECOND_KEY = "the-key-of-the-other-tenant-012"
# No cache and no breaker: requests of one test say little to the next.
CALM: Mapping[str, str] = {"CACHE_MODE": "none", "CB_ERROR_THRESHOLD": "1000", "MAX_RETRIES": "3"}
_BASES = {"openai": "/openai/v1", "anthropic": "/anthropic", "mistral": "/mistral/v1"}
_SHOWN = "upstream-key-of-"


def key_of(name: str) -> str:
    """Return the credential that the vendor is shown under a name."""
    return f"{_SHOWN}{name}"


def provider(
    vendor: FakeVendor, name: str, *, dialect: str = "openai", further: Sequence[str] = (), **fields: Any
) -> dict[str, Any]:
    """Return a provider; its credentials are called `name`, and as `further` says."""
    keys = [{"name": each, "api_key": key_of(f"{name}-{each}")} for each in further]
    return {
        "name": name,
        "dialect": dialect,
        "base_url": f"{vendor.url}{_BASES[dialect]}",
        "api_key": key_of(name),
        **({"api_keys": keys} if keys else {}),
        **fields,
    }


def route(match: str, *targets: str | Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a route; a target that is only a name is that provider's model as asked for."""
    listed = [{"provider": each} if isinstance(each, str) else each for each in targets]
    return {"match": match, "targets": listed, **fields}


def configuration(
    providers: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, str]:
    """Return the files of a gateway with two tenants; `more` adds sections, or replaces them."""
    document = {
        "version": 1,
        "providers": providers,
        "routes": routes,
        "tenants": [{"name": "team"}, {"name": "other"}],
        "keys": [
            {"name": "team-key", "tenant": "team", "secret": KEY},
            {"name": "other-key", "tenant": "other", "secret": SECOND_KEY},
        ],
        **more,
    }
    return {"config.yaml": yaml.safe_dump(document)}


def treat(vendor: FakeVendor, model: str, shown: str = "", *, case: str = "", **options: Any) -> None:
    """Have the vendor treat the requests for a model its own way, or those that show one credential.

    `case` answers instead of what the model's name says, `options` are added to it: see the kit's README.
    """
    match: dict[str, Any] = {"model": f"^{re.escape(model)}$"}
    if shown:
        # Anthropic's requests show it in a header of their own: the pattern holds for whichever is there.
        match["header"] = {
            "authorization": f"^(Bearer {_SHOWN}{shown})?$",
            "x-api-key": f"^({_SHOWN}{shown})?$",
        }
    vendor.rule(match=match, case=case, opts=options)


def client_of(gateway: Gateway, key: str = KEY) -> httpx.Client:
    """Return a client of the gateway."""
    return httpx.Client(base_url=gateway.url, headers=bearer(key), timeout=60)


def openai_of(gateway: Gateway) -> OpenAI:
    """Return OpenAI's SDK, which tries nothing twice by itself."""
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=60)


def anthropic_of(gateway: Gateway) -> Anthropic:
    """Return Anthropic's SDK, likewise."""
    return Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=60)


def ask(client: httpx.Client, model: str, text: str = "Hello there", **more: Any) -> httpx.Response:
    """Send a chat request, and read the answer to its end."""
    return client.post(CHAT, json=chat(model, text, **more))


def told(answer: httpx.Response) -> tuple[int, str, str]:
    """Return the status, who has answered, and after how many attempts."""
    headers = answer.headers
    return answer.status_code, headers.get("x-gateway-provider", ""), headers.get("x-gateway-attempts", "")


def text_of(answer: httpx.Response) -> str:
    """Return what a JSON answer or a whole stream says."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    *chunks, done = data_lines(answer.text.splitlines())
    assert done == "[DONE]", chunks[-1]
    choices = [choice for each in chunks for choice in json.loads(each)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the error that an answer is, or that a stream ends in."""
    body: dict[str, Any]
    if answer.headers["content-type"].startswith("text/event-stream"):
        last = data_lines(answer.text.splitlines())[-1]
        body = json.loads(last)
    else:
        body = answer.json()
    error: dict[str, Any] = body["error"]
    return error


def shown(vendor: FakeVendor, model: str) -> list[str]:
    """Return the credentials of the requests for a model, in the order in which the vendor had them."""
    return [credential(entry) for entry in vendor.asked(model)]


def credential(entry: Mapping[str, Any]) -> str:
    """Return the name of the credential that a request has shown."""
    headers = entry["headers"]
    secret = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
    return str(secret).removeprefix(_SHOWN)


def attempts_of(gateway: Gateway, answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the attempts in the record of an answered request."""
    found: list[dict[str, Any]] = json.loads(logged(gateway, answer.headers["x-request-id"])["attempts"])
    return found


def metric(gateway: Gateway, sample: str) -> float:
    """Return a metric's value, 0 where there is none yet; `sample` is its name with its labels."""
    text = httpx.get(f"{gateway.url}/metrics", timeout=30).text
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{sample} ")]
    return float(values[0]) if values else 0.0
