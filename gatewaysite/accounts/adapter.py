"""What django-allauth asks us about people who sign in with a password."""

from typing import Any, NoReturn
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from gatewaysite.accounts.pages import too_many_attempts
from gatewaysite.audit_events import FAILED, noticed
from keys.models import Member
from proxy.clients import client_ip


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """Nobody signs up by themselves; the throttle goes by the client's real address."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002 - allauth's contract
        """Refuse: people are made in the admin, or come from the OpenID Connect provider."""
        return False

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Return where a person belongs who did not come from anywhere (?next=)."""
        return home_of(request.user)

    def get_signup_redirect_url(self, request: HttpRequest) -> str:
        """Return the same: the first sign-in by OpenID Connect counts as a sign-up."""
        return home_of(request.user)

    def is_safe_url(self, url: str | None) -> bool:
        """May ?next= lead there? Only to pages of ours, whatever the Host header says."""
        ours = urlsplit(settings.GATEWAY.app_base_url).netloc
        return bool(url) and url_has_allowed_host_and_scheme(url, allowed_hosts={ours} if ours else None)

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address that attempts are counted by."""
        return client_ip(request, settings.GATEWAY.trusted_proxies) or "no address"

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:  # noqa: ARG002 - allauth's contract
        """Write a failed attempt down. A name that nobody has may be a password: it is not kept."""
        users = get_user_model().objects
        noticed(FAILED, users.filter(username=credentials.get("username", "")).first(), by="password")

    def validation_error(self, code: str, *args: Any) -> ValidationError:
        """Answer too many attempts by 429 instead of a message in the form."""
        if code in {"too_many_login_attempts", "rate_limited"}:
            _refuse()
        problem: ValidationError = super().validation_error(code, *args)
        return problem

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:  # noqa: ARG002 - allauth's contract
        # allauth's own has the Host header in it: with another one a guesser would start anew.
        return str(credentials.get("username", "")).lower()


def home_of(user: Any) -> str:
    """Return where a person belongs."""
    if user.is_staff:
        return reverse("admin:index")
    if Member.objects.filter(user_id=user.pk).exists():
        return "/dashboard/"
    return reverse("account_no_access")


def _refuse() -> NoReturn:
    raise ImmediateHttpResponse(too_many_attempts(context.request))
