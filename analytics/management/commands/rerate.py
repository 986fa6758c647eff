"""`manage.py rerate`: what a period would cost by the prices as they are now, and correct the ledger."""

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from analytics import rerating
from analytics.models import ReRating
from config.moments import moment
from config.words import dollars, signed_dollars
from keys.models import ApiKey, Tenant

BY = "manage.py rerate"
MOST_LINES = 20


class Command(BaseCommand):
    help = (
        "Show what the ledger's entries of a period would cost by the prices as they are now. With --apply, "
        "correct them: by further rows, never by a change."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", required=True, help="2026-01-01 or a time (UTC): where it begins.")
        parser.add_argument("--until", required=True, help="The last day, all of it; or a time (UTC).")
        parser.add_argument("--provider", default="", help="This provider's models alone.")
        parser.add_argument("--model", default="", help='This vendor model alone; "gpt-4o*" by prefix.')
        parser.add_argument("--tenant", default="", help="What this tenant spent.")
        parser.add_argument("--key", default="", help="What this key spent, by its name.")
        parser.add_argument("--apply", action="store_true", help="Correct the ledger and the budgets.")
        parser.add_argument("--json", action="store_true", help="Print it as JSON; money is nano-dollars.")

    def handle(self, *args: Any, **options: Any) -> None:
        run = ReRating(provider=options["provider"], model=options["model"], made_by=BY)
        run.since, run.until = _moment(options, "since"), _moment(options, "until")
        run.tenant_ref, run.tenant_name = _named(Tenant, options["tenant"], "--tenant")
        run.key_ref, run.key_name = _named(ApiKey, options["key"], "--key")
        try:
            run = rerating.preview(run)
            if options["apply"]:
                run = rerating.apply(run, by=BY)
        except rerating.CannotRerate as problem:
            raise CommandError(str(problem)) from None
        self.stdout.write(json.dumps(_described(run), indent=2) if options["json"] else _in_words(run))


def _moment(options: dict[str, Any], name: str) -> Any:
    text = options[name]
    try:
        found = moment(text)
    except ValueError as problem:
        raise CommandError(f"--{name} {problem}") from None
    whole_day = name == "until" and "T" not in text and " " not in text
    return found + timedelta(days=1) if whole_day else found


def _named(model: type[Tenant | ApiKey], name: str, option: str) -> tuple[int | None, str]:
    if not name:
        return None, ""
    row = model._default_manager.filter(name=name).first()  # noqa: SLF001 - Django's public name for it
    if row is None:
        raise CommandError(f"{option}: there is none of the name {name}")
    return row.pk, name


def _described(run: ReRating) -> dict[str, Any]:
    columns = ("rows", "changed", "newly_priced", "unpriced", "before_nanousd", "difference_nanousd")
    applied = ("state", "applied_rows", "applied_nanousd")
    sums = {group: rows for group, rows in run.sums.items() if group != "providers"}
    return {"id": run.pk, **{name: getattr(run, name) for name in (*columns, *applied)}, "by": sums}


def _in_words(run: ReRating) -> str:
    lines = [
        f"{run}: {run.rows:,} attempts, of which {run.changed:,} cost something else now",
        f"({run.newly_priced:,} had no known price; {run.unpriced:,} have none even now).",
        f"Before {dollars(run.before_nanousd)}, difference {signed_dollars(run.difference_nanousd)}.",
    ]
    for group in ("model", "tenant", "key", "day"):
        rows = run.sums[group]
        lines += ["", f"By {group}:"] if rows else []
        lines += [f"  {signed_dollars(row[3]):>16}  {row[0]} ({row[1]:,})" for row in rows[:MOST_LINES]]
        lines += [f"  ... and {len(rows) - MOST_LINES} more"] if len(rows) > MOST_LINES else []
    if run.state == ReRating.State.APPLIED:
        lines += ["", f"Applied: {run.applied_rows:,} rows, {signed_dollars(run.applied_nanousd)}."]
    else:
        lines += [
            "",
            f"Nothing has been changed. Repeat it with --apply, or apply preview {run.pk} in the admin.",
        ]
    return "\n".join(lines)
