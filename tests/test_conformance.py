"""The conformance judge: recorded vendor answers, replayed through a served gateway and judged.

It lies beside the checkout (../shared/conformance), because its recordings are other projects' work.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.gateway import Gateway, running_gateway
from tests.servers import CHECKOUT, free_port

KIT = CHECKOUT.parent / "shared" / "conformance"
CASES = "openai-chat-*,compat-chat-*,compat-compatchat-*"
VARIATIONS = {"as recorded": "", "cut at every byte": "~chunk=1", "CRLF and comments": "~crlf=1~comments=1"}
PATHS = {
    "openai": "/openai/v1",
    "anthropic": "/anthropic",
    "gemini": "/gemini",
    "mistral": "/mistral/v1",
    "ollama": "/ollama",
}

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not KIT.is_dir(), reason="the conformance kit is not at ../shared/conformance"),
]


@pytest.fixture(scope="module")
def upstream_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def judged(upstream_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    providers = [
        {
            "name": name,
            "dialect": name,
            "base_url": f"http://127.0.0.1:{upstream_port}{path}",
            "api_key": "an-upstream-key",
        }
        for name, path in PATHS.items()
    ]
    variables = {"CACHE_MODE": "none", "CB_ERROR_THRESHOLD": "0", "MAX_RETRIES": "1", "LOG_LEVEL": "warning"}
    with running_gateway(
        variables, files={"config.yaml": yaml.safe_dump({"version": 1, "providers": providers})}
    ) as gateway:
        yield gateway


@pytest.mark.parametrize("options", VARIATIONS.values(), ids=VARIATIONS.keys())
def test_it_passes_the_judge(judged: Gateway, upstream_port: int, options: str) -> None:
    command = [
        *(sys.executable, str(KIT / "run_cases.py")),
        *("--gateway", f"{judged.url}/v1", "--key", judged.key, "--serve", str(upstream_port)),
        *("--only", CASES, *(["--opts", options] if options else [])),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = f"{done.stdout}\n{done.stderr}"
    verdict = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped", done.stdout.splitlines()[-1])
    assert verdict is not None, report
    assert (done.returncode, verdict[2], verdict[3]) == (0, "0", "0"), report
    assert int(verdict[1]) > 30
