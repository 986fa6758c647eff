"""Who calls and what they may spend. Knows no vendor."""

from django.apps import AppConfig


class KeysConfig(AppConfig):
    """Tenants, keys, limits, budgets."""

    name = "keys"
    verbose_name = "Access"

    def ready(self) -> None:
        """Have the audit log follow its rows."""
        from keys import audit  # noqa: F401, PLC0415 - registers them; needs the apps loaded
