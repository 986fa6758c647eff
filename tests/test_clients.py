"""Client libraries as users have them: each calls a tool and answers from its result, through every dialect.

They live in an environment of their own (`make setup-clients`), because they pull in a great deal.
"""

import json
import os
import re
import shutil
import subprocess

import httpx
import pytest

from tests.dialects import PATHS
from tests.gateway import Gateway
from tests.servers import CHECKOUT
from tests.upstream import FakeVendor

CLIENTS = CHECKOUT / "tests" / "clients"
PYTHON = CHECKOUT / ".venv-clients" / "bin" / "python"
ANSWER = "It is sunny there"

pytestmark = pytest.mark.timeout(300)


def command(program: str) -> list[str]:
    if program.endswith(".py"):
        if not PYTHON.is_file():
            pytest.skip("the client libraries are not installed: make setup-clients")
        return [str(PYTHON), str(CLIENTS / program)]
    node = shutil.which("node")
    if node is None or not (CLIENTS / "node_modules").is_dir():
        pytest.skip("the client libraries are not installed: make setup-clients (needs node and npm)")
    return [node, str(CLIENTS / program)]


def plays_a_tool_call(vendor: FakeVendor, mark: str) -> None:
    """Have the vendor call a tool when asked, and answer once it is told what the tool said."""
    rules = [
        {"match": {"body": f"{mark}-sunny"}, "case": f"synthetic~text={ANSWER}"},
        {"match": {"body": f"{mark}-asked"}, "opts": {"tool": "1"}},
    ]
    httpx.post(f"{vendor.url}/__replay/rules", json=rules).raise_for_status()


def ran(program: str, gateway: Gateway, mark: str, models: list[str]) -> list[dict[str, str]]:
    done = subprocess.run(
        command(program),
        env={
            **os.environ,
            "GATEWAY_URL": gateway.url,
            "GATEWAY_KEY": gateway.key,
            "MODELS": ",".join(models),
            "MARK": mark,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{gateway.log()[-3000:]}"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    "program",
    [
        "langchain_openai_tools.py",
        "langchain_anthropic_tools.py",
        "pydantic_ai_tools.py",
        "openai_tools.mjs",
        "ai_tools.mjs",
    ],
)
def test_it_calls_a_tool_and_answers_from_its_result(
    every_dialect: Gateway, vendor: FakeVendor, program: str
) -> None:
    mark = re.sub(r"\W", "-", program)
    plays_a_tool_call(vendor, mark)
    models = [f"{name}/clients-{mark}" for name in PATHS]
    for told in ran(program, every_dialect, mark, models):
        assert told == {"model": models.pop(0), "city": 'naïve "text"', "answer": ANSWER}
    assert models == []


def test_it_extracts_an_object_by_a_forced_tool(every_dialect: Gateway, vendor: FakeVendor) -> None:
    mark = "instructor"
    plays_a_tool_call(vendor, mark)
    # Ollama cannot be made to call a tool: that is refused by name, which its own test shows.
    models = [f"{name}/clients-{mark}" for name in PATHS if name != "ollama"]
    told = ran("instructor_extract.py", every_dialect, mark, models)
    assert [each["model"] for each in told] == models
    assert {each["city"] for each in told} == {'naïve "text"'}
