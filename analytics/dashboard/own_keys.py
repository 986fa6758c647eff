"""A tenant's keys: the list, and what its people may do with them. A secret is shown once."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from analytics.dashboard.access import MADE_BY, PLAYGROUND, Seat, made_by, seated
from analytics.dashboard.key_forms import KeyForm, RotateForm
from analytics.dashboard.names import clock
from analytics.dashboard.pages import at, base_url, page
from keys import secret as secrets
from keys.admin_limits import limits_in_words
from keys.models import DISABLED_BY, ROTATED, ApiKey

PER_PAGE = 50


@require_safe
@seated("look")
def keys(request: HttpRequest, seat: Seat) -> HttpResponse:
    """List them."""
    wanted = request.GET.get("q", "").strip()[:80]
    rows = ApiKey.objects.filter(tenant=seat.tenant).prefetch_related("ratelimits", "budgets")
    if wanted:
        rows = rows.filter(Q(name__icontains=wanted) | Q(prefix__startswith=wanted))
    found = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    context = {"rows": [_row(seat, key) for key in found], "found": found, "wanted": wanted}
    return page(request, seat, "keys", context)


@require_http_methods(["GET", "HEAD", "POST"])
@seated("use")
@sensitive_variables()
def make_key(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Make a key and show its secret in the answer to the form itself: it is nowhere else."""
    form = KeyForm(seat, posted=request.POST if request.method == "POST" else None)
    form.instance.tenant = seat.tenant
    if form.is_valid():
        key = form.instance
        secret = secrets.issue()
        key.set_secret(secret)
        key.tags = {MADE_BY: seat.maker}
        form.save()
        return _shown_once(request, seat, key, secret, title="Key made")
    return page(request, seat, "keys", {"form": form, "title": "New key"}, template="dashboard/key_form.html")


@require_http_methods(["GET", "HEAD", "POST"])
@seated("look")
def one_key(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Show a key, and change what may be changed of it."""
    key = _key(seat, ref)
    if request.method != "POST":
        form = KeyForm(seat, key) if seat.may_change(key) else None
        return _one_key(request, seat, key, form)
    _require(seat.may_change(key))
    form = KeyForm(seat, key, request.POST)
    if form.is_valid():
        with transaction.atomic():
            # Of a row that others change too (last use, a rotation), what the form has is written alone.
            form.save(commit=False)
            key.save(update_fields=["name", "allowed_models", "denied_models", "expires_at"])
        messages.success(request, f"{key.name} is saved. It is in force within a second.")
        return HttpResponseRedirect(at(seat, "key", ref=key.pk))
    return _one_key(request, seat, _key(seat, ref), form)


@require_http_methods(["GET", "HEAD", "POST"])
@seated("use")
@sensitive_variables()
def rotate_key(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Give a key a new secret, and show it in the answer to the form itself."""
    with transaction.atomic():
        key = _key(seat, ref, locked=request.method == "POST")
        _require(seat.may_change(key))
        form = RotateForm(key, request.POST if request.method == "POST" else None)
        if form.is_valid():
            secret = key.rotate(until=form.ends_at)
            key.save(update_fields=list(ROTATED))
            return _shown_once(request, seat, key, secret, title="Secret rotated", rotated=True)
    context = {"key": key, "form": form, "title": f"Rotate {key.name}", "old": old_secret(key, seat)}
    return page(request, seat, "keys", context, template="dashboard/key_rotate.html")


@require_POST
@seated("use")
def switch_key(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Disable a key, or enable one again, unless operators have disabled it or its secret has leaked."""
    with transaction.atomic():
        key = _key(seat, ref, locked=True)
        _require(seat.may_change(key))
        if key.enabled:
            key.enabled, key.tags = False, {**key.tags, DISABLED_BY: seat.maker}
            said = f"{key.name} is disabled: it is refused within a second."
        else:
            _require(key.own_people_may_enable)
            key.enabled = True
            said = f"{key.name} is enabled: it works within a second."
        key.save(update_fields=["enabled", "tags"])
    messages.success(request, said)
    return HttpResponseRedirect(at(seat, "key", ref=key.pk))


@require_http_methods(["GET", "HEAD", "POST"])
@seated("use")
def delete_key(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Delete a key after a question. What it has spent stays in the ledger."""
    key = _key(seat, ref)
    _require(seat.may_delete(key))
    if request.method == "POST":
        name = key.name
        key.delete()
        messages.success(request, f"{name} is deleted. Its usage stays in the sums.")
        return HttpResponseRedirect(at(seat, "keys"))
    context = {"key": key, "title": f"Delete {key.name}"}
    return page(request, seat, "keys", context, template="dashboard/key_delete.html")


def state(key: ApiKey, now: datetime) -> tuple[str, str]:
    """Return "good", "warn" or "bad", and in words whether a key is accepted now."""
    if not key.enabled and key.disabled_because:
        return "bad", key.disabled_because
    if key.expires_at and key.expires_at <= now:
        return "bad", "expired"
    if not key.enabled:
        return "warn", "disabled" if DISABLED_BY in key.tags else "disabled by operators"
    return "good", "active"


def old_secret(key: ApiKey, seat: Seat) -> str:
    """Say until when the secret before the last rotation works, "" if it does not."""
    until = key.previous_until
    if not until or until <= timezone.now():
        return ""
    return f"works until {clock(until, seat.zone)} ({seat.zone.key})"


def _require(allowed: bool) -> None:  # noqa: FBT001 - it reads as a sentence
    if not allowed:
        raise PermissionDenied("Your role does not allow this for this key.")


def _key(seat: Seat, ref: int, *, locked: bool = False) -> ApiKey:
    rows = ApiKey.objects.select_for_update(of=("self",)) if locked else ApiKey.objects.all()
    return get_object_or_404(rows, tenant=seat.tenant, pk=ref)


def _row(seat: Seat, key: ApiKey) -> dict[str, Any]:
    tone, word = state(key, timezone.now())
    return {
        "key": key,
        "tone": tone,
        "state": word,
        "made_by": made_by(key) or "operators",
        "playground": PLAYGROUND in key.tags,
        "old": old_secret(key, seat),
        "models": _models(key),
        "limits": limits_in_words(key),
        "last_used": clock(key.last_used_at, seat.zone),
        "expires": clock(key.expires_at, seat.zone),
    }


def _models(key: ApiKey) -> str:
    if key.forced_route:
        return f"always {key.forced_route}"
    allowed = ", ".join(key.allowed_models) or "every model"
    return f"{allowed}; never {', '.join(key.denied_models)}" if key.denied_models else allowed


def _one_key(request: HttpRequest, seat: Seat, key: ApiKey, form: KeyForm | None) -> HttpResponse:
    context = {
        **_row(seat, key),
        "form": form,
        "may_delete": seat.may_delete(key),
        "may_switch": seat.may_change(key) and (key.enabled or key.own_people_may_enable),
        "title": key.name,
    }
    return page(request, seat, "keys", context, template="dashboard/key.html")


@sensitive_variables()
def _shown_once(
    request: HttpRequest, seat: Seat, key: ApiKey, secret: str, *, title: str, rotated: bool = False
) -> HttpResponse:
    """Return the page with a secret. A redirect would carry it in an address, a cookie or a session."""
    context = {
        "key": key,
        "secret": secret,
        "title": title,
        "rotated": rotated,
        "old": old_secret(key, seat),
        "base_url": f"{base_url(request)}/v1",
    }
    response = page(request, seat, "keys", context, template="dashboard/key_secret.html")
    response["Cache-Control"] = "no-store"
    return response
