"""Vendors: rows, dialects and prices. Knows no caller and no route."""

from django.apps import AppConfig


class ProvidersConfig(AppConfig):
    """Providers and prices."""

    name = "providers"
    verbose_name = "Vendors"

    def ready(self) -> None:
        """Have the audit log follow its rows."""
        from providers import audit  # noqa: F401, PLC0415 - registers them; needs the apps loaded
