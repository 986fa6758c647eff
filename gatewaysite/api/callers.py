"""Tenants and keys as JSON."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request

from config.moments import whole_moment
from gatewaysite.api.access import Seen
from gatewaysite.api.file_kinds import FileKind
from gatewaysite.api.filters import KeyFilters, TenantFilters
from gatewaysite.api.kinds import Body, Identity, invalid
from gatewaysite.api.providers import without
from gatewaysite.api.shapes import fields_of, shape, shown_fields
from gatewaysite.config_file import fields
from gatewaysite.config_file.sections import Sections
from keys.models import ApiKey, Member, Tenant

TenantSerializer = shape(
    "Tenant",
    {
        **fields_of(Tenant, fields.TENANT),
        "alert_webhook": serializers.CharField(
            write_only=True,
            required=False,
            allow_null=True,
            allow_blank=True,
            help_text="A URL that is told of budgets by POST, or ${VARIABLE}. Never shown. Left out: "
            "unchanged; null: none.",
        ),
        "has_alert_webhook": serializers.BooleanField(read_only=True),
        "created_at": serializers.DateTimeField(read_only=True),
    },
    "A team that owns keys.",
)


def _tenant(row: Tenant) -> dict[str, Any]:
    return {
        **shown_fields(vars(row), fields.TENANT),
        "has_alert_webhook": bool(row.alert_webhook),
        "created_at": whole_moment(row.created_at),
    }


class TenantKind(FileKind):
    """Tenants: who is written to is for owners and operators to know, as on the tenant's dashboard."""

    def show_to(self, row: Any, seen: Seen) -> dict[str, Any]:
        """Leave addresses out for others."""
        shown = self.show(row)
        if not seen.at_least(Member.Role.OWNER, row.pk):
            del shown["alert_emails"]
        return shown


TENANTS = TenantKind(
    noun="tenant",
    plural="tenants",
    path="tenants",
    model=Tenant,
    serializer=TenantSerializer,
    example={"name": "acme", "timezone": "Europe/Berlin", "alert_emails": ["ops@acme.test"]},
    scope="keys",
    tag="Tenants",
    ordering=("name",),
    identity=("name",),
    filters=TenantFilters,
    for_members=True,
    of_tenants="pk",
    section="tenants",
    read=Sections.tenant,
    shown=_tenant,
    fresh=lambda: without(shown_fields(vars(Tenant()), fields.TENANT), fields.TENANT),
    base=Tenant.objects.all,
    secrets=lambda row: [row.alert_webhook],
)

# What identifies a key at rest is no business of programs: rotating is its own operation.
_AT_REST = ("secret_sha256", "prefix", "previous_secret_sha256", "previous_prefix", "previous_until")
_KEY = tuple(field for field in fields.KEY if field.name not in _AT_REST)
KeySerializer = shape(
    "Key",
    {
        **fields_of(ApiKey, _KEY),
        "secret": serializers.CharField(
            required=False,
            help_text="In: your own secret for a new key, 20 characters or more; left out, one is made. Out: "
            "in the answer that made the key, and never again.",
        ),
        "prefix": serializers.CharField(read_only=True, help_text="How its secret begins."),
        "previous_prefix": serializers.CharField(read_only=True, help_text="How the secret before begins."),
        "previous_until": serializers.DateTimeField(
            read_only=True, allow_null=True, help_text="Until when the secret before the last rotation works."
        ),
        "disabled_because": serializers.CharField(read_only=True, help_text="If not by hand."),
        "created_at": serializers.DateTimeField(read_only=True),
    },
    "A tenant's credential.",
)


def show_key(row: ApiKey) -> dict[str, Any]:
    """Return a key as JSON, with its secret where it was issued just now; `tenant` should be selected."""
    until = row.previous_until if row.previous_until and row.previous_until > timezone.now() else None
    return {
        **shown_fields({**vars(row), "tenant": row.tenant.name}, _KEY),
        "prefix": row.prefix,
        "previous_prefix": row.previous_prefix if until else "",
        "previous_until": whole_moment(until) if until else None,
        "disabled_because": row.disabled_because,
        "created_at": whole_moment(row.created_at),
    }


class KeyKind(FileKind):
    """Keys: a new one has a secret, which a later PUT does not change."""

    def write(self, request: Request, row: Any | None, identity: Identity, body: Body, *, whole: bool) -> Any:
        """Refuse another secret for a key that has one."""
        if row is not None and "secret" in body:
            probe = ApiKey()
            try:
                probe.set_secret(body["secret"] if isinstance(body["secret"], str) else "")
            except ValueError as problem:
                raise invalid("secret", str(problem)) from None
            if probe.digest != row.digest:
                raise invalid("secret", "is not the key's, which its rotation alone changes")
        return super().write(request, row, identity, body, whole=whole)


KEYS = KeyKind(
    noun="key",
    plural="keys",
    path="keys",
    model=ApiKey,
    serializer=KeySerializer,
    example={
        "name": "acme-ci",
        "tenant": "acme",
        "allowed_models": ["gpt-4o*", "anthropic/*"],
        "tags": {"team": "search"},
        "expires_at": "2027-01-31",
    },
    scope="keys",
    tag="Keys",
    ordering=("name",),
    identity=("name",),
    filters=KeyFilters,
    for_members=True,
    of_tenants="tenant",
    section="keys",
    read=Sections.key,
    shown=show_key,
    fresh=lambda: without(shown_fields({**vars(ApiKey()), "tenant": ""}, _KEY), _KEY),
    base=lambda: ApiKey.objects.select_related("tenant"),
    secrets=lambda row: [row.digest],
)
