"""`manage.py check_templates`: compile every template of this project."""

from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.template import TemplateSyntaxError, engines


class Command(BaseCommand):
    help = "Compile every template of this project; a syntax error or an unknown tag fails."

    def handle(self, *args: Any, **options: Any) -> None:
        problems = []
        for path in _templates():
            try:
                engines["django"].from_string(path.read_text())
            except TemplateSyntaxError as problem:
                problems.append(f"{path.relative_to(settings.BASE_DIR)}: {problem}")
        if problems:
            raise CommandError("\n".join(problems))


def _templates() -> list[Path]:
    base = settings.BASE_DIR
    own_apps = [Path(app.path) for app in apps.get_app_configs() if Path(app.path).parent == base]
    roots = [base / "templates", *(app / "templates" for app in own_apps)]
    return sorted(path for root in roots for path in root.rglob("*") if path.suffix in {".html", ".txt"})
