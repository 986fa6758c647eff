"""Tells the audit log who acts, and from where."""

import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from proxy.clients import client_ip

_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)


class AuditMiddleware:
    """Remembers the request while it is served.

    Not auditlog's own: that asks who acts before the request is served, when nobody has signed in yet and
    no token was read, and connects a signal for every request.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """Keep what comes next."""
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Serve it."""
        token = _request.set(request)
        try:
            return self._get_response(request)
        finally:
            _request.reset(token)


def name_actor(instance: Any, **_: Any) -> None:
    """Write down who acts and from where, before an entry of the audit log is stored.

    The name stays when the user is deleted; the id in `additional_data` shows if somebody puts another
    user in their place (gatewaysite.audit_chain).
    """
    request = _request.get()
    if request is not None:
        user = getattr(request, "user", None)
        if instance.actor is None and user is not None and user.is_authenticated:
            instance.actor = user
        instance.remote_addr = address_of(request)
    if instance.actor is not None:
        instance.actor_email = instance.actor.email or instance.actor.get_username()
        instance.additional_data = {**(instance.additional_data or {}), "actor": instance.actor.pk}


def address_of(request: HttpRequest) -> str | None:
    """Return the client's address. X-Forwarded-For is believed only from TRUSTED_PROXIES.

    Anyone could otherwise write any address into the log, and PostgreSQL refuses what is none.
    """
    try:
        return str(ipaddress.ip_address(client_ip(request, settings.GATEWAY.trusted_proxies)))
    except ValueError:  # a Unix socket has none
        return None
