"""What is done with keys beside reading and writing them, and what members of tenants may do of it.

Members and owners make keys; owners rotate, disable, enable and delete every key of their tenant, members
those that they have made, which the tag `made_by` says. What else is said of a key the operators change.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from config.moments import moment_or_span, whole_moment
from gatewaysite.api import etags
from gatewaysite.api.access import Seen
from gatewaysite.api.base import answer
from gatewaysite.api.bodies import mapping
from gatewaysite.api.callers import KEYS
from gatewaysite.api.kinds import Body, invalid, writable
from gatewaysite.api.resources import KindItem, KindList, KindView, writing
from gatewaysite.api.shapes import shape
from keys.models import ROTATED, ApiKey, Member, Tenant
from keys.validators import MAX_TAG
from proxy.errors import Forbidden

_OPERATORS = ("forced_route", "payload_days")
MADE_BY = "made_by"  # the tag that the tenants' dashboard reads as well
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
            body["tags"] = {**tags, MADE_BY: _maker(request)}


def _maker(request: Request) -> str:
    return request.user.get_username()[:MAX_TAG]


def _require_management(request: Request, seen: Seen, key: ApiKey) -> None:
    """Raise Forbidden unless it is an operator, an owner, or the member who has made the key."""
    own = key.tags.get(MADE_BY) == _maker(request)
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
        body = mapping(request)
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
NoFieldsSerializer = shape("NoFields", {}, "Nothing.")


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
        if self.enabled and key.disabled_because and not self.seen.everything:
            raise Forbidden(
                "It was reported as leaked: ask the operator of this gateway.", code="permission_denied"
            )
        if key.enabled != self.enabled:
            key.enabled = self.enabled
            key.save(update_fields=["enabled"])


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
