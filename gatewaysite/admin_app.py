"""Django's admin as an app whose screens are found by `gatewaysite.urls`, and not in every process.

A shipper, a Celery worker and most commands show none, and start sooner and smaller without them.
"""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core.checks import CheckMessage, Tags, register


class AdminConfig(SimpleAdminConfig):
    """Instead of `django.contrib.admin` in INSTALLED_APPS."""

    def ready(self) -> None:
        """Check the screens where checks are asked for."""
        register(check_dependencies, Tags.admin)
        register(_check_screens, Tags.admin)


def _check_screens(app_configs: Sequence[AppConfig] | None, **options: Any) -> Sequence[CheckMessage]:
    admin.autodiscover()
    return check_admin_app(app_configs, **options)
