"""Who may do what, and whose rows they see.

staff          what their permissions say, as in the admin: everybody's rows
members        their own tenants' rows, by role; of another tenant there is nothing to find (404)
tokens         what their user may, and of that what their scopes say
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.db import models
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gatewaysite.api.authentication import unauthenticated
from gatewaysite.models import ApiToken
from keys.models import Member
from proxy.errors import Forbidden

Verb = Literal["view", "add", "change", "delete"]
_VERBS: Mapping[str, Verb] = {
    "GET": "view",
    "HEAD": "view",
    "POST": "add",
    "PUT": "change",
    "PATCH": "change",
    "DELETE": "delete",
}
_SAFE = frozenset({"GET", "HEAD"})
ROLES = (Member.Role.VIEWER, Member.Role.MEMBER, Member.Role.OWNER)


@dataclass(frozen=True, slots=True)
class Seen:
    """Whose rows a request may see: everybody's, or those of some tenants (id -> role there)."""

    everything: bool = False
    roles: Mapping[int, str] = field(default_factory=dict)

    @property
    def tenant_ids(self) -> Sequence[int]:
        """The tenants."""
        return list(self.roles)

    def at_least(self, role: Member.Role, tenant_id: int) -> bool:
        """May whoever asks do there what this role may?"""
        if self.everything:
            return True
        own = self.roles.get(tenant_id)
        return own is not None and ROLES.index(Member.Role(own)) >= ROLES.index(role)


class Admission(BasePermission):
    """Lets in who may; notes on the view whose rows it is for (`view.seen`)."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Say whether the request goes on. Raises Unauthenticated, Forbidden with the reason."""
        user = request.user
        if not user.is_authenticated:
            raise unauthenticated("No API token was sent.", "missing_api_token")
        writes = request.method not in _SAFE
        require_scopes(request, view.scopes_for(writes=writes))
        if not view.permission_models:  # only who one is oneself
            return True
        verbs = _verbs(request, view)
        if may(user, view.permission_models, verbs):
            view.seen = Seen(everything=True)
            return True
        if view.for_members and (not writes or view.members_write):
            roles = dict(Member.objects.filter(user=user).values_list("tenant_id", "role"))
            if roles:
                view.seen = Seen(roles=roles)
                return True
        names = ", ".join(f"{verbs[0]}_{model._meta.model_name}" for model in view.permission_models)
        raise Forbidden(f"You may not do this: it takes the permission {names}.", code="permission_denied")


def _verbs(request: Request, view: Any) -> Sequence[Verb]:
    """Return the permissions of which one is enough; which of a PUT's it takes is known with the row."""
    if request.method == "PUT":
        return ("change", "add")
    if request.method == "POST" and view.post_takes:
        return (view.post_takes,)
    verb = _VERBS.get(request.method or "", "change")
    return ("view", "change") if verb == "view" else (verb,)


def may(user: Any, permission_models: Sequence[type[models.Model]], verbs: Sequence[Verb]) -> bool:
    """Has a member of the staff, for every one of the models, one of these permissions?"""
    return user.is_staff and all(
        any(user.has_perm(f"{model._meta.app_label}.{verb}_{model._meta.model_name}") for verb in verbs)
        for model in permission_models
    )


def require(request: Request, permission_models: Sequence[type[models.Model]], verb: Verb) -> None:
    """Raise Forbidden unless the staff member has this permission for every one of the models."""
    if not may(request.user, permission_models, (verb,)):
        names = ", ".join(f"{verb}_{model._meta.model_name}" for model in permission_models)
        raise Forbidden(f"You may not do this: it takes the permission {names}.", code="permission_denied")


def require_scopes(request: Request, scopes: Sequence[str]) -> None:
    """Raise Forbidden for a token without one of these scopes; a person's session has all."""
    if isinstance(request.auth, ApiToken):
        for scope in scopes:
            if scope not in request.auth.scopes:
                raise Forbidden(f"The API token lacks the scope {scope}.", code="missing_scope", param=scope)
