"""Every command and snippet in README.md and docs/ is run, every link and table is held against the code.

    sh      runs in bash, in the checkout, against a served gateway
    python  runs, as it stands
    yaml    is checked by apply_config
    json    parses
    text, ini  are only shown

After a comment `<!-- parsed only: reason -->`, a block's syntax, files and make targets are checked instead;
after `<!-- run by: a test -->`, another test runs it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from gatewaysite.config_file.fields import CHAINS, PROVIDER, ROUTE, Field
from gatewaysite.environment import Environment
from tests.gateway import Gateway
from tests.servers import CHECKOUT

DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SHOWN_ONLY = {"text", "ini"}
_BLOCK = re.compile(
    r"(?:<!-- (?:parsed only: (?P<reason>.+?)|run by: (?P<runner>.+?)) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    code: str
    parsed_only: bool

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("code"))
            if match["runner"]:
                assert path.name in (CHECKOUT / match["runner"]).read_text()
                continue
            block = Block(path.name, line, match["language"], match["code"], match["reason"] is not None)
            found.append(block)
    return found


def of(*languages: str, parsed_only: bool = False) -> pytest.MarkDecorator:
    chosen = [block for block in blocks() if block.language in languages and block.parsed_only == parsed_only]
    return pytest.mark.parametrize("block", chosen, ids=str)


@of("sh")
def test_it_runs_shell_commands(block: Block, gateway: Gateway) -> None:
    if "create_key --tenant acme" in block.code:
        gateway.shell("from keys.models import Tenant; Tenant.objects.get_or_create(name='acme')")
    assert gateway.bash(block.code)


@of("sh", parsed_only=True)
def test_it_shows_shell_commands_that_make_sense(block: Block) -> None:
    assert subprocess.run(["bash", "-n"], input=block.code, text=True, check=False).returncode == 0
    targets = re.findall(r"^make ([a-z-]+)", block.code, re.MULTILINE)
    for target in targets:
        assert re.search(rf"^{target}:", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    for path in re.findall(r"--env-file (\S+)", block.code):
        assert path == ".env" or (CHECKOUT / path).is_file()
    assert targets or "docker compose" in block.code


@of("python")
def test_it_runs_python(block: Block, gateway: Gateway) -> None:
    assert gateway.run([sys.executable, "-W", "error", "-"], code=block.code)


@of("yaml")
def test_it_applies_yaml(block: Block, gateway: Gateway) -> None:
    path = gateway.data_dir / "block.yaml"
    path.write_text(block.code)
    gateway.shell(f"""
import io
from django.core.management import call_command
call_command("apply_config", {str(path)!r}, dry_run=True, stdout=io.StringIO())
""")


@of("json")
def test_it_shows_json_that_parses(block: Block) -> None:
    json.loads(block.code)


def test_it_knows_the_language_of_every_block() -> None:
    known = {"sh", "python", "yaml", "json", *SHOWN_ONLY}
    assert [str(block) for block in blocks() if block.language not in known] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_it_links_to_files_that_exist(path: Path) -> None:
    links = [link.partition("#")[0] for link in _LINK.findall(path.read_text()) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []


def test_it_documents_every_variable_with_its_default() -> None:
    text = (CHECKOUT / "docs" / "configuration.md").read_text().partition("<!-- variables -->")[2]
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \|\s*`?([^`|]*?)`?\s*\|", text, re.MULTILINE))
    defaults = {spec.metadata["name"]: spec.metadata["default"] for spec in fields(Environment)}
    assert {name: default.strip() for name, default in rows.items()} == defaults


@pytest.mark.parametrize(
    ("title", "table", "beside"),
    [
        ("A provider's fields", PROVIDER, {"api_key", "api_keys", "timeouts", "faults"}),
        ("A route's fields", ROUTE, {"sticky", "timeouts", "targets", *CHAINS}),
    ],
)
def test_it_documents_every_field(title: str, table: Sequence[Field], beside: set[str]) -> None:
    text = (CHECKOUT / "docs" / "configuration.md").read_text().partition(f"### {title}\n")[2]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", re.split(r"\n##+ ", text)[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row)]
    assert sorted(named) == sorted(beside | {field.name for field in table})


def test_it_names_only_commands_and_variables_that_exist() -> None:
    from django.core.management import get_commands

    text = "".join(path.read_text() for path in DOCUMENTS)
    named = set(re.findall(r"manage\.py ([a-z_]+)", text))
    assert named <= set(get_commands())
    targets = set(re.findall(r"`make ([a-z-]+)`", text))
    makefile = (CHECKOUT / "Makefile").read_text()
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_it_names_metrics_and_log_events_that_exist() -> None:
    operations = (CHECKOUT / "docs" / "operations.md").read_text()
    records = (CHECKOUT / "docs" / "records.md").read_text()
    code = "".join(path.read_text() for path in (CHECKOUT / "proxy").glob("*.py"))
    metrics = set(re.findall(r"`(gateway_[a-z_]+)`", operations + records))
    assert [name for name in metrics if f'"{name.removesuffix("_total")}"' not in code] == []
    code += "".join(path.read_text() for path in (CHECKOUT / "analytics").glob("*.py"))
    events = re.findall(r"`([a-z]+_[a-z_]+)`", records.rpartition("## How far behind")[2])
    assert [name for name in events if f'"{name.removesuffix("_total")}"' not in code] == []


def test_it_has_the_tools_that_its_readers_have() -> None:
    assert shutil.which("curl")
    assert os.access(CHECKOUT / ".venv" / "bin" / "python", os.X_OK)
