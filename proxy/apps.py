"""The data plane: routes, cache, failover, streams, records."""

from django.apps import AppConfig


class ProxyConfig(AppConfig):
    """The hot path and its rows."""

    name = "proxy"
    verbose_name = "Traffic"

    def ready(self) -> None:
        """Hear of configuration changes, in every process that saves rows; refuse a wrong middleware."""
        from proxy import lifecycle  # noqa: F401, PLC0415 - connects its receiver; needs the apps loaded
        from proxy.middleware.chain import configured  # noqa: PLC0415 - theirs may need the apps, too

        configured()
