"""Every script in examples/ runs as it stands against a served gateway, with its demo provider."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.gateway import Gateway
from tests.servers import CHECKOUT

EXAMPLES = CHECKOUT / "examples"


def run(gateway: Gateway, command: Sequence[str], *, cwd: Path = CHECKOUT) -> str:
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env={**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_KEY": gateway.key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed (Debian package nodejs)")
    return program


def data_lines(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_it_answers_the_curl_script(gateway: Gateway) -> None:
    answer = json.loads(run(gateway, [str(EXAMPLES / "chat.sh")]))
    assert answer["choices"][0]["message"]["content"] == "Hello, gateway!"


def test_it_streams_to_the_curl_script(gateway: Gateway) -> None:
    *chunks, done = data_lines(run(gateway, [str(EXAMPLES / "chat-stream.sh")]))
    assert done == "[DONE]"
    assert json.loads(chunks[-1])["usage"]["completion_tokens"] > 0


def test_it_answers_the_simple_chat_script(gateway: Gateway) -> None:
    answer, stream = run(gateway, [str(EXAMPLES / "simple-chat.sh")]).split("\n", 1)
    assert json.loads(answer)["message"] == "Hello, gateway!"
    assert data_lines(stream)[-1] == "[DONE]"


def test_it_answers_the_python_sdk_script(gateway: Gateway) -> None:
    printed = run(gateway, [sys.executable, str(EXAMPLES / "chat.py")])
    assert "answer: Hello, gateway!" in printed
    assert "stream: Hello, stream!" in printed
    assert "demo/echo" in printed
    assert "provider: demo" in printed


def test_it_answers_the_curl_script_of_anthropics_format(gateway: Gateway) -> None:
    message, stream = run(gateway, [str(EXAMPLES / "messages.sh")]).split("\n", 1)
    assert json.loads(message)["content"] == [{"type": "text", "text": "Hello, gateway!"}]
    names = [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: ")]
    assert (names[0], names[-1]) == ("message_start", "message_stop")


def test_it_answers_the_anthropic_sdk_script(gateway: Gateway) -> None:
    printed = run(gateway, [sys.executable, str(EXAMPLES / "messages.py")])
    assert "answer: Hello, gateway!" in printed
    assert "stream: Hello, stream!" in printed
    assert "provider: demo" in printed


def test_it_answers_the_fetch_script(gateway: Gateway) -> None:
    printed = run(gateway, [node(), str(EXAMPLES / "chat.mjs")])
    assert printed.splitlines() == ["answer: Hello, gateway!", "stream: Hello, stream!"]


@pytest.mark.optional("a machine without a package registry has no other way to the SDK")
def test_it_answers_the_javascript_sdk_script(gateway: Gateway, tmp_path: Path) -> None:
    program, npm = node(), shutil.which("npm")
    if npm is None or os.environ.get("GATEWAY_REQUIRE_ALL") != "1":
        pytest.skip("installs the npm package openai, only where GATEWAY_REQUIRE_ALL=1")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "openai@7"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"npm cannot install openai: {installed.stderr.strip()[-300:]}")
    # A module is looked up beside the script, so the script goes where the package is.
    script = shutil.copy(EXAMPLES / "chat-openai.mjs", tmp_path)
    printed = run(gateway, [program, str(script)], cwd=tmp_path)
    assert printed.splitlines() == ["answer: Hello, gateway!", "stream: Hello, stream!"]


def test_it_runs_every_example() -> None:
    here = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name not in here] == []
