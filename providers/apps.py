"""Vendors: rows, dialects and prices. Knows no caller and no route."""

from django.apps import AppConfig


class ProvidersConfig(AppConfig):
    """Providers and prices."""

    name = "providers"
    verbose_name = "Vendors"
