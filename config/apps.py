"""The bottom layer: nothing here knows a provider, a key or a route."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Versioned configuration."""

    name = "config"
    verbose_name = "Configuration"
