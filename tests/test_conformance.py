"""The conformance judge: recorded vendor answers, replayed through a served gateway and judged.

It lies beside the checkout (../shared/conformance), because its recordings are other projects' work.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.dialects import all_dialects
from tests.gateway import Gateway, running_gateway
from tests.servers import CHECKOUT, free_port

KIT = CHECKOUT.parent / "shared" / "conformance"
# Gemini's servers send no comments, and their framing is CRLF as recorded.
VARIATIONS = {
    "as recorded": [],
    "cut at every byte": ["--opts", "~chunk=1"],
    "cut at random": ["--opts", "~chunk=rand:7"],
    "CRLF and comments": ["--opts", "~crlf=1~comments=1", "--skip", "gemini-*"],
}
# How many cases each endpoint must have passed at least: fewer were not judged at all.
ENDPOINTS = {"openai": 100, "messages": 80}

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not KIT.is_dir(), reason="the conformance kit is not at ../shared/conformance"),
]


@pytest.fixture(scope="module")
def upstream_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def judged(upstream_port: int) -> Iterator[Gateway]:
    variables = {"CACHE_MODE": "none", "CB_ERROR_THRESHOLD": "0", "MAX_RETRIES": "1", "LOG_LEVEL": "warning"}
    with running_gateway(variables, files=all_dialects(f"http://127.0.0.1:{upstream_port}")) as gateway:
        yield gateway


@pytest.mark.parametrize("options", VARIATIONS.values(), ids=VARIATIONS.keys())
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_it_passes_the_judge(judged: Gateway, upstream_port: int, endpoint: str, options: list[str]) -> None:
    command = [
        *(sys.executable, str(KIT / "run_cases.py"), "--strict", "--endpoint", endpoint),
        *("--gateway", f"{judged.url}/v1", "--key", judged.key, "--serve", str(upstream_port)),
        # Ollama's own OpenAI endpoint is a compatible server like others.
        *("--model-for", "ollama:chat=openai/{id}", *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = f"{done.stdout}\n{done.stderr}"
    verdict = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped", done.stdout.splitlines()[-1])
    assert verdict is not None, report
    assert (done.returncode, verdict[2]) == (0, "0"), report
    assert int(verdict[1]) + (25 if "--skip" in options else 0) >= ENDPOINTS[endpoint], report
