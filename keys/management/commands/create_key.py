"""`manage.py create_key`: issue an API key; its secret is printed once and kept nowhere."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError
from django.utils import timezone

from config.moments import moment, moment_text
from keys.models import ApiKey, Tenant

_SPAN = re.compile(r"(\d{1,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Command(BaseCommand):
    help = "Create an API key for a tenant. Standard output is the secret alone, which is shown only now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, help="Name of the tenant that owns the key.")
        parser.add_argument("--name", required=True, help="Name of the key: what it is for.")
        parser.add_argument("--secret", default="", help="Your own secret of 24 characters or more.")
        parser.add_argument(
            "--expires", default="", help="2027-01-31, 2027-01-31T12:00:00Z, or from now: 90d, 12h."
        )
        parser.add_argument(
            "--allow",
            nargs="+",
            action="extend",
            default=[],
            metavar="MODEL",
            help='Models it may use: "gpt-4o*", "anthropic/*". Default: every model.',
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


def _issue(tenant: Tenant, options: dict[str, Any]) -> tuple[ApiKey, str]:
    try:
        key, secret = ApiKey.issue(
            tenant=tenant,
            name=options["name"],
            secret=options["secret"],
            expires_at=_expiry(options["expires"], now=timezone.now()),
            allowed_models=options["allow"],
        )
    except ValueError as problem:
        raise CommandError(f"--secret {problem}") from None
    try:
        key.full_clean(exclude=["digest", "prefix"])
        key.save(force_insert=True)
    except ValidationError as found:
        told = [
            f"--{_OPTIONS.get(name, name)}: {' '.join(text)}" for name, text in found.message_dict.items()
        ]
        raise CommandError("\n".join(told)) from None
    except IntegrityError:
        raise CommandError("--secret: another key has this secret, or was just made with this name") from None
    return key, secret


_OPTIONS = {"allowed_models": "allow", "expires_at": "expires"}


def _expiry(text: str, *, now: datetime) -> datetime | None:
    if not text:
        return None
    span = _SPAN.fullmatch(text)
    try:
        expires = now + timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else moment(text)
    except ValueError as problem:
        raise CommandError(f"--expires {problem}, or a time from now such as 90d") from None
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
    }
