"""The second factor: its secrets are encrypted at rest, and REQUIRE_MFA sends people to set one up."""

from collections.abc import Callable
from typing import Any

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse

from config.vault import Vault

# Where nothing is shown and nothing is done: signing in and out, setting a factor up, files.
_OPEN = ("/accounts/", "/static/", "/admin/logout/", "/admin/jsi18n/")
# Programs read these: they get a sentence, not a page to go to.
_READ_BY_PROGRAMS = ("/api/",)


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth ships no types
    """Keeps what authenticator apps and recovery codes are made from in the vault."""

    def get_totp_issuer(self) -> str:
        """Name the gateway in the app; the Host header decides nothing."""
        return "LLM gateway"

    def encrypt(self, text: str) -> str:
        """Return what may be stored."""
        return Vault(settings.SECRET_KEYS).seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Return what was stored, under any key that is still configured."""
        return Vault(settings.SECRET_KEYS).open(encrypted_text)


def lacks_second_factor(user: Any) -> bool:
    """Must this person set up a second factor before anything else?

    The live feed's socket asks this too: no middleware of Django's runs before it.
    """
    wanted = settings.GATEWAY.require_mfa
    if wanted == "none" or not user.is_authenticated or (wanted == "staff" and not user.is_staff):
        return False
    return not Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.TOTP).exists()


class RequireSecondFactor:
    """Sends people without a second factor to the page that sets one up, while REQUIRE_MFA wants one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """Keep what comes next."""
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Let pass, or send away."""
        if request.path == "/" or request.path.startswith(_OPEN) or not lacks_second_factor(request.user):
            return self._get_response(request)
        if request.path.startswith(_READ_BY_PROGRAMS):
            message = "Set up a second factor at /accounts/2fa/ first: REQUIRE_MFA wants one."
            error = {"message": message, "type": "permission_error", "param": None, "code": "mfa_required"}
            return JsonResponse({"error": error}, status=403)
        return redirect(reverse("mfa_activate_totp"))
