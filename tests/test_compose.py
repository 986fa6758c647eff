"""The container files, as far as they can be shown without an engine: parsed, resolved, and run in parts."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery.bin.celery import celery
from django.core.management import get_commands, load_command_class

from gatewaysite.environment import ALIASES, Environment, read_environment
from gatewaysite.serve import CLOSING_S
from tests.servers import CHECKOUT

SIZES = {
    "default": {},
    "redis": CHECKOUT / "deploy" / "redis.env",
    "full": CHECKOUT / "deploy" / "full.env",
}
# Names of other people's images.
FOREIGN = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}
VARIABLES = {spec.metadata["name"] for spec in fields(Environment)}
HEALTHCHECK = CHECKOUT / "deploy" / "healthcheck.py"

Service = Mapping[str, Any]


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def size_variables(size: str) -> dict[str, str]:
    path = SIZES[size]
    return env_file(path) if isinstance(path, Path) else {}


def compose(size: str) -> dict[str, Service]:
    """Return the services that `docker compose up` would start at this size, with variables filled in."""
    variables = size_variables(size)

    def fill(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1]) or match[2] or ""

    text = re.sub(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}", fill, (CHECKOUT / "docker-compose.yml").read_text())
    profiles = set(variables.get("COMPOSE_PROFILES", "").split(","))
    services: dict[str, Service] = yaml.safe_load(text)["services"]
    return {
        name: service
        for name, service in services.items()
        if "profiles" not in service or profiles & set(service["profiles"])
    }


def every_service() -> list[tuple[str, str, Service]]:
    return [(size, name, service) for size in SIZES for name, service in compose(size).items()]


def own_services() -> list[tuple[str, str, Service]]:
    return [found for found in every_service() if found[2]["image"] == "llm-gateway:latest"]


def ids(found: tuple[str, str, Service]) -> str:
    return f"{found[0]}-{found[1]}"


def test_it_starts_what_each_size_promises() -> None:
    assert set(compose("default")) == {"gateway", "shipper"}
    assert set(compose("redis")) == {"gateway", "shipper", "redis"}
    assert set(compose("full")) == {
        *("gateway", "control", "shipper", "redis", "postgres", "worker", "beat"),
    }


@pytest.mark.parametrize("found", every_service(), ids=ids)
def test_it_checks_the_health_of_every_service_and_restarts_it(found: tuple[str, str, Service]) -> None:
    _, _, service = found
    assert service["restart"] == "on-failure"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    script = service["healthcheck"]["test"]
    if "deploy/healthcheck.py" in script:
        assert (CHECKOUT / "deploy/healthcheck.py").is_file()
        assert script[3] in {"http", "spool", "fresh"}


@pytest.mark.parametrize("found", own_services(), ids=ids)
def test_it_runs_commands_that_exist_with_options_they_take(found: tuple[str, str, Service]) -> None:
    _, _, service = found
    name, *arguments = service["command"].split()
    if "entrypoint" in service:
        assert service["entrypoint"] == ["celery", "--app", "gatewaysite"]
        celery.commands[name].make_context(name, arguments, resilient_parsing=True)
        return
    command = load_command_class(get_commands()[name], name)
    command.create_parser("manage.py", name).parse_args(arguments)


def environment(service: Service) -> dict[str, str]:
    """Return what the container would find: its env files in their order, then `environment`."""
    variables: dict[str, str] = {}
    for file in service["env_file"]:
        assert file["required"] is False
        path = CHECKOUT / file["path"]
        if path.is_file() and path.name != ".env":
            variables |= env_file(path)
    return {**variables, **service["environment"]}


@pytest.mark.parametrize("found", own_services(), ids=ids)
def test_it_sets_only_variables_that_the_gateway_reads(found: tuple[str, str, Service]) -> None:
    _, _, service = found
    assert set(service["environment"]) <= VARIABLES
    settings = read_environment(environment(service))
    assert settings.workers == 1 or settings.redis_url
    assert str(settings.data_dir) == "/data"
    assert "data:/data" in service["volumes"]


@pytest.mark.parametrize("found", own_services(), ids=ids)
def test_it_lets_the_operators_own_settings_win(found: tuple[str, str, Service]) -> None:
    _, _, service = found
    assert service["env_file"][-1]["path"] == ".env"
    # Only what the container itself decides overrides them.
    assert set(service["environment"]) == {"HOST", "PORT", "GATEWAY_DATA_DIR"}


def test_it_tells_all_services_of_a_size_the_same() -> None:
    for size in SIZES:
        told = [environment(service) for name_of_size, _, service in own_services() if name_of_size == size]
        assert all(variables == told[0] for variables in told)


@pytest.mark.parametrize("found", own_services(), ids=ids)
def test_it_publishes_the_port_it_listens_on(found: tuple[str, str, Service]) -> None:
    _, _, service = found
    assert service["environment"]["HOST"] == "0.0.0.0"
    for mapping in service.get("ports", []):
        assert mapping.split(":")[1] == service["environment"]["PORT"]


@pytest.mark.parametrize("size", SIZES)
def test_it_waits_only_for_services_that_run_and_tell_their_health(size: str) -> None:
    services = compose(size)
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] == "service_healthy"
            assert name in services or condition.get("required") is False


@pytest.mark.parametrize("size", SIZES)
def test_it_migrates_in_exactly_one_service(size: str) -> None:
    serving = [name for name, service in compose(size).items() if migrates(service)]
    assert serving == (["control"] if size == "full" else ["gateway"])


def migrates(service: Service) -> bool:
    command = str(service.get("command", ""))
    return "entrypoint" not in service and command.startswith("serve") and "--no-migrate" not in command


@pytest.mark.parametrize("size", ["redis", "full"])
def test_it_points_at_services_of_the_same_size(size: str) -> None:
    services = compose(size)
    for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"):
        url = environment(services["gateway"]).get(name, "")
        assert url or size != "full"
        if url:
            host = re.sub(r".*@|.*//", "", url).split(":")[0]
            assert host in services
    if size == "full":
        variables = size_variables(size)
        assert f"gateway:{variables['POSTGRES_PASSWORD']}@postgres:5432/gateway" in variables["DATABASE_URL"]


@pytest.mark.parametrize("found", own_services(), ids=ids)
def test_it_gives_streams_their_grace_period_before_it_kills(found: tuple[str, str, Service]) -> None:
    _, _, service = found
    if service["command"].split()[0] in {"serve", "ship"}:
        needed_s = read_environment({}).grace_s + CLOSING_S
        assert int(service["stop_grace_period"].removesuffix("s")) > needed_s


def test_it_declares_every_volume() -> None:
    declared = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["volumes"]
    named = {volume.split(":")[0] for _, _, service in every_service() for volume in service["volumes"]}
    assert named == set(declared)


def test_it_names_no_variable_twice_or_unknown_in_the_env_files() -> None:
    known = VARIABLES | FOREIGN | {"COMPOSE_PROFILES", "GATEWAY_SIZE", "GATEWAY_SERVE_OPTIONS"}
    assert set(size_variables("redis")) | set(size_variables("full")) <= known


# ---------------------------------------------------------------- the image


def instructions() -> list[tuple[str, str]]:
    text = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_it_builds_an_image_that_runs_as_nobody_special() -> None:
    final = instructions()[max(i for i, (word, _) in enumerate(instructions()) if word == "FROM") :]
    image = dict(final)
    assert image["USER"] == "gateway"
    assert json.loads(image["ENTRYPOINT"]) == ["python", "manage.py"]
    assert json.loads(image["CMD"] if image["CMD"].startswith("[") else "[]") in (["serve"], [])
    assert image["EXPOSE"] == str(read_environment({}).port)
    assert "/ready" in image["HEALTHCHECK"]
    assert image["VOLUME"] == "/data"
    assert "GATEWAY_DATA_DIR=/data" in image["ENV"]


def test_it_copies_every_package_and_no_secret_into_the_image() -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text().split()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    packages = project["tool"]["importlinter"]["root_packages"]
    assert {*packages, "manage.py", "templates", "static", "requirements.txt"} <= kept
    assert all((CHECKOUT / path).exists() for path in kept)
    assert "*" in ignored
    assert ".env*" in ignored


# ---------------------------------------------------------------- what runs inside


def healthcheck(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HEALTHCHECK), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_finds_a_shipper_that_lags_behind(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    assert healthcheck("spool", "120", GATEWAY_DATA_DIR=str(tmp_path)).returncode == 0
    segment = tmp_path / "spool" / "0123456789-0-00000001.seg"
    segment.touch()
    assert healthcheck("spool", "120", GATEWAY_DATA_DIR=str(tmp_path)).returncode == 0
    os.utime(segment, (0, time.time() - 300))
    late = healthcheck("spool", "120", GATEWAY_DATA_DIR=str(tmp_path))
    assert late.returncode == 1
    assert re.search(r"a segment has waited 3\d\d s", late.stderr)  # 300, and what the program took to start


def test_it_finds_a_beat_that_stands_still(tmp_path: Path) -> None:
    schedule = tmp_path / "beat-schedule"
    assert healthcheck("fresh", str(schedule), "600").returncode == 1
    (tmp_path / "beat-schedule.db").touch()
    assert healthcheck("fresh", str(schedule), "600").returncode == 0


def test_it_finds_a_port_that_nobody_answers() -> None:
    nobody = healthcheck("http", "/ready", PORT="1")
    assert nobody.returncode == 1
    assert "refused" in nobody.stderr


# ---------------------------------------------------------------- .env.example


def test_it_shows_every_variable_with_its_default_in_the_example() -> None:
    lines = (CHECKOUT / ".env.example").read_text().splitlines()
    shown = dict(
        line.removeprefix("# ").split("=", 1) for line in lines if re.match(r"# [A-Z][A-Z0-9_]+=", line)
    )
    assert set(shown) == VARIABLES | set(ALIASES)
    defaults = {spec.metadata["name"]: spec.metadata["default"] for spec in fields(Environment)}
    assert {name: value for name, value in shown.items() if name in VARIABLES} == defaults
    for alias, name in ALIASES.items():
        assert shown[alias].strip() == f"({name})"
