"""The few pages of /accounts/ that are not allauth's."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from gatewaysite.accounts.adapter import home_of
from gatewaysite.accounts.pages import notice, too_many_attempts


@login_required
def account(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's contract
    """Start with the second factor; the menu of the page has the rest."""
    return redirect("mfa_index")


@login_required
def no_access(request: HttpRequest) -> HttpResponse:
    """Tell a person who has neither role nor tenant what to do."""
    if home_of(request.user) != request.path:
        return redirect(home_of(request.user))
    return notice(
        request,
        "Nothing to see yet",
        f"You are signed in as {request.user}, but you have no role here and belong to no tenant.",
        "Ask an operator to make you a member of your team's tenant, then sign in again.",
    )


@never_cache
def admin_login(request: HttpRequest) -> HttpResponse:
    """Send visitors of the admin to the one sign-in page, and say why others are not let in."""
    target = request.GET.get("next") or reverse("admin:index")
    if not request.user.is_authenticated:
        return redirect(f"{reverse('account_login')}?{urlencode({'next': target})}")
    if request.user.is_staff:
        return redirect(reverse("admin:index"))
    return notice(
        request,
        "The admin is for operators",
        f"You are signed in as {request.user}, who has no role in the admin.",
        "Ask an administrator for one, or sign out and come back as somebody else.",
    )


def no_sign_up(request: HttpRequest) -> HttpResponse:
    """Say how one gets an account."""
    return notice(
        request,
        "Nobody signs up here",
        "Accounts are made by an administrator, or by single sign-on at your first sign-in.",
    )


@login_required
def no_password(request: HttpRequest) -> HttpResponse:
    """Say why there is no password to change: one would outlive the account at the issuer."""
    return notice(
        request,
        "You have no password",
        "You sign in by single sign-on. An administrator can give you a password in the admin.",
    )


def handler429(request: HttpRequest) -> HttpResponse:
    """Answer who asks too often; allauth looks for it in the URLconf."""
    return too_many_attempts(request)
