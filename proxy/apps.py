"""The data plane: routes, cache, failover, streams, records."""

from django.apps import AppConfig
from django.conf import settings


class ProxyConfig(AppConfig):
    """The hot path and its rows."""

    name = "proxy"
    verbose_name = "Traffic"

    def ready(self) -> None:
        """Hear of configuration changes, in every process that saves rows; refuse a wrong middleware."""
        from proxy import audit, lifecycle  # noqa: F401, PLC0415 - they need the apps loaded

        if settings.REQUEST_MIDDLEWARE or settings.RESPONSE_MIDDLEWARE:
            from proxy.middleware.chain import configured  # noqa: PLC0415 - theirs may need the apps, too

            configured()
