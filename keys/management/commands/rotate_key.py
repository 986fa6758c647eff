"""`manage.py rotate_key`: give an API key a new secret; the old one works for a while as well."""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction
from django.utils import timezone

from config.moments import moment_or_span, moment_text
from keys.models import ROTATED, ApiKey


class Command(BaseCommand):
    help = "Give an API key a new secret. Standard output is the secret alone, which is shown only now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="Name of the key.")
        parser.add_argument(
            "--overlap",
            default="24h",
            help="How long the old secret works as well: 24h (default), 7d, 2027-01-31; 0m: no longer.",
        )
        parser.add_argument("--secret", default="", help="Your own secret of 20 characters or more.")
        parser.add_argument("--json", action="store_true", help="Print the key as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        until = _until(options["overlap"], now=timezone.now())
        key, secret = _rotated(options["name"], until, options["secret"])
        told = f"until {moment_text(key.previous_until)}" if key.previous_until else "no longer"
        if options["json"]:
            described = {
                "name": key.name,
                "secret": secret,
                "prefix": key.prefix,
                "old_secret_until": moment_text(key.previous_until) if key.previous_until else None,
            }
            self.stdout.write(json.dumps(described, indent=2))
            return
        self.stderr.write(f"Key {key.name}: the old secret works {told}; the new one is shown only now:")
        self.stdout.write(secret)


def _until(text: str, *, now: datetime) -> datetime | None:
    try:
        until = moment_or_span(text, now=now)
    except ValueError as problem:
        raise CommandError(f"--overlap {problem}") from None
    if until < now:
        raise CommandError(f"--overlap {text} is in the past")
    return until if until > now else None


def _rotated(name: str, until: datetime | None, secret: str) -> tuple[ApiKey, str]:
    try:
        with transaction.atomic():
            key = ApiKey.objects.select_for_update().filter(name=name).first()
            if key is None:
                raise CommandError(f"No key is named {name}.")
            secret = key.rotate(until=until, secret=secret)
            if key.secret_is_taken():
                raise CommandError("--secret: another key has this secret")
            key.save(update_fields=list(ROTATED))
    except ValueError as problem:
        raise CommandError(f"--secret {problem}") from None
    except IntegrityError:
        raise CommandError("--secret: another key has this secret") from None
    return key, secret
