"""The data plane: routes, cache, failover, streams, records."""

from django.apps import AppConfig


class ProxyConfig(AppConfig):
    """The hot path and its rows."""

    name = "proxy"
    verbose_name = "Traffic"
