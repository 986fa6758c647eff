"""`manage.py write_builtin_prices`: bring the built-in prices up to date with the genai-prices package."""

from typing import Any

from django.core.management.base import BaseCommand

from providers.builtin_prices import write_all_builtin_prices


class Command(BaseCommand):
    help = "Write the built-in prices of every provider. Bootstrap does so too; operators' prices stay."
    requires_system_checks: list[str] = []  # the shipper starts it whenever there is a new provider

    def handle(self, *args: Any, **options: Any) -> None:
        count = write_all_builtin_prices()
        self.stdout.write(f"{count} built-in price{'s' * (count != 1)} changed.")
