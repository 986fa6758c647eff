"""Tells the audit log who acts, and from where."""

import ipaddress

from auditlog.middleware import AuditlogMiddleware
from django.conf import settings
from django.http import HttpRequest

from proxy.clients import client_ip


class AuditMiddleware(AuditlogMiddleware):  # type: ignore[misc]  # auditlog ships no types
    """As auditlog's own, but believes X-Forwarded-For only from TRUSTED_PROXIES.

    Anyone could otherwise write any address into the log, and PostgreSQL refuses what is none.
    """

    @staticmethod
    def _get_remote_addr(request: HttpRequest) -> str | None:
        address = client_ip(request, settings.GATEWAY.trusted_proxies)
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:  # a Unix socket has none
            return None

    @staticmethod
    def _get_remote_port(request: HttpRequest) -> None:
        """Keep none: X-Forwarded-Port is the proxy's own, and as easily made up."""
