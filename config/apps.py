"""The bottom layer: nothing here knows a provider, a key or a route."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Versioned configuration."""

    name = "config"
    verbose_name = "Configuration"

    def ready(self) -> None:
        """Make the lookups known."""
        from config import lookups  # noqa: F401, PLC0415 - models are there only now
