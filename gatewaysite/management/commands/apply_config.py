"""`manage.py apply_config`: make the rows what a YAML file says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gatewaysite.config_file import Changes, ConfigFileError, apply_text, diff

MAX_LINES = 100
MAX_DIFF_LINES = 2000


class Command(BaseCommand):
    help = (
        "Apply a YAML configuration file: all of it, or nothing and every problem by its path. Objects that "
        "the file does not mention are left alone; fields it does not give stay as they are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="The YAML file, or - for standard input.")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Check and show what would differ, field by field, but change nothing.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name, dry_run = options["file"], options["dry_run"]
        try:
            changes = apply_text(read_file(name), dry_run=dry_run)
        except ConfigFileError as found:
            count = len(found.problems)
            listed = "\n".join(f"  {problem}" for problem in found.problems)
            raise CommandError(
                f"{name} has {count} problem{'s' * (count != 1)}, nothing was applied:\n{listed}"
            ) from None
        for warning in changes.warnings:
            self.stderr.write(self.style.WARNING(f"warning: {warning}"))
        lines = list(_difference(changes)) if dry_run else changes.done
        most = MAX_DIFF_LINES if dry_run else MAX_LINES
        for line in lines[:most]:
            self.stdout.write(line)
        if len(lines) > most:
            self.stdout.write(f"... and {len(lines) - most} more")
        for key, secret in changes.secrets.items():
            self.stdout.write(f"The secret of key {key}, shown only now: {secret}")
        self.stdout.write(_summary(len(changes.done), dry_run=dry_run))


def _difference(changes: Changes) -> Iterator[str]:
    """Yield what a dry run shows: what would differ, what is as the file says, what it does not mention."""
    yield from diff(changes.differences)
    for what in changes.unchanged:
        yield f"= {what}"
    if changes.left_alone:
        told = ", ".join(f"{count} {section}" for section, count in changes.left_alone.items())
        yield f"Left alone, as the file does not mention them: {told}."


def read_file(name: str) -> str:
    """Return the text of a file, or of standard input for `-`. Raises CommandError."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as problem:
        raise CommandError(f"{name} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise CommandError(f"{name} is not UTF-8: byte {problem.start + 1} is not part of any text") from None


def _summary(count: int, *, dry_run: bool) -> str:
    if not count:
        return "Nothing to change: the rows are what the file says."
    return f"{count} change{'s' * (count != 1)}{', none made: this was a dry run' if dry_run else ' made'}."
