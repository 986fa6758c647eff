"""`manage.py runserver`: daphne, for development, serves the same gateway."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.admin_session import AdminSession
from tests.gateway import Gateway
from tests.rawhttp import errors_in
from tests.servers import MANAGE, Child, child, eventually
from tests.upstream import OTHER_KEY, QUIET, TEAM_KEY, FakeVendor, bearer, chat, data_lines, unique, wired

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def served(vendor: FakeVendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Child]]:
    directory = tmp_path_factory.mktemp("runserver")
    for name, content in wired(vendor).items():
        (directory / name).write_text(content)
    gateway = development_gateway(directory)
    gateway.manage("migrate")
    found = re.search(r"password (\S+)", gateway.manage("bootstrap"))
    assert found is not None
    gateway.admin_password = found[1]
    command = [*MANAGE, "runserver", "--noreload", f"127.0.0.1:{gateway.port}"]
    with child("runserver", command, env=gateway.env) as process:
        eventually(lambda: answers(gateway), what="runserver", within_s=40)
        yield gateway, process


def development_gateway(directory: Path) -> Gateway:
    """A gateway that `runserver` serves: manage.py chooses the settings, so none may be chosen already."""
    gateway = Gateway(directory, QUIET, workers=1, arguments=())
    gateway.env = {name: value for name, value in gateway.env.items() if name != "DJANGO_SETTINGS_MODULE"}
    return gateway


def answers(gateway: Gateway) -> bool:
    try:
        return httpx.get(f"{gateway.url}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_it_is_daphne_that_serves(served: tuple[Gateway, Child]) -> None:
    assert "Starting ASGI/Daphne" in served[1].output


def test_it_answers_the_sdk(served: tuple[Gateway, Child]) -> None:
    with OpenAI(base_url=f"{served[0].url}/v1", api_key=TEAM_KEY, max_retries=0) as client:
        answer = client.chat.completions.create(
            model="replay/synthetic~text=From%20daphne", messages=[{"role": "user", "content": "Hello"}]
        )
        assert answer.choices[0].message.content == "From daphne"
        assert "demo/echo" in {model.id for model in client.models.list()}


def test_it_relays_a_stream_as_it_comes(served: tuple[Gateway, Child], vendor: FakeVendor) -> None:
    model = unique("synthetic~tokens=6~delay=150")
    body = chat(f"replay/{model}", stream=True)
    with httpx.stream("POST", f"{served[0].url}{CHAT}", json=body, headers=bearer(TEAM_KEY)) as response:
        lines = response.iter_lines()
        next(line for line in lines if '"content"' in line)
        assert vendor.asked(model)[-1].get("outcome") is None, "the stream was held back"
        assert data_lines(list(lines))[-1] == "[DONE]"


def test_it_cancels_the_vendor_when_the_client_leaves(
    served: tuple[Gateway, Child], vendor: FakeVendor
) -> None:
    model = unique("synthetic~tokens=500~delay=50")
    body = chat(f"replay/{model}", stream=True)
    with httpx.stream("POST", f"{served[0].url}{CHAT}", json=body, headers=bearer(TEAM_KEY)) as response:
        next(line for line in response.iter_lines() if '"content":"' in line)
    vendor.wait_for_outcome(model, "client-gone")


def test_it_serves_the_admin_and_its_style(served: tuple[Gateway, Child]) -> None:
    session = AdminSession(served[0])
    page = session.get("/")
    session.close()
    style = re.search(r'href="(/static/[^"]+\.css)"', page)
    assert style is not None
    assert httpx.get(f"{served[0].url}{style[1]}").status_code == 200


def test_it_follows_a_change_in_the_admin(served: tuple[Gateway, Child]) -> None:
    gateway = served[0]
    session = AdminSession(gateway)
    path = session.change_path("keys/apikey", "other-key")
    session.save(path, allowed_models="demo/*")
    session.close()
    url, headers = f"{gateway.url}{CHAT}", bearer(OTHER_KEY)
    eventually(
        lambda: httpx.post(url, json=chat("replay/synthetic"), headers=headers).status_code == 403,
        what="the change",
        within_s=5,
    )


def test_it_has_logged_no_error(served: tuple[Gateway, Child]) -> None:
    # While it starts it is not ready, and says so to those who ask.
    assert [line for line in errors_in(served[1].output) if "/ready 503" not in line] == []
