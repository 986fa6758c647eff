"""What is only passed on, with the real OpenAI SDK, through a served gateway, to a vendor on a socket."""

import hashlib
import io
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.gateway import Gateway, running_gateway
from tests.rawhttp import errors_in
from tests.records import logged
from tests.servers import eventually
from tests.upstream import LIMITED_KEY, QUIET, TEAM_KEY, UPSTREAM_KEY
from tests.vendor_files import SPEECH, FileVendor, behind, file_vendor

MIB = 1 << 20


@pytest.fixture(scope="module")
def vendor() -> Iterator[FileVendor]:
    with file_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(vendor: FileVendor) -> Iterator[Gateway]:
    with running_gateway({**QUIET, "MAX_BODY_BYTES": "64KiB"}, files=behind(vendor)) as served:
        served.key = TEAM_KEY
        yield served


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with sdk(gateway, TEAM_KEY) as made:
        yield made


def sdk(gateway: Gateway, key: str) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=60)


def named() -> dict[str, Any]:
    """Return the option that gives a request an id of its own."""
    return {"extra_headers": {"x-request-id": f"fwd-{uuid.uuid4().hex}"}}


def id_of(options: dict[str, Any]) -> str:
    return str(options["extra_headers"]["x-request-id"])


# ---------------------------------------------------------------- JSON


def test_it_passes_a_moderation_on(client: OpenAI, gateway: Gateway, vendor: FileVendor) -> None:
    options = named()
    answer = client.moderations.create(input="something", **options)
    assert answer.results[0].flagged
    asked = vendor.asked("/v1/moderations")[-1]
    assert asked.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert TEAM_KEY not in str(asked.headers)
    row = logged(gateway, id_of(options))
    assert (row["endpoint"], row["provider"], row["model"]) == ("moderations", "main", "")
    assert (row["status"], row["outcome"], row["cost_nanousd"]) == (200, "ok", None)


def test_it_tells_the_vendors_facts_and_none_of_its_cookies(client: OpenAI) -> None:
    raw = client.moderations.with_raw_response.create(input="x", model="main/omni")
    assert raw.headers["x-gateway-provider"] == "main"
    assert raw.headers["x-gateway-model"] == "omni"
    assert raw.headers["x-gateway-cache"] == "bypass"
    assert raw.headers["x-upstream-ratelimit-remaining-requests"] == "41"
    assert raw.headers["openai-processing-ms"] == "7"
    assert "set-cookie" not in raw.headers


def test_it_counts_the_tokens_of_an_image(client: OpenAI, gateway: Gateway) -> None:
    options = named()
    image = client.images.generate(model="gpt-image-1", prompt="a cat", **options)
    assert image.data is not None
    assert image.data[0].b64_json == "aW1hZ2U="
    row = logged(gateway, id_of(options))
    assert row["endpoint"] == "images"
    assert (row["prompt_tokens"], row["completion_tokens"]) == (100, 1000)
    assert row["cost_nanousd"] == 100 * 5_000 + 1000 * 40_000


def test_it_counts_the_tokens_of_a_streamed_image(client: OpenAI, gateway: Gateway) -> None:
    options = named()
    events = list(client.images.generate(model="gpt-image-1", prompt="a cat", stream=True, **options))
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    row = logged(gateway, id_of(options))
    assert (row["prompt_tokens"], row["completion_tokens"]) == (100, 1000)


def test_it_streams_speech(client: OpenAI, gateway: Gateway, vendor: FileVendor) -> None:
    options = named()
    with client.audio.speech.with_streaming_response.create(
        model="main/tts-1", voice="alloy", input="hello", **options
    ) as response:
        assert response.headers["content-type"] == "audio/mpeg"
        assert b"".join(response.iter_bytes()) == SPEECH
    assert b'"model":"tts-1"' in vendor.asked("/v1/audio/speech")[-1].body
    row = logged(gateway, id_of(options))
    assert (row["endpoint"], row["model"], row["cost_nanousd"]) == ("audio.speech", "tts-1", None)


def test_it_fails_over(client: OpenAI, gateway: Gateway, vendor: FileVendor) -> None:
    answer = client.moderations.with_raw_response.create(input="x", model="rescued-1")
    assert (answer.headers["x-gateway-provider"], answer.headers["x-gateway-attempts"]) == ("main", "2")
    assert b'"model":"spare"' in vendor.asked("/v1/moderations")[-1].body


def test_it_reranks(gateway: Gateway) -> None:
    body = {"model": "rerank-1", "query": "q", "documents": ["a"]}
    request_id = f"fwd-{uuid.uuid4().hex}"
    answer = httpx.post(
        f"{gateway.url}/v1/rerank", json=body, headers={**gateway.headers, "x-request-id": request_id}
    )
    assert answer.json()["results"][0]["index"] == 0
    assert logged(gateway, request_id)["prompt_tokens"] == 15


# ---------------------------------------------------------------- forms


def test_it_passes_a_recording_on_under_the_vendors_name_of_the_model(
    client: OpenAI, gateway: Gateway, vendor: FileVendor
) -> None:
    options = named()
    sound = bytes(range(256)) * 1000
    answer = client.audio.transcriptions.create(model="main/whisper-1", file=("a.wav", sound), **options)
    assert answer.text == "hello"
    asked = vendor.asked("/v1/audio/transcriptions")[-1]
    assert asked.fields["model"] == b"whisper-1"
    assert asked.fields["file"] == sound
    row = logged(gateway, id_of(options))
    assert (row["endpoint"], row["model"]) == ("audio.transcriptions", "whisper-1")


def test_it_takes_forms_for_images(client: OpenAI, gateway: Gateway, vendor: FileVendor) -> None:
    client.images.edit(model="gpt-image-1", image=("a.png", b"png"), prompt="more")
    assert vendor.asked("/v1/images/edits")[-1].fields["model"] == b"gpt-image-1"
    url, image = f"{gateway.url}/v1/images/variations", {"image": ("a.png", b"png")}
    assert httpx.post(url, files=image, headers=gateway.headers).is_success
    variation = vendor.asked("/v1/images/variations")[-1]
    assert variation.fields == {"image": b"png"}


@pytest.mark.parametrize("route", ["rescued-1", "reached-1"])
def test_it_fails_over_with_a_small_form(client: OpenAI, vendor: FileVendor, route: str) -> None:
    client.audio.transcriptions.create(model=route, file=("a.wav", b"sound"))
    assert vendor.asked("/v1/audio/transcriptions")[-1].fields["model"] == b"spare"


def test_it_fails_over_with_a_large_form_only_while_nothing_of_it_is_gone(
    client: OpenAI, vendor: FileVendor
) -> None:
    sound = b"s" * (5 * MIB)
    client.audio.transcriptions.create(model="reached-1", file=("a.wav", sound))
    assert vendor.asked("/v1/audio/transcriptions")[-1].received > len(sound)
    with pytest.raises(openai.InternalServerError, match="we are down") as caught:
        client.audio.transcriptions.create(model="rescued-1", file=("a.wav", sound))
    assert caught.value.response.headers["x-gateway-attempts"] == "1"


def test_it_names_the_model_when_a_form_tells_it_too_late(gateway: Gateway) -> None:
    late = [("file", ("a.wav", b"x" * 200_000)), ("model", (None, b"whisper-1"))]
    url = f"{gateway.url}/v1/audio/transcriptions"
    answer = httpx.post(url, files=late, headers=gateway.headers)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (
        "model",
        "model_not_found_in_form",
    )
    assert httpx.post(url, files=late, headers={**gateway.headers, "x-gateway-provider": "main"}).is_success


# ---------------------------------------------------------------- files, batches, responses


def test_it_keeps_files(client: OpenAI, gateway: Gateway, vendor: FileVendor) -> None:
    content = b'{"custom_id": "1"}\n' * 100
    options = named()
    made = client.files.create(file=("a.jsonl", content), purpose="batch", **options)
    assert made.id == "file-1"
    assert logged(gateway, id_of(options))["endpoint"] == "files"
    assert [each.id for each in client.files.list(limit=5, purpose="batch")] == ["file-1"]
    assert vendor.asked("/v1/files")[-1].path == "/v1/files?limit=5&purpose=batch"
    assert client.files.retrieve("file-1").filename == "a.jsonl"
    downloaded = client.files.content("file-1")
    assert downloaded.read() == content
    assert downloaded.response.headers["content-disposition"] == 'attachment; filename="a.jsonl"'
    assert client.files.delete("file-1").deleted


def test_it_passes_the_vendors_words_on(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="No such File object: file-missing"):
        client.files.retrieve("file-missing")


def test_it_runs_batches(client: OpenAI, gateway: Gateway) -> None:
    options = named()
    made = client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h", **options
    )
    assert made.status == "validating"
    assert client.batches.retrieve(made.id).id == made.id
    assert [each.id for each in client.batches.list()] == ["batch_1"]
    assert client.batches.cancel(made.id).status == "cancelling"
    row = logged(gateway, id_of(options))
    assert (row["endpoint"], row["prompt_tokens"], row["cost_nanousd"]) == ("batches", None, None)


@pytest.mark.parametrize("path", ["files", "batches"])
def test_it_lists_nothing_that_other_tenants_may_have_stored(
    gateway: Gateway, vendor: FileVendor, path: str
) -> None:
    before = len(vendor.requests)
    refused = httpx.get(f"{gateway.url}/v1/{path}?provider=private", headers=gateway.headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "listing_not_allowed")
    assert "shares_stored" in refused.json()["error"]["message"]
    assert len(vendor.requests) == before


def test_it_keeps_responses(client: OpenAI, vendor: FileVendor) -> None:
    assert client.responses.retrieve("resp_1").id == "resp_1"
    client.responses.cancel("resp_1")
    client.responses.input_items.list("resp_1", include=["message.output_text.logprobs"])
    client.responses.delete("resp_1")
    assert [(each.method, each.path) for each in vendor.requests[-4:]] == [
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items?include%5B%5D=message.output_text.logprobs"),
        ("DELETE", "/v1/responses/resp_1"),
    ]


@pytest.mark.parametrize(
    "how", [{"extra_headers": {"x-gateway-provider": "down"}}, {"extra_query": {"provider": "down"}}]
)
def test_it_asks_the_provider_that_is_named(client: OpenAI, vendor: FileVendor, how: Any) -> None:
    with pytest.raises(openai.InternalServerError, match="we are down"):
        client.batches.retrieve("batch_1", **how)
    assert vendor.requests[-1].path == "/down/v1/batches/batch_1"
    assert "x-gateway-provider" not in vendor.requests[-1].headers


def test_it_refuses_what_cannot_be_passed_on(client: OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError, match="providers of the openai dialect alone"):
        client.moderations.create(input="x", model="demo/echo")
    with pytest.raises(openai.NotFoundError, match="no provider 'nobody'"):
        client.files.list(extra_query={"provider": "nobody"})
    with sdk(gateway, "wrong-key-that-nobody-has") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.files.create(file=b"x" * MIB, purpose="batch")
    with sdk(gateway, LIMITED_KEY) as limited:
        assert limited.audio.speech.create(model="tts-1", voice="alloy", input="x").read() == SPEECH
        with pytest.raises(openai.PermissionDeniedError, match="names none needs a key for all of"):
            limited.batches.list()
        with pytest.raises(openai.PermissionDeniedError, match="may not use model"):
            limited.audio.transcriptions.create(model="whisper-1", file=b"x")
    answer = httpx.put(f"{gateway.url}/v1/files/file-1", headers=gateway.headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, DELETE")
    assert httpx.head(f"{gateway.url}/v1/batches/b", headers=gateway.headers).status_code == 405
    assert httpx.get(f"{gateway.url}/v1/files/a/b/c", headers=gateway.headers).status_code == 404


def test_it_breaks_the_connection_when_the_vendor_breaks_off(gateway: Gateway) -> None:
    request_id, before = f"fwd-{uuid.uuid4().hex}", len(gateway.log())
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        httpx.post(
            f"{gateway.url}/v1/audio/speech",
            json={"model": "cut/tts", "voice": "alloy", "input": "x"},
            headers={**gateway.headers, "x-request-id": request_id},
        )
    row = logged(gateway, request_id)
    assert (row["outcome"], row["error_code"]) == ("error", "upstream_invalid_response")
    assert errors_in(gateway.log()[before:]) == []  # the vendor's


# ---------------------------------------------------------------- large uploads


def test_it_holds_no_upload_in_memory(client: OpenAI, gateway: Gateway, vendor: FileVendor) -> None:
    (web,) = gateway.children("web")
    content = _Noise(200 * MIB)
    client.files.list()
    before = peak_mib(web)
    made = client.files.create(file=("large.bin", content), purpose="batch")
    assert made.id == "file-1"
    asked = vendor.asked("/v1/files")[-1]
    assert asked.received > content.size
    assert peak_mib(web) - before < 30


def test_it_passes_every_byte_on(gateway: Gateway, vendor: FileVendor) -> None:
    for size in (0, 1, 65_000, 3 * MIB + 17):
        form = httpx.Request(
            "POST", "http://x", data={"purpose": "batch"}, files={"file": ("f", _Noise(size).read())}
        )
        content = form.read()
        for headers in ({}, {"transfer-encoding": "chunked"}):
            answer = httpx.post(
                f"{gateway.url}/v1/files",
                content=iter([content[:100], content[100:]]) if headers else content,
                headers={**gateway.headers, "content-type": form.headers["content-type"], **headers},
            )
            assert answer.is_success
            assert vendor.asked("/v1/files")[-1].sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("provider", "status"), [("early", 502), ("polite", 413)])
def test_it_tells_a_refusal_that_comes_before_the_end(
    gateway: Gateway, vendor: FileVendor, provider: str, status: int
) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/files",
        files={"file": ("f", _Noise(20 * MIB).read())},
        headers={**gateway.headers, "x-gateway-provider": provider},
        timeout=30,
    )
    assert answer.status_code == status
    code = answer.json()["error"]["code"]
    assert code == ("upstream_auth_failed" if provider == "early" else "file_too_large")
    assert vendor.requests[-1].received < 20 * MIB


def test_it_leaves_the_vendor_when_the_client_leaves_in_the_middle(
    gateway: Gateway, vendor: FileVendor
) -> None:
    request_id = f"fwd-{uuid.uuid4().hex}"
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TEAM_KEY}\r\n"
        f"x-request-id: {request_id}\r\n"
        f"content-type: multipart/form-data; boundary=b\r\ncontent-length: {10 * MIB}\r\n\r\n"
    )
    seen = len(vendor.requests)
    with socket.create_connection(("127.0.0.1", gateway.port)) as leaving:
        leaving.sendall(head.encode() + b"x" * MIB)
        eventually(lambda: len(vendor.requests) > seen, what="the upload at the vendor")
    vendor.wait_for("disconnected", "/v1/files")
    row = logged(gateway, request_id)
    assert (row["status"], row["outcome"], row["error_code"]) == (499, "cancelled", "client_left")


class _Noise(io.RawIOBase):
    """A file of a size that does not repeat soon, made while it is read."""

    _block = hashlib.shake_256(b"noise").digest(1_000_003)

    def __init__(self, size: int) -> None:
        self.size = self._left = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._left = 0 if whence == 2 else self.size - offset
        return self.tell()

    def tell(self) -> int:
        return self.size - self._left

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        self._left -= size
        return (self._block * (size // len(self._block) + 1))[:size]


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
