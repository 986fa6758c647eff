"""The project's own housekeeping: what is said in two places says the same."""

import ast
import re
import tomllib
from pathlib import Path

import yaml

from tests.servers import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]


def test_it_pins_every_requirement() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (CHECKOUT / name).read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith(("#", "-r "))]
        assert [line for line in wanted if not re.fullmatch(r"[A-Za-z0-9_.\[\],-]+==[0-9.a-z]+", line)] == []


def test_it_checks_before_a_commit_what_make_check_checks() -> None:
    prerequisites = re.search(r"^check: (.*?) ##", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert prerequisites is not None
    hooks = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == [f"make {target}" for target in prerequisites[1].split()]


def test_it_lints_types_and_layers_every_package() -> None:
    packages = sorted(path.parent.name for path in CHECKOUT.glob("*/apps.py"))
    assert packages == sorted(PACKAGES)
    assert set(packages) <= set(PROJECT["tool"]["mypy"]["packages"])
    assert set(packages) <= set(PROJECT["tool"]["coverage"]["run"]["source"])
    assert set(packages) <= set(PROJECT["tool"]["pytest"]["ini_options"]["testpaths"])


def test_it_gives_a_reason_for_every_rule_that_it_ignores() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text()
    ignores = text.partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.pydocstyle]")[0]
    entries = [line for line in ignores.splitlines() if re.match(r'\s+"[A-Z]+[0-9]*",', line)]
    assert [line for line in entries if not re.search(r"# \S", line)] == []


def test_it_opens_every_module_with_its_purpose() -> None:
    silent = [
        str(path.relative_to(CHECKOUT))
        for package in PACKAGES
        for path in (CHECKOUT / package).rglob("*.py")
        if path.stat().st_size and not {"migrations", "tests"} & set(path.parts) and not _docstring(path)
    ]
    assert silent == []


def test_it_starts_the_changelog_with_what_is_not_released() -> None:
    titles = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""
