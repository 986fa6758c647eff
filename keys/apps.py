"""Who calls and what they may spend. Knows no vendor."""

from django.apps import AppConfig


class KeysConfig(AppConfig):
    """Tenants, keys, limits, budgets."""

    name = "keys"
    verbose_name = "Access"
