"""`manage.py create_key`: issue an API key; its secret is printed once and kept nowhere."""

import json
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError
from django.utils import timezone

from config.moments import moment_or_span, moment_text
from keys.models import ApiKey, Tenant

TAKEN = "--secret: another key has this secret, or was just made with this name"


class Command(BaseCommand):
    help = "Create an API key for a tenant. Standard output is the secret alone, which is shown only now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, help="Name of the tenant that owns the key.")
        parser.add_argument("--name", required=True, help="Name of the key: what it is for.")
        parser.add_argument("--secret", default="", help="Your own secret of 20 characters or more.")
        parser.add_argument(
            "--expires", default="", help="2027-01-31, 2027-01-31T12:00:00Z, or from now: 90d, 12h."
        )
        for name, metavar, told in _LISTS:
            parser.add_argument(*name, nargs="+", action="extend", default=[], metavar=metavar, help=told)
        parser.add_argument(
            "--max-tokens", type=int, default=None, metavar="N", help="The most tokens of an answer."
        )
        parser.add_argument(
            "--forced-route", default="", metavar="MODEL", help="The model that every request gets."
        )
        parser.add_argument("--json", action="store_true", help="Print the key as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(_no_tenant(options["tenant"]))
        key, secret = _issue(tenant, options)
        if options["json"]:
            self.stdout.write(json.dumps(_described(key, secret), indent=2))
            return
        self.stderr.write(f"Key {key.name} of tenant {tenant.name}; its secret is shown only now:")
        self.stdout.write(secret)


_LISTS = (
    (
        ("--allowed-model", "--allow"),
        "MODEL",
        'Models it may use: "gpt-4o*", "anthropic/*". Default: every model.',
    ),
    (("--denied-model",), "MODEL", "Models it may never use, whatever is allowed."),
    (
        ("--network",),
        "NETWORK",
        "Where it is accepted from: 10.0.0.0/8, 203.0.113.7. Default: from everywhere.",
    ),
    (("--tag",), "NAME=TEXT", "Kept with everything that the key spends: team=search."),
)
# The options of columns, for errors.
_OPTIONS = {
    "allowed_models": "allowed-model",
    "denied_models": "denied-model",
    "allowed_networks": "network",
    "tags": "tag",
    "max_tokens": "max-tokens",
    "forced_route": "forced-route",
    "expires_at": "expires",
}


def _issue(tenant: Tenant, options: dict[str, Any]) -> tuple[ApiKey, str]:
    try:
        key, secret = ApiKey.issue(
            tenant=tenant,
            name=options["name"],
            secret=options["secret"],
            expires_at=_expiry(options["expires"], now=timezone.now()),
            allowed_models=options["allowed_model"],
            denied_models=options["denied_model"],
            allowed_networks=options["network"],
            tags=_tags(options["tag"]),
            max_tokens=options["max_tokens"],
            forced_route=options["forced_route"].strip(),
        )
    except ValueError as problem:
        raise CommandError(f"--secret {problem}") from None
    if key.secret_is_taken():
        raise CommandError(TAKEN)
    try:
        key.full_clean(exclude=["digest", "prefix"])
        key.save(force_insert=True)
    except ValidationError as found:
        told = [
            f"--{_OPTIONS.get(name, name)}: {' '.join(text)}" for name, text in found.message_dict.items()
        ]
        raise CommandError("\n".join(told)) from None
    except IntegrityError:
        raise CommandError(TAKEN) from None
    return key, secret


def _tags(pairs: list[str]) -> dict[str, str]:
    tags = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise CommandError(f"--tag {pair!r} is not of the form NAME=TEXT, such as team=search")
        tags[name.strip()] = text.strip()
    return tags


def _expiry(text: str, *, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        expires = moment_or_span(text, now=now)
    except ValueError as problem:
        raise CommandError(f"--expires {problem}") from None
    if expires <= now:
        raise CommandError(f"--expires {text} is in the past")
    return expires


def _no_tenant(name: str) -> str:
    known = list(Tenant.objects.values_list("name", flat=True)[:20])
    if not known:
        return f"No tenant is named {name}: there is none yet; make one in the admin or by apply_config."
    return f"No tenant is named {name}. There are: {', '.join(known)}."


def _described(key: ApiKey, secret: str) -> dict[str, Any]:
    return {
        "name": key.name,
        "tenant": key.tenant.name,
        "secret": secret,
        "prefix": key.prefix,
        "expires_at": moment_text(key.expires_at) if key.expires_at else None,
        "allowed_models": key.allowed_models,
        "denied_models": key.denied_models,
        "allowed_networks": key.allowed_networks,
        "tags": key.tags,
        "max_tokens": key.max_tokens,
        "forced_route": key.forced_route,
    }
