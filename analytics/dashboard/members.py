"""A tenant's members: owners bring in people, change their roles and let them go."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from analytics.dashboard.access import Seat, seated
from analytics.dashboard.pages import at, page
from keys.models import Member

LAST_OWNER = "A tenant keeps an owner: make somebody else one first."


class InviteForm(forms.Form):
    """Somebody who has an account, and a role."""

    who = forms.CharField(
        label="User name or e-mail address",
        max_length=254,
        help_text="Of somebody who has an account at this gateway. Operators make accounts.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(label="Role", choices=Member.Role.choices, initial=Member.Role.VIEWER)

    def __init__(self, seat: Seat, posted: Any = None) -> None:
        """Take note of the tenant."""
        super().__init__(posted)
        self._seat = seat

    def clean_who(self) -> Any:
        """Return the one active account that goes by it."""
        text: str = self.cleaned_data["who"].strip()
        people = get_user_model().objects.filter(is_active=True)
        found = list(people.filter(username=text)) or list(people.filter(email__iexact=text)[:2])
        if len(found) != 1:
            raise ValidationError("Nobody here is known by exactly that. Ask the operators for an account.")
        if Member.objects.filter(tenant=self._seat.tenant, user=found[0]).exists():
            raise ValidationError("This person is a member already: change the role below.")
        return found[0]


@require_http_methods(["GET", "HEAD", "POST"])
@seated("manage")
def members(request: HttpRequest, seat: Seat) -> HttpResponse:
    """List the members, and bring in another."""
    form = InviteForm(seat, request.POST if request.method == "POST" else None)
    if form.is_valid():
        user, role = form.cleaned_data["who"], form.cleaned_data["role"]
        Member.objects.create(tenant=seat.tenant, user=user, role=role)
        messages.success(request, f"{user.get_username()} is a member now.")
        return HttpResponseRedirect(at(seat, "members"))
    rows = Member.objects.filter(tenant=seat.tenant).select_related("user").order_by("user__username")
    return page(request, seat, "members", {"form": form, "rows": rows, "roles": Member.Role.choices})


@require_POST
@seated("manage")
def change_member(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Give a member another role."""
    role = request.POST.get("role", "")
    with transaction.atomic():
        member = _member(seat, ref)
        if role not in Member.Role.values:
            messages.error(request, f"role: must be one of {', '.join(Member.Role.values)}.")
        elif role != Member.Role.OWNER and _is_last_owner(seat, member):
            messages.error(request, LAST_OWNER)
        else:
            member.role = role
            member.save(update_fields=["role"])
            messages.success(
                request, f"{member.user.get_username()} is {member.get_role_display().lower()} now."
            )
    return HttpResponseRedirect(_after(seat))


@require_POST
@seated("manage")
def remove_member(request: HttpRequest, seat: Seat, ref: int) -> HttpResponse:
    """Let a member go."""
    with transaction.atomic():
        member = _member(seat, ref)
        if _is_last_owner(seat, member):
            messages.error(request, LAST_OWNER)
        else:
            name = member.user.get_username()
            member.delete()
            messages.success(request, f"{name} is no longer a member. Keys that are known to them work on.")
    return HttpResponseRedirect(_after(seat))


def _member(seat: Seat, ref: int) -> Member:
    """Return a member of the tenant, with all its rows locked: two owners may let each other go at once."""
    rows = Member.objects.select_for_update(of=("self",)).filter(tenant=seat.tenant).order_by("pk")
    found = next((row for row in rows.select_related("user") if row.pk == ref), None)
    if found is None:
        raise Http404("No such member.")
    return found


def _is_last_owner(seat: Seat, member: Member) -> bool:
    if member.role != Member.Role.OWNER:
        return False
    return (
        not Member.objects.filter(tenant=seat.tenant, role=Member.Role.OWNER).exclude(pk=member.pk).exists()
    )


def _after(seat: Seat) -> str:
    """Return where to go: who has let go of the own right goes to what is left of it."""
    own = Member.objects.filter(tenant=seat.tenant, user=seat.user).first()
    if own is not None and own.role == Member.Role.OWNER:
        return at(seat, "members")
    return reverse("dashboard:entrance")
