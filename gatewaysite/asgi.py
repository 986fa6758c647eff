"""The one ASGI application: data-plane paths to the lane, WebSockets to Channels, the rest to Django."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - settings come first
from django.core.asgi import get_asgi_application  # noqa: E402

django_application = get_asgi_application()
