"""What is done with keys beside reading and writing them, and what members of tenants may do of it.

Members and owners make keys; owners rotate, disable, enable and delete every key of their tenant, members
those that they have made, which the tag `made_by` says. What else is said of a key the operators change.
The rules are the tenants' dashboard's: what bounds a new key (`Reach`), and who may enable one again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.dashboard.access import MADE_BY, maker
from analytics.dashboard.reach import Reach
from config.moments import moment_or_span, whole_moment
from gatewaysite.api import etags
from gatewaysite.api.access import Seen
from gatewaysite.api.base import answer
from gatewaysite.api.bodies import mapping
from gatewaysite.api.callers import KEYS
from gatewaysite.api.kinds import Body, invalid, writable
from gatewaysite.api.resources import KindItem, KindList, KindView, writing
from gatewaysite.api.shapes import NoFieldsSerializer, shape
from keys.models import DISABLED_BY, ROTATED, ApiKey, Member, Tenant
from proxy.errors import Forbidden

_OPERATORS = ("forced_route", "payload_days")
MOST_OVERLAP = timedelta(days=90)


def _forbidden(role: Member.Role) -> Forbidden:
    return Forbidden(f"It takes the role {role} in this tenant.", code="permission_denied")


class KeyList(KindList):
    """Keys; a member's new one is of a tenant of the member's."""

    kind = KEYS
    members_write = True

    def before_adding(self, request: Request, body: dict[str, Any]) -> None:
        """Refuse a member another tenant's key, and what operators alone say; note who makes it."""
        if self.seen.everything:
            return
        name = body.get("tenant")
        tenant = Tenant.objects.filter(name=name, pk__in=self.seen.tenant_ids).first() if name else None
        if tenant is None:
            raise invalid("tenant", f"no tenant is named {name}" if name else "required")
        if not self.seen.at_least(Member.Role.MEMBER, tenant.pk):
            raise _forbidden(Member.Role.MEMBER)
        for field in _OPERATORS:
            if body.get(field):
                raise invalid(field, "is for operators alone")
        tags = body.get("tags", {})
        if isinstance(tags, dict):
            body["tags"] = {**tags, MADE_BY: maker(request.user)}
            body["tags"].pop(DISABLED_BY, None)  # would let them enable it after operators disable it
        _bound(body, Reach.of(tenant))


def _bound(body: dict[str, Any], reach: Reach) -> None:
    """Let a member's new key use no more models than the tenant may. Raises BadRequest."""
    for field in ("allowed_models", "denied_models"):
        given = body.get(field) or []
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise invalid(field, "must be a list of texts")
        body[field] = given
    if beyond := reach.beyond(body["allowed_models"]):
        raise invalid("allowed_models", f"not among what the tenant may use: {', '.join(beyond)}")
    body["allowed_models"] = reach.allowed_for(body["allowed_models"])
    body["denied_models"] = reach.denied_for(body["denied_models"])


def _require_management(request: Request, seen: Seen, key: ApiKey) -> None:
    """Raise Forbidden unless it is an operator, an owner, or the member who has made the key."""
    own = key.tags.get(MADE_BY) == maker(request.user)
    role = Member.Role.MEMBER if own else Member.Role.OWNER
    if not seen.at_least(role, key.tenant_id):
        raise _forbidden(role)


class KeyItem(KindItem):
    """One key. Members look at it; who manages it deletes it, too."""

    kind = KEYS

    @property
    def members_write(self) -> bool:  # type: ignore[override]  # by what is done
        """May a member do this?"""
        return self.request.method == "DELETE"

    def before_deleting(self, row: ApiKey) -> None:
        """Leave it to those who manage it, and what operators have made to operators."""
        _require_management(self.request, self.seen, row)
        if not self.seen.everything and not row.tags.get(MADE_BY):
            raise Forbidden("It is the operators' key, who alone delete it.", code="permission_denied")


class _KeyAction(KindView):
    """Something done with one key, by operators who may change keys, and by who manages it."""

    kind = KEYS
    post_takes = "change"
    members_write = True

    def post(self, request: Request, name: str) -> Response:
        """Do it, and answer with the key."""
        body = mapping(request, optional=True)
        with writing():
            key = KEYS.find({"name": name}, self.seen, lock=True)
            if key is None:
                raise self.missing({"name": name})
            _require_management(request, self.seen, key)
            etags.check(request, self.tag(key))
            secret = self.act(key, body)
            saved: Any = KEYS.find({"name": name}, self.seen)
            saved.issued_secret = secret
            return self.shown(saved)

    def act(self, key: ApiKey, body: Body) -> str | None:
        """Do it; return a secret if one was made."""
        raise NotImplementedError


RotationSerializer = shape(
    "Rotation",
    {
        "overlap": serializers.CharField(
            required=False,
            help_text="How long the old secret works as well: 24h (default), 7d, or until 2027-01-31; 0m: no "
            "longer. Ninety days at the most.",
        )
    },
    "How a key is rotated.",
)


class RotateKey(_KeyAction):
    """Gives a key another secret."""

    def act(self, key: ApiKey, body: Body) -> str:
        """Rotate, and return the secret."""
        until = _until(writable(RotationSerializer(), body).get("overlap", "24h"))
        secret = key.rotate(until=until)
        key.save(update_fields=list(ROTATED))
        return secret


class DisableKey(_KeyAction):
    """Has a key refused."""

    enabled = False

    def act(self, key: ApiKey, body: Body) -> None:
        """Switch it."""
        writable(NoFieldsSerializer(), body)
        if self.enabled and not key.enabled and not self.seen.everything:
            _require_own_doing(key)
        tags = key.tags_of_operators
        if not self.enabled and not self.seen.everything:
            # What operators have disabled stays theirs to enable.
            tags = {**tags, DISABLED_BY: maker(self.request.user)} if key.enabled else key.tags
        if (key.enabled, key.tags) != (self.enabled, tags):
            key.enabled, key.tags = self.enabled, tags
            key.save(update_fields=["enabled", "tags"])


def _require_own_doing(key: ApiKey) -> None:
    """Raise Forbidden unless the tenant's own people may enable the key."""
    if key.own_people_may_enable:
        return
    if DISABLED_BY in key.tags:
        raise Forbidden("It was reported as leaked: rotate it first.", code="permission_denied")
    raise Forbidden("Operators have disabled it, who alone enable it.", code="permission_denied")


class EnableKey(DisableKey):
    """Has it accepted again."""

    enabled = True


KeyStateSerializer = shape(
    "KeyState",
    {
        "state": serializers.ChoiceField(choices=["active", "disabled", "expired"]),
        "last_used_at": serializers.DateTimeField(allow_null=True),
    },
    "Whether a key is accepted now, and when it was used last.",
)


class KeyState(KindView):
    """Whether a key is accepted now. Not part of the key itself, which does not change by being used."""

    kind = KEYS

    def get(self, request: Request, name: str) -> Response:  # noqa: ARG002 - REST framework's contract
        """Answer with it."""
        key = KEYS.find({"name": name}, self.seen)
        if key is None:
            raise self.missing({"name": name})
        expired = key.expires_at is not None and key.expires_at <= timezone.now()
        state = "disabled" if not key.enabled else "expired" if expired else "active"
        used = whole_moment(key.last_used_at) if key.last_used_at else None
        return answer({"state": state, "last_used_at": used})


def _until(text: Any) -> datetime | None:
    now = timezone.now()
    if not isinstance(text, str):
        raise invalid("overlap", "must be text such as 24h")
    try:
        until = moment_or_span(text, now=now)
    except ValueError as problem:
        raise invalid("overlap", str(problem)) from None
    if not now <= until <= now + MOST_OVERLAP:
        raise invalid("overlap", f"must be from now up to {MOST_OVERLAP.days} days")
    return until if until > now else None


ACTIONS: Sequence[tuple[str, type[_KeyAction]]] = (
    ("rotate", RotateKey),
    ("disable", DisableKey),
    ("enable", EnableKey),
)
