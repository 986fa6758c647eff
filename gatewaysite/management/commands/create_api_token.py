"""`manage.py create_api_token`: let a program use the management API; the secret is printed once."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from config.moments import moment_or_span
from gatewaysite.api import tokens


class Command(BaseCommand):
    help = (
        "Create a token for the management API. It may do what its user may, and of that what its scopes "
        f"say: {', '.join(tokens.SCOPES)}. Standard output is the secret alone, which is shown only now."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="Who it acts for: the name of a user.")
        parser.add_argument("--name", required=True, help="What it is for.")
        parser.add_argument(
            "--scope", nargs="+", action="extend", default=[], metavar="SCOPE", help="What it may do."
        )
        parser.add_argument("--all-scopes", action="store_true", help="Everything that its user may do.")
        parser.add_argument(
            "--expires", default="", help="2027-01-31, 2027-01-31T12:00:00Z, or from now: 90d, 12h."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"--user: nobody is called {options['user']}")
        scopes = list(tokens.SCOPES) if options["all_scopes"] else options["scope"]
        if not scopes:
            raise CommandError(f"--scope: name one of {', '.join(tokens.SCOPES)}, or give --all-scopes")
        try:
            secret = tokens.issue(
                name=options["name"], user=user, scopes=scopes, expires_at=_expiry(options["expires"])
            )
        except ValidationError as problem:
            told = [
                f"--{_OPTIONS.get(name, name)}: {' '.join(text)}"
                for name, text in problem.message_dict.items()
            ]
            raise CommandError("\n".join(told)) from None
        self.stderr.write(f"Token {options['name']} of {user}; its secret is shown only now:")
        self.stdout.write(secret)


_OPTIONS = {"scopes": "scope", "expires_at": "expires"}


def _expiry(text: str) -> Any:
    if not text:
        return None
    now = timezone.now()
    try:
        expires = moment_or_span(text, now=now)
    except ValueError as problem:
        raise CommandError(f"--expires {problem}") from None
    if expires <= now:
        raise CommandError(f"--expires {text} is in the past")
    return expires
