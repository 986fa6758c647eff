"""docs/providers.md says how a dialect is added: here it is done, in a copy of the checkout, and served."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import CHECKOUT

PAGE = (CHECKOUT / "docs" / "providers.md").read_text()
TABLE = "providers/dialects/__init__.py"


def block(language: str) -> str:
    """Return the last block of that language on the page."""
    blocks: list[str] = re.findall(
        rf"```{language}\n(.*?)```", PAGE.split("## Adding a dialect")[1], re.DOTALL
    )
    return blocks[-1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout in which the page's first two steps have been done."""
    made = tmp_path_factory.mktemp("copy") / "gateway"
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        source, target = CHECKOUT / name, made / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    (made / "providers/dialects/parrot.py").write_text(block("python"))
    table = (made / TABLE).read_text()
    assert "_ALL: tuple[Dialect, ...] = (" in table
    table = table.replace("_ALL: tuple[Dialect, ...] = (", "_ALL: tuple[Dialect, ...] = (Parrot(), ")
    imported = "from providers.dialects.parrot import Parrot\nfrom providers.wires"
    table = table.replace("from providers.wires", imported, 1)
    (made / TABLE).write_text(table)
    return made


@pytest.fixture(scope="module")
def parrot() -> Iterator[str]:
    """Run the vendor of the page, and return its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self._reply("application/json", json.dumps({"voices": ["polly"]}))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            words = f"{asked['voice']}: {asked['lines'][-1]['text']}".split(" ")
            why = {"why": "end", "heard": len(asked["lines"]), "spoken": len(words)}
            if not asked["live"]:
                self._reply("application/json", json.dumps({"said": " ".join(words), **why}))
                return
            pieces = [{"said": f"{word} "} for word in words]
            self._reply(
                "text/event-stream", "".join(f"data: {json.dumps(each)}\n\n" for each in [*pieces, why])
            )

        def _reply(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="module")
def served(copy: Path, parrot: str) -> Iterator[Gateway]:
    rows = block("yaml").replace("http://127.0.0.1:9400", parrot)
    files = {"config.yaml": f"version: 1\n{rows}"}
    with running_gateway({"CACHE_MODE": "none"}, files=files, checkout=copy) as gateway:
        yield gateway


def ran(copy: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=copy, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_it_keeps_the_contract(copy: Path) -> None:
    _, _, *command = block("sh").split()
    assert " passed" in ran(copy, *command)


def test_it_passes_the_checks_of_the_house(copy: Path) -> None:
    ran(copy, "ruff", "check", "providers/dialects/parrot.py")
    ran(copy, "ruff", "format", "--check", "providers/dialects/parrot.py")
    ran(copy, "mypy", "--no-error-summary", "providers/dialects/parrot.py")


def test_it_serves_the_new_vendor(served: Gateway) -> None:
    asked = {"model": "parrot/polly", "messages": [{"role": "user", "content": "Good morning"}]}
    url = f"{served.url}/v1/chat/completions"
    answer = httpx.post(url, json=asked, headers=served.headers).raise_for_status().json()
    assert answer["choices"][0]["message"]["content"] == "polly: Good morning"
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    stream = httpx.post(url, json={**asked, "stream": True}, headers=served.headers).text
    assert "".join(re.findall(r'"content":"([^"]*)"', stream)) == "polly: Good morning "
    assert stream.rstrip().endswith("data: [DONE]")


def test_it_refuses_by_name_what_the_new_vendor_cannot(served: Gateway) -> None:
    asked = {"model": "parrot/polly", "messages": [{"role": "user", "content": "Hi"}], "seed": 1}
    refused = httpx.post(f"{served.url}/v1/chat/completions", json=asked, headers=served.headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "seed")
