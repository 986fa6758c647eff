"""`manage.py reconcile`: compare a vendor's cost export with the ledger."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from analytics.models import VendorImport
from analytics.reconciliation import Comparison, Drift, compare, import_export
from analytics.vendor_exports import BadExport
from config.money import usd
from config.words import dollars, signed_dollars
from providers.models import Provider


class Command(BaseCommand):
    help = "Read a vendor's cost export (CSV) in and print how the ledger differs from it, per model and day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="The export, as the vendor gives it: see docs/money.md.")
        parser.add_argument(
            "--provider", required=True, help="The provider whose account it is, by its name."
        )
        parser.add_argument("--json", action="store_true", help="Print it as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        provider, path = options["provider"], Path(options["file"])
        if not Provider.objects.filter(name=provider).exists():
            known = ", ".join(Provider.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"--provider: {provider} is none of the providers: {known}")
        try:
            content = path.read_bytes()
        except OSError as problem:
            raise CommandError(f"{path}: {problem.strerror}") from None
        try:
            source = import_export(provider, content, file_name=path.name, by="manage.py reconcile")
        except BadExport as problem:
            raise CommandError(f"{path}: nothing was read in:\n{problem}") from None
        found = compare(provider, source.first_day, source.last_day)
        self.stdout.write(
            json.dumps(_described(source, found), indent=2) if options["json"] else _in_words(source, found)
        )


def _described(source: VendorImport, found: Comparison) -> dict[str, Any]:
    return {
        "provider": source.provider,
        "layout": source.layout,
        "sha256": source.sha256,
        "first_day": str(source.first_day),
        "last_day": str(source.last_day),
        **_row(found.total),
        "rows": [
            {
                "day": str(row.day),
                "models": sorted(row.names),
                "billed_as": sorted(row.billed),
                **_row(row),
                "unpriced": row.unpriced,
            }
            for row in found.rows
        ],
    }


def _row(row: Drift) -> dict[str, Any]:
    percent = None if row.percent is None else round(row.percent, 3)
    return {
        "ours_usd": usd(row.ours),
        "theirs_usd": usd(row.theirs),
        "difference_usd": usd(row.difference),
        "percent": percent,
    }


def _in_words(source: VendorImport, found: Comparison) -> str:
    lines = [
        f"{source.provider}, {_period(source.first_day, source.last_day)} (read as {source.layout})",
        *(
            f"  {row.day}  {row.models}: {_figures(row)}"
            + (f", {row.unpriced} unpriced" if row.unpriced else "")
            for row in found.rows
        ),
        f"  All together: {_figures(found.total)}",
    ]
    return "\n".join(lines)


def _figures(row: Drift) -> str:
    percent = "" if row.percent is None else f" ({row.percent:+.2f} %)"
    return (
        f"ledger {dollars(row.ours)}, vendor {dollars(row.theirs)}: {signed_dollars(row.difference)}{percent}"
    )


def _period(first: date, last: date) -> str:
    return str(first) if first == last else f"{first} to {last}"
