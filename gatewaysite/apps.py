"""The composition root: settings, urls, ASGI and the operator's commands."""

from django.apps import AppConfig


class GatewaysiteConfig(AppConfig):
    """Commands, roles, sign-in, the audit log's chain, and whole-site templates."""

    name = "gatewaysite"

    def ready(self) -> None:
        """Make the Celery application of all tasks; hear of what happens to users and the audit log."""
        from gatewaysite import audit_rows, celery, receivers  # noqa: F401, PLC0415 - they need the apps loaded
