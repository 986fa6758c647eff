"""Failovers rehearsed with demo providers that fail on purpose, as docs/operations.md tells operators to."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import logged
from tests.servers import CHECKOUT, eventually
from tests.upstream import QUIET, bearer, chat, data_lines

CHAT = "/v1/chat/completions"
KEY = "the-key-of-the-rehearsal-01234"
WORDS = "6 words 0ms"
# Short where the timeout is what the test waits for, and nowhere else: a busy machine is no fault.
TIMEOUTS: dict[str, dict[str, float]] = {
    "late": {"first_content": 0.3},
    "slow": {"first_content": 0.3},
    "silent": {"first_content": 0.3},
    "stalling": {"idle": 0.3},
    "patient": {"idle": 300},
}
FAULTS: dict[str, dict[str, Any]] = {
    "refusing": {"status": 503},
    "limited": {"status": 429, "retry_after": 1},
    "late": {"latency_ms": 60_000},
    "slow": {"ttft_ms": 60_000},
    "silent": {"stall_after": 0},
    "cut": {"cut_after": 0},
    "stalling": {"stall_after": 2},
    "breaking": {"cut_after": 2},
    "patient": {"stall_after": 2},
    "leisurely": {"latency_ms": 5, "ttft_ms": 5},
}


def configuration() -> dict[str, str]:
    """Return a provider demo-NAME for each of FAULTS, alone as `only-NAME` and before the demo as `NAME`."""
    providers = [
        {
            "name": f"demo-{name}",
            "dialect": "openai",
            "base_url": "demo://",
            "timeouts": TIMEOUTS.get(name, {}),
            "faults": faults,
        }
        for name, faults in FAULTS.items()
    ]
    routes = []
    for name in FAULTS:
        failing = {"provider": f"demo-{name}", "model": "lorem"}
        routes.append({"match": f"only-{name}", "targets": [failing]})
        routes.append({"match": name, "targets": [failing, {"provider": "demo", "model": "lorem"}]})
    document = {
        "version": 1,
        "providers": providers,
        "routes": routes,
        "tenants": [{"name": "team"}],
        "keys": [{"name": "rehearsing", "tenant": "team", "secret": KEY}],
    }
    return {"config.yaml": yaml.safe_dump(document)}


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    with running_gateway(QUIET, files=configuration()) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=bearer(KEY), timeout=60) as made:
        yield made


def ask(client: httpx.Client, model: str, *, stream: bool = False) -> httpx.Response:
    return client.post(CHAT, json=chat(model, WORDS, stream=stream))


def told(answer: httpx.Response) -> tuple[int, str, str]:
    headers = answer.headers
    return answer.status_code, headers["x-gateway-provider"], headers["x-gateway-attempts"]


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("refusing", False),
        ("refusing", True),
        ("limited", False),
        ("limited", True),
        ("late", True),
        ("slow", True),
        ("silent", True),
        ("cut", False),
        ("cut", True),
        ("breaking", False),  # nothing of a JSON answer is sent before it is whole
    ],
)
def test_the_healthy_demo_answers_where_the_other_fails(
    client: httpx.Client, name: str, stream: bool
) -> None:
    answer = ask(client, name, stream=stream)
    if name == "limited":  # who was told to wait a second ago is not asked again
        assert told(answer)[:2] == (200, "demo")
    else:
        assert told(answer) == (200, "demo", "2")
    if stream:
        *chunks, done = data_lines(answer.text.splitlines())
        assert done == "[DONE]"
        assert sum("content" in json.loads(each)["choices"][0]["delta"] for each in chunks) == 7
    else:
        assert len(answer.json()["choices"][0]["message"]["content"].split()) == 6


def test_what_was_tried_is_recorded(client: httpx.Client, served: Gateway) -> None:
    row = logged(served, ask(client, "silent", stream=True).headers["x-request-id"])
    assert (row["outcome"], row["status"], row["provider"]) == ("ok", 200, "demo")


@pytest.mark.parametrize(
    ("name", "code"), [("breaking", "upstream_invalid_response"), ("stalling", "upstream_timeout")]
)
def test_a_stream_that_breaks_after_content_ends_in_an_error(
    client: httpx.Client, name: str, code: str
) -> None:
    """The healthy one is not asked: its words would follow those of another answer."""
    answer = ask(client, name, stream=True)
    assert told(answer) == (200, f"demo-{name}", "1")
    *chunks, last = data_lines(answer.text.splitlines())
    texts = [json.loads(each)["choices"][0]["delta"].get("content") for each in chunks]
    assert [text for text in texts if text] == ["lorem ", "ipsum "]
    assert json.loads(last)["error"]["code"] == code
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "told_as"),
    [
        ("refusing", (503, "api_error", "upstream_error", None)),
        ("limited", (429, "rate_limit_error", "rate_limit_exceeded", "1")),
        ("cut", (502, "api_error", "upstream_invalid_response", None)),
    ],
)
def test_without_another_target_the_caller_is_told(
    client: httpx.Client, name: str, told_as: tuple[object, ...], stream: bool
) -> None:
    answer = ask(client, f"demo-{name}/lorem", stream=stream)
    error = answer.json()["error"]
    found = (answer.status_code, error["type"], error["code"], answer.headers.get("retry-after"))
    assert found == told_as


def test_a_silent_stream_without_another_target_times_out(client: httpx.Client) -> None:
    answer = ask(client, "only-silent", stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert "first content" in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_being_late_in_time_is_no_failure(client: httpx.Client, stream: bool) -> None:
    assert told(ask(client, "leisurely", stream=stream)) == (200, "demo-leisurely", "1")


def test_a_client_may_leave_a_silent_stream(client: httpx.Client, served: Gateway) -> None:
    """It is over at once, though the vendor would be silent for longer than any test waits."""
    headers = {"x-request-id": "left-in-silence"}
    body = chat("only-patient", WORDS, stream=True)
    with client.stream("POST", CHAT, json=body, headers=headers) as response:
        lines = response.iter_lines()
        assert any('"content":"ipsum "' in line for line in lines)
    row = logged(served, "left-in-silence")
    assert (row["outcome"], row["status"]) == ("cancelled", 499)


def test_the_state_says_who_fails_on_purpose(client: httpx.Client) -> None:
    warnings = client.get("/health").json()["configuration"]["warnings"]
    assert "provider demo-refusing fails on purpose: 100 % of requests: status 503" in warnings
    assert not [warning for warning in warnings if warning.startswith("provider demo fails")]


def test_an_operator_rehearses_in_the_admin(client: httpx.Client, served: Gateway) -> None:
    operator = AdminSession(served)
    path = operator.change_path("providers/provider", "demo-leisurely")
    operator.save(path, fault_status="503")
    eventually(lambda: told(ask(client, "leisurely")) == (200, "demo", "2"), what="the failover")
    assert "fails on purpose" in operator.get("/providers/provider/")
    operator.save(path, fault_status="")
    eventually(lambda: told(ask(client, "leisurely")) == (200, "demo-leisurely", "1"), what="its end")
    operator.close()


# ---------------------------------------------------------------- docs/operations.md

_RUN_HERE = re.compile(
    r"^<!-- run by: tests/test_rehearsal\.py -->\n^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_the_documented_rehearsal_goes_as_it_says() -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    section = text.partition("## Rehearse a failover")[2].partition("\n## ")[0]
    blocks: list[str] = _RUN_HERE.findall(section)
    switch_on, whole, switch_over, streamed, switch_off = blocks
    with running_gateway({"CB_ERROR_THRESHOLD": "0"}) as gateway:

        def shell(code: str) -> str:
            return gateway.bash(code)

        def says(code: str, *words: str) -> bool:
            said = shell(code).lower()
            return all(word in said for word in words)

        assert "demo-failing: created" in shell(switch_on)
        eventually(
            lambda: says(whole, "200 ok", "x-gateway-provider: demo\n", "x-gateway-attempts: 2"),
            what="the documented failover",
        )
        assert "demo-failing: changed" in shell(switch_over)
        eventually(lambda: says(streamed, "upstream_invalid_response"), what="the documented error")
        said = shell(streamed)
        assert '"content":"ipsum "' in said
        assert "[DONE]" not in said
        assert "demo-failing: changed" in shell(switch_off)
        eventually(
            lambda: says(whole, "200 ok", "x-gateway-provider: demo-failing\n", "x-gateway-attempts: 1"),
            what="the documented end",
        )
