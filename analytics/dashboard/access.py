"""Who may see and do what on a tenant's dashboard.

    role              look   use   manage
    owner              x      x      x
    member             x      x
    viewer             x
    operator           x                     no member, but superuser or with the permission to view tenants

"look": usage, requests, limits, models, the list of keys. "use": the playground, and to make keys; a member
manages the keys that he or she has made, by the tag `made_by`. "manage": every key, the members and the
settings. Everyone else gets 404 for every address of the tenant, whether it exists or not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.views.decorators.cache import never_cache

from keys.calendar import zone_of
from keys.models import ApiKey, Member, Tenant
from keys.validators import MAX_TAG

Right = Literal["look", "use", "manage"]
OPERATOR = "operator"
RIGHTS: Mapping[str, frozenset[str]] = {
    Member.Role.OWNER.value: frozenset({"look", "use", "manage"}),
    Member.Role.MEMBER.value: frozenset({"look", "use"}),
    Member.Role.VIEWER.value: frozenset({"look"}),
    OPERATOR: frozenset({"look"}),
}
# Tags of keys that are made here: who made it, and whether it is for the playground.
MADE_BY, PLAYGROUND = "made_by", "playground"
LAST_TENANT = "dashboard_tenant"  # in the session


@dataclass(frozen=True, slots=True)
class Seat:
    """A person at a tenant's dashboard."""

    user: Any
    tenant: Tenant
    role: str

    def may(self, right: Right) -> bool:
        """Does the role allow it?"""
        return right in RIGHTS[self.role]

    @property
    def visits(self) -> bool:
        """Is it an operator's look, and not a member's?"""
        return self.role == OPERATOR

    @property
    def zone(self) -> ZoneInfo:
        """The tenant's time zone, in which everything is told."""
        return zone_of(self.tenant.timezone)

    @property
    def maker(self) -> str:
        """What the tag `made_by` says of this person's keys."""
        return maker(self.user)

    def may_change(self, key: ApiKey) -> bool:
        """May this person rotate, rename, disable a key?"""
        return self.may("manage") or (self.may("use") and made_by(key) == self.maker)

    def may_delete(self, key: ApiKey) -> bool:
        """May this person delete a key? One that operators made bounds what the tenant may use, and stays."""
        return bool(made_by(key)) and self.may_change(key)


def maker(user: Any) -> str:
    """Return what the tag `made_by` says of a person's keys: what is said of nobody else's."""
    name: str = user.get_username()
    return name if len(name) <= MAX_TAG else f"user {user.pk}"


def made_by(key: ApiKey) -> str:
    """Return which member made a key; "" for one that operators made."""
    return str(key.tags.get(MADE_BY, ""))


def tenants_of(user: Any) -> list[Tenant]:
    """Return the tenants that a person belongs to, by name."""
    return list(Tenant.objects.filter(members__user=user).order_by("name"))


def may_visit(user: Any) -> bool:
    """May a person look at the dashboards of tenants that he or she is no member of?"""
    return bool(user.is_staff and user.has_perm("keys.view_tenant"))


def seat_at(user: Any, name: str) -> Seat:
    """Return a person's seat at a tenant. Raises Http404 for strangers, as if there were no such tenant."""
    member = Member.objects.select_related("tenant").filter(tenant__name=name, user=user).first()
    if member is not None:
        return Seat(user, member.tenant, member.role)
    tenant = Tenant.objects.filter(name=name).first() if may_visit(user) else None
    if tenant is None:
        raise Http404("No such tenant.")
    return Seat(user, tenant, OPERATOR)


View = Callable[..., HttpResponseBase]


def seated(right: Right) -> Callable[[View], View]:
    """Let those in who have `right` at the tenant of the address, and hand the view their seat.

    Who is not signed in is sent to sign in; a stranger gets 404, a member without the right 403.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, tenant: str, **arguments: Any) -> HttpResponseBase:
            seat = seat_at(request.user, tenant)
            if not seat.may(right):
                raise PermissionDenied(f"The role {seat.role} does not allow this.")
            # The session is written when the tenant changes, not with every page.
            if request.session.get(LAST_TENANT) != seat.tenant.pk and not seat.visits:
                request.session[LAST_TENANT] = seat.tenant.pk
            return view(request, seat, **arguments)

        protected: View = never_cache(login_required(guarded))
        protected.right = right  # type: ignore[attr-defined]  # for the table in the tests
        return protected

    return decorate
