"""What happened: the request log, its shipper and its screens."""

from django.apps import AppConfig


class AnalyticsConfig(AppConfig):
    """The request log."""

    name = "analytics"
    verbose_name = "Usage"
