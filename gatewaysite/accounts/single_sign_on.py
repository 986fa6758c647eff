"""Sign-in by an OpenID Connect provider, the one that OIDC_ISSUER names."""

from collections.abc import Mapping
from typing import Any

import structlog
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from requests import RequestException

from gatewaysite.accounts.pages import notice
from gatewaysite.accounts.taking_over import take_over

log = structlog.get_logger("gatewaysite.accounts")


class Exchange(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # allauth ships no types
    """Talks to the issuer; people come back to APP_BASE_URL, whatever the Host header says."""

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:  # noqa: ARG002 - allauth's contract
        """Return the redirect URI that the issuer knows."""
        path = reverse("openid_connect_callback", kwargs={"provider_id": self.provider_id})
        return f"{settings.GATEWAY.app_base_url.rstrip('/')}{path}"


class Issuer(OpenIDConnectProvider):  # type: ignore[misc]  # allauth ships no types
    """The provider of OIDC_ISSUER (named by SOCIALACCOUNT_PROVIDERS in the settings)."""

    oauth2_adapter_class = Exchange

    def get_default_scope(self) -> list[str]:
        """Return OIDC_SCOPES."""
        return list(settings.GATEWAY.oidc_scopes)


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """Whom the issuer's people are here."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:  # noqa: ARG002 - allauth's contract
        """Let everybody in whom the issuer lets in; what they may do is another question."""
        return True

    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[Any]:  # noqa: ARG002 - allauth's contract
        """Return what the environment names. Rows of allauth's own table configure nothing."""
        configured = settings.SOCIALACCOUNT_PROVIDERS.get(Issuer.id, {}).get("APPS", ())
        apps = [SocialApp(provider=Issuer.id, **fields) for fields in configured]
        return [
            app
            for app in apps
            if provider in {None, app.provider, app.provider_id} and client_id in {None, app.client_id}
        ]

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Find out who it is, and give what the issuer's groups give."""
        if sociallogin.state.get("process") == AuthProcess.CONNECT:
            return
        claims = claims_of(sociallogin)
        if not sociallogin.is_existing:
            self._join_by_mail(request, sociallogin, claims)
        if sociallogin.is_existing:
            take_over(sociallogin.user, claims)

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        """Make a user at the first sign-in."""
        user = super().save_user(request, sociallogin, form)
        take_over(user, claims_of(sociallogin))
        return user

    def on_authentication_error(  # noqa: PLR0917 - allauth's contract
        self,
        request: HttpRequest,  # noqa: ARG002 - allauth's contract
        provider: Any,  # noqa: ARG002 - allauth's contract
        error: Any = None,
        exception: Exception | None = None,
        extra_context: Any = None,  # noqa: ARG002 - allauth's contract
    ) -> None:
        """Tell operators what the person who signs in is not told."""
        log.warning("sign_in.issuer_failed", error=str(error), exception=str(exception or ""))

    def _join_by_mail(self, request: HttpRequest, sociallogin: Any, claims: Mapping[str, Any]) -> None:
        """Join a local user of the same e-mail address, if the issuer vouches for the address."""
        email = str(claims.get("email") or "")
        found = list(get_user_model().objects.filter(email__iexact=email)[:2]) if email else []
        if not found:
            return
        if len(found) == 1 and claims.get("email_verified") in {True, "true"}:
            sociallogin.connect(request, found[0])
            return
        raise ImmediateHttpResponse(
            notice(
                request,
                "This address is taken",
                f"A user with the e-mail address {email} exists here, and {settings.GATEWAY.oidc_name} does "
                "not vouch that the address is yours alone.",
                "Sign in with your password and connect the two under Account, or ask an operator.",
            )
        )


def claims_of(sociallogin: Any) -> dict[str, Any]:
    """Return what the issuer said: the ID token, and over it what it tells of the user."""
    said = sociallogin.account.extra_data
    return {**(said.get("id_token") or {}), **(said.get("userinfo") or {})}


def sign_in(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Send a person to the issuer."""
    return _asked(request, provider_id, OAuth2LoginView)


def come_back(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Take a person from the issuer."""
    return _asked(request, provider_id, OAuth2CallbackView)


def _asked(request: HttpRequest, provider_id: str, view: Any) -> HttpResponse:
    try:
        exchange = Exchange(request, provider_id)
        provider = exchange.get_provider()
    except SocialApp.DoesNotExist:
        raise Http404 from None
    try:
        answer: HttpResponse = view.adapter_view(exchange)(request)
    except (RequestException, KeyError, ValueError) as problem:  # unreachable, or no OpenID Connect provider
        answer = render_authentication_error(request, provider, exception=problem)
    return answer
