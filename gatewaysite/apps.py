"""The composition root: settings, urls, ASGI and the operator's commands."""

from django.apps import AppConfig


class GatewaysiteConfig(AppConfig):
    """Commands and whole-site templates."""

    name = "gatewaysite"
