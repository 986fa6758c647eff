"""The composition root: settings, URLs, ASGI, the management API, and what serves."""
