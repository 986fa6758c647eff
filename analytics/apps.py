"""What happened: the request log, its shipper and its screens."""

from django.apps import AppConfig


class AnalyticsConfig(AppConfig):
    """The request log."""

    name = "analytics"
    verbose_name = "Usage"

    def ready(self) -> None:
        """Have the audit log follow its rows."""
        from analytics import audit  # noqa: F401, PLC0415 - registers them; needs the apps loaded
