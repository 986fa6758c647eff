"""`manage.py export_config`: write the rows as the YAML file that makes them."""

import os
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gatewaysite.config_file import export


class Command(BaseCommand):
    help = (
        "Write the configuration as YAML that apply_config reads. Keys are written as digests. "
        "Credentials: ${VARIABLE} references as they are, stored ones only with --with-secrets."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", default="-", help="Where to; default - (standard output).")
        parser.add_argument(
            "--with-secrets",
            action="store_true",
            help="Write stored credentials too, encrypted under GATEWAY_SECRET_KEYS.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        text = export(with_secrets=options["with_secrets"])
        if options["file"] == "-":
            self.stdout.write(text, ending="")
            return
        try:
            _write(Path(options["file"]), text)
        except OSError as problem:
            raise CommandError(f"{options['file']} cannot be written: {problem.strerror}") from None
        self.stderr.write(f"Written to {options['file']}.")


def _write(path: Path, text: str) -> None:
    """Write whole or not at all, readable by the owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
