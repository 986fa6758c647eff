"""`manage.py bootstrap`: prepare the database at a start, and say once what only now can be said."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from gatewaysite.bootstrap import ADMIN, DEMO_KEY, Started, bootstrap
from gatewaysite.config_file import ConfigFileError
from gatewaysite.environment import Environment


class Command(BaseCommand):
    help = (
        "Make what a first start needs (administrator, demo, providers of the environment), apply "
        "config.yaml of the working directory, and write the built-in prices. Safe to run at every start."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database is not up to date: run `manage.py migrate` first.")
        environment: Environment = settings.GATEWAY
        try:
            started = bootstrap(environment, directory=Path.cwd())
        except (ConfigFileError, UnicodeDecodeError, OSError) as problem:
            listed = "\n".join(f"  {line}" for line in str(problem).splitlines())
            raise CommandError(f"config.yaml has problems, nothing was done:\n{listed}") from None
        for warning in started.warnings:
            self.stderr.write(self.style.WARNING(f"warning: {warning}"))
        # Secrets go to standard output alone: a log would keep them.
        self.stdout.write("\n".join(describe(started, base_url(environment))))


def base_url(environment: Environment) -> str:
    """Return where a person reaches the gateway."""
    if environment.app_base_url:
        return environment.app_base_url.rstrip("/")
    host = environment.host if environment.host not in {"", "0.0.0.0", "::"} else "127.0.0.1"  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{environment.port}"


def describe(started: Started, url: str) -> list[str]:
    """Return the lines of a start: on later starts the URLs alone."""
    lines = [f"Admin:    {url}/admin/"]
    if started.admin_password:
        lines.append(f"  user {ADMIN}, password {started.admin_password}   (shown only now)")
    lines.append(f"API:      {url}/v1   (base_url of any OpenAI SDK)")
    if started.providers:
        lines.append(f"Providers from the environment: {', '.join(started.providers)}")
    lines += [f"config.yaml: {change}" for change in started.changes]
    lines += [f"Key {name}: {secret}   (shown only now)" for name, secret in started.generated_keys.items()]
    if started.demo_key:
        lines += [
            f"Demo key: {started.demo_key}   ({DEMO_KEY}, shown only now)",
            "Try it, no vendor key is needed:",
            f"  {_curl(url, started.demo_key)}",
        ]
    return lines


def _curl(url: str, key: str) -> str:
    body = json.dumps({"model": "demo/echo", "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
