"""Vendors' keys that clients bring, with real SDKs through a served gateway: who sees them, what is kept."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai import OpenAI

from tests.gateway import Gateway, running_gateway
from tests.own_credentials import (
    BROUGHT,
    HEADER,
    NAME,
    OWN,
    WAYS,
    anthropic_of,
    headers_of,
    installation,
    openai_of,
)
from tests.records import logged
from tests.resilience import (
    CALM,
    KEY,
    ask,
    client_of,
    shown,
    text_of,
    told,
    treat,
)
from tests.servers import CHECKOUT
from tests.upstream import QUIET, TEAM_KEY, UPSTREAM_KEY, FakeVendor, unique
from tests.vendor_files import FileVendor, behind, file_vendor

_BLOCK = re.compile(r"<!-- run by: (\S+) -->\n```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    with running_gateway({**CALM, **BROUGHT}, files=installation(vendor)) as gateway:
        yield gateway


@pytest.fixture
def client(served: Gateway, way: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=headers_of(way), timeout=60) as made:
        yield made


# ---------------------------------------------------------------- SDKs


def chats(sdk: OpenAI, model: str) -> str:
    answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    return answer.choices[0].message.content or ""


def streams(sdk: OpenAI, model: str) -> str:
    chunks = sdk.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def completes(sdk: OpenAI, model: str) -> str:
    return sdk.completions.create(model=model, prompt="Hello").choices[0].text


def embeds(sdk: OpenAI, model: str) -> Any:
    return sdk.embeddings.create(model=model, input="Hello").data[0].embedding


def responds(sdk: OpenAI, model: str) -> str:
    return sdk.responses.create(model=model, input="Hello").output_text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asks", [chats, streams, completes, embeds, responds])
def test_openais_sdk_brings_one(served: Gateway, vendor: FakeVendor, asks: Any, way: str) -> None:
    model = unique()
    with openai_of(served, way) as sdk:
        assert asks(sdk, model)
    assert shown(vendor, model) == [NAME]
    assert KEY not in str(vendor.asked(model))


@pytest.mark.parametrize("way", WAYS)
def test_anthropics_sdk_brings_one(served: Gateway, vendor: FakeVendor, way: str) -> None:
    model = unique("claude-pair")
    turn: Any = {"role": "user", "content": "Hello"}
    with anthropic_of(served, way) as sdk:
        assert sdk.messages.create(model=model, max_tokens=99, messages=[turn]).content
        other = unique("synthetic")
        with sdk.messages.stream(model=f"claude/{other}", max_tokens=99, messages=[turn]) as stream:
            assert stream.get_final_text()
        assert sdk.messages.count_tokens(model=f"claude/{other}", messages=[turn]).input_tokens > 0
    asked = [*vendor.asked(model), *vendor.asked(other)]
    assert [each["headers"].get("x-api-key") for each in asked] == [OWN] * 3
    assert all("authorization" not in each["headers"] for each in asked)


def test_who_sends_none_gets_the_configured_one(served: Gateway, vendor: FakeVendor) -> None:
    model = unique()
    with client_of(served) as client:
        assert told(ask(client, model))[0] == 200
    assert shown(vendor, model) == ["one"]


@pytest.mark.parametrize("way", WAYS)
def test_its_record_says_who_paid(served: Gateway, client: httpx.Client, way: str) -> None:
    answer = ask(client, unique())
    row = logged(served, answer.headers["x-request-id"])
    assert row["outcome"] == "ok"
    assert (row["key_ref"] is None) == (way == "instead")
    lines = [json.loads(line) for line in served.log().splitlines() if '"event":"request"' in line]
    (line,) = [each for each in lines if each["request_id"] == answer.headers["x-request-id"]]
    assert line["own_credential"] is True


# ---------------------------------------------------------------- failover and refusals


@pytest.mark.parametrize("stream", [False, True])
def test_failover_shows_it_to_nobody_else(served: Gateway, vendor: FakeVendor, stream: bool) -> None:
    model = unique("pair")
    treat(vendor, model, NAME, fail="99x503")
    with httpx.Client(base_url=served.url, headers=headers_of("beside"), timeout=60) as client:
        answer = ask(client, model, stream=stream)
    assert told(answer) == (200, "after", "2")
    assert text_of(answer)
    assert shown(vendor, model) == [NAME, "after"]


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_stands_in_for_who_has_nothing_else(served: Gateway, vendor: FakeVendor, stream: bool) -> None:
    model = unique("pair")
    treat(vendor, model, NAME, fail="99x503")
    with httpx.Client(base_url=served.url, headers=headers_of("instead"), timeout=60) as client:
        assert ask(client, model, stream=stream).status_code == 503
    assert shown(vendor, model) == [NAME] * 3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("status", "raised"),
    [(401, openai.AuthenticationError), (403, openai.PermissionDeniedError)],
)
def test_the_sdk_hears_that_it_is_refused(
    served: Gateway, vendor: FakeVendor, *, status: int, raised: type[openai.APIStatusError], way: str
) -> None:
    model = unique("pair")
    treat(vendor, model, NAME, fail=f"99x{status}")
    with openai_of(served, way) as sdk, pytest.raises(raised) as refused:
        chats(sdk, model)
    assert refused.value.code == "upstream_auth_failed"
    assert shown(vendor, model) == [NAME]
    with client_of(served) as client:  # that says nothing of ours
        assert told(ask(client, model)) == (200, "one", "1")


@pytest.mark.parametrize("way", WAYS)
def test_anthropics_sdk_hears_it_too(served: Gateway, vendor: FakeVendor, way: str) -> None:
    model = unique("claude-pair")
    treat(vendor, model, NAME, fail="99x401")
    turn: Any = {"role": "user", "content": "Hello"}
    with anthropic_of(served, way) as sdk, pytest.raises(anthropic.AuthenticationError):
        sdk.messages.create(model=model, max_tokens=99, messages=[turn])
    assert len(vendor.asked(model)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_its_limit_is_not_ours(served: Gateway, vendor: FakeVendor, way: str) -> None:
    model = unique("limited")
    treat(vendor, model, NAME, fail="99x429", retry_after="3600")
    with openai_of(served, way) as sdk, pytest.raises(openai.RateLimitError) as limited:
        chats(sdk, model)
    assert limited.value.response.headers["retry-after"] == "3600"
    with client_of(served) as client:
        assert told(ask(client, model)) == (200, "limited", "1")
    assert shown(vendor, model) == [NAME, "limited"]


@pytest.mark.parametrize("way", WAYS)
def test_our_limit_is_not_its(served: Gateway, vendor: FakeVendor, way: str) -> None:
    model = unique("limited")
    treat(vendor, model, "limited", fail="99x429", retry_after="3600")
    with client_of(served) as client:
        assert [ask(client, model).status_code for _ in range(2)] == [429, 429]
    with openai_of(served, way) as sdk:
        assert chats(sdk, model)
    assert shown(vendor, model) == ["limited", NAME]


def test_a_server_without_a_credential_is_not_open_to_strangers(served: Gateway, vendor: FakeVendor) -> None:
    model = unique("unkeyed")
    with openai_of(served, "instead") as sdk, pytest.raises(openai.AuthenticationError):
        chats(sdk, model)
    assert vendor.asked(model) == []
    with openai_of(served, "beside") as sdk:
        assert chats(sdk, model)
    assert shown(vendor, model) == [""]


def test_models_are_listed_for_it(served: Gateway) -> None:
    with openai_of(served, "instead") as sdk:
        names = {each.id for each in sdk.models.list()}
    assert {"gpt-4o-mini", "claude-haiku-4-5"} <= names
    assert not any(name.startswith(("unkeyed", "demo/")) for name in names)


# ---------------------------------------------------------------- where it is not allowed


def test_it_is_neither_taken_nor_sent_on_unless_allowed(vendor: FakeVendor) -> None:
    with running_gateway(CALM, files=installation(vendor)) as gateway:
        model = unique()
        with openai_of(gateway, "instead") as sdk, pytest.raises(openai.AuthenticationError) as refused:
            chats(sdk, model)
        assert "ALLOW_CLIENT_API_KEYS=true" in str(refused.value)
        with openai_of(gateway, "beside") as sdk:
            assert chats(sdk, model)
        assert shown(vendor, model) == ["one"]
        assert OWN not in str(vendor.asked(model))


# ---------------------------------------------------------------- what is passed on


@pytest.fixture(scope="module")
def files() -> Iterator[FileVendor]:
    with file_vendor() as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
def test_files_are_those_of_the_clients_account(files: FileVendor, way: str) -> None:
    with running_gateway({**QUIET, **BROUGHT}, files=behind(files)) as gateway:
        key, headers = (TEAM_KEY, {HEADER: OWN}) if way == "beside" else (OWN, {})
        url = f"{gateway.url}/v1"
        with OpenAI(base_url=url, api_key=key, default_headers=headers, max_retries=0) as sdk:
            before = len(files.requests)
            stored = sdk.files.create(file=("a.jsonl", io.BytesIO(b'{"a": 1}\n')), purpose="batch")
            assert sdk.files.content(stored.id).read() == b'{"a": 1}\n'
            sdk.moderations.create(input="something")
            private = {"x-gateway-provider": "private"}
            sdk.files.list(extra_headers=private)  # the operator's are refused: listing_not_allowed
            # The gateway itself asks for lists of models meanwhile.
            asked = [each for each in files.requests[before:] if not each.path.endswith("/models")]
        assert len(asked) == 4
        assert [each.headers["authorization"] for each in asked] == [f"Bearer {OWN}"] * 4
        assert not any(secret in str(asked) for secret in (UPSTREAM_KEY, TEAM_KEY))


# ---------------------------------------------------------------- docs/client-credentials.md


def snippets() -> list[Any]:
    text = (CHECKOUT / "docs" / "client-credentials.md").read_text()
    found = [(language, code) for runner, language, code in _BLOCK.findall(text) if runner in __file__]
    assert len(found) == 3
    return [pytest.param(*each, id=f"{each[0]}-{place}") for place, each in enumerate(found)]


@pytest.mark.parametrize(("language", "code"), snippets())
def test_the_documents_snippets_run(served: Gateway, vendor: FakeVendor, language: str, code: str) -> None:
    command = ["bash", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
    before = len(vendor.everything())
    done = subprocess.run(
        command,
        env={**os.environ, "GATEWAY_URL": served.url, "GATEWAY_KEY": KEY, "VENDOR_KEY": OWN},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if language == "sh":
        assert json.loads(done.stdout)["choices"]
    (asked,) = vendor.everything()[before:]
    assert OWN in (asked["headers"].get("x-api-key"), asked["headers"].get("authorization", "")[7:])
