"""docs/management-api.md runs, in its order, on a served gateway: configured, used and read by API alone."""

import re
from typing import Any

import httpx
import pytest

from tests.gateway import running_gateway
from tests.servers import CHECKOUT, eventually
from tests.upstream import bearer

pytestmark = pytest.mark.timeout(300)

PAGE = (CHECKOUT / "docs" / "management-api.md").read_text()
KEY = "docs-web-secret-0123456789"
CHAT = {"model": "house-model", "messages": [{"role": "user", "content": "Hello!"}]}


def test_its_commands_configure_a_gateway_that_answers_and_tell_what_it_has_answered() -> None:
    token, configure, read, whole = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with running_gateway({"CACHE_MODE": "none"}) as gateway:
        run = gateway.bash

        told = run(f'{token}\necho; echo "TOKEN=$GATEWAY_TOKEN"')
        assert '"username":"admin"' in told
        secret = told.partition("TOKEN=")[2].strip()
        api = f"export GATEWAY_TOKEN={secret}\n{configure.splitlines()[0]}\n"
        run(f"export GATEWAY_TOKEN={secret}\n{configure}")

        def ask() -> Any:
            answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers=bearer(KEY))
            return answer if answer.status_code == 200 else None

        answer = eventually(ask, what="an answer by the new route and key")
        assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
        client = httpx.Client(base_url=f"{gateway.url}/api/v1", headers=bearer(secret))
        logs = eventually(lambda: client.get("/logs?tenant=docs&status=200").json()["items"], what="the log")
        one = client.get(f"/logs/{logs[0]['completion_id']}").json()
        assert (one["key"], one["tags"], one["attempts"][0]["outcome"]) == (
            "docs-web",
            {"team": "docs"},
            "ok",
        )
        ledger = client.get("/ledger?tenant=docs").json()["items"]
        assert ledger[0]["cost_usd"] == one["cost_usd"]
        assert '"items":[{' in run(api + read)
        exported = run(api + whole)
        assert "name: docs-web" in exported
        assert "timezone: Europe/Berlin -> UTC" in exported
        assert KEY not in exported
        client.close()
