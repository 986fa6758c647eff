"""What docs/middleware.md (middleware.md) shows works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatewaysite.environment import read_environment
from providers.events import Answer, TextEvent, done_event, finish_event
from proxy.errors import Forbidden
from proxy.middleware.chain import configured
from proxy.tests.middlewares import asked, context
from proxy.tests.test_middleware_chain import ended

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENT = (CHECKOUT / "docs" / "middleware.md").read_text()


@pytest.fixture
def chains(tmp_path, monkeypatch, settings):
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (tmp_path / "house_rules.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "house_rules", raising=False)
    named = re.findall(r"`(RE[A-Z_]+)=(house_rules[^`]+)`", DOCUMENT)
    environment = read_environment(dict(named))
    settings.REQUEST_MIDDLEWARE = environment.request_middleware
    settings.RESPONSE_MIDDLEWARE = environment.response_middleware
    return configured()


async def test_its_request_middleware_refuses_and_adds(chains):
    message = {"role": "user", "content": "hi"}
    result = await chains.request.request(asked({"messages": [message]}))
    assert [each["role"] for each in result.body["messages"]] == ["system", "user"]
    with pytest.raises(Forbidden, match="At most 100 messages"):
        await chains.request.request(asked({"messages": [message] * 101}))


def test_its_response_middlewares_write_and_count(chains):
    watching = chains.response.begin(context())
    out = watching.events([TextEvent("Hi."), finish_event("length"), done_event()])
    assert [event.text for event in out[:2]] == ["Hi.", "\n\n(Written by a machine.)"]
    ended(watching)
    headers = []
    watching = chains.response.begin(context())
    watching.head(headers)
    assert headers == [(b"x-answers-cut-off", b"1")]
    choice = {"message": {"content": "Hi."}, "finish_reason": "stop"}
    answer = watching.answer(Answer(usage=None, finish_reasons=["stop"], message={"choices": [choice]}))
    assert answer.message["choices"][0]["message"]["content"] == "Hi.\n\n(Written by a machine.)"


def test_every_path_that_it_names_is_a_middleware(settings):
    paths = sorted(set(re.findall(r"proxy\.middleware\.[a-z]+\.[A-Z][A-Za-z]+", DOCUMENT)))
    assert len(paths) == 4
    settings.GATEWAY = read_environment(
        {
            "COMPLETION_WEBHOOK_URL": "http://sink.example",
            "COMPLETION_ELASTICSEARCH_URL": "http://sink.example",
            "RESPONSE_HEADERS": re.findall(r"^RESPONSE_HEADERS='(.*)'$", DOCUMENT, re.MULTILINE)[0],
        }
    )
    settings.RESPONSE_MIDDLEWARE = tuple(paths)
    assert len(configured().response._middlewares) == 4


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REQUEST_MIDDLEWARE", "no.such", "REQUEST_MIDDLEWARE: 'no.such' cannot be imported"),
        ("RESPONSE_MIDDLEWARE", "proxy.errors.NotFound", "RESPONSE_MIDDLEWARE: 'proxy.errors.NotFound'"),
        ("RESPONSE_HEADERS", "[1]", "RESPONSE_HEADERS='[1]' is not valid: expected a JSON object"),
        ("REDACT_KINDS", "names", "REDACT_KINDS='names' is not valid: expected some of email, phone"),
        ("REDACT_DIRECTIONS", ",", "REDACT_DIRECTIONS=',' is not valid: expected some of prompts, answers"),
    ],
)
def test_a_mistake_stops_the_start_with_a_sentence(tmp_path, variable, value, said):
    environment = {"PATH": "/usr/bin:/bin", "GATEWAY_DATA_DIR": str(tmp_path), variable: value}
    command = [sys.executable, str(CHECKOUT / "manage.py"), "check"]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert "Traceback" not in result.stderr
