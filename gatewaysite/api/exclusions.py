"""Cache exclusions and members as JSON."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.http import Http404
from rest_framework import serializers

from gatewaysite.api.filters import ExclusionFilters
from gatewaysite.api.kinds import Identity
from gatewaysite.api.shapes import fields_of, shape, shown_fields
from gatewaysite.api.table_kinds import TableKind
from gatewaysite.config_file import fields, values
from gatewaysite.config_file.fields import Field
from keys.models import Member, Tenant
from proxy.models import CacheExclusion

EXCLUSION = (
    Field("kind", "kind", values.choice(CacheExclusion.Kind), required=True),
    Field("pattern", "pattern", required=True),
    fields.NOTE,
)
EXCLUSIONS = TableKind(
    noun="cache exclusion",
    plural="cache exclusions",
    path="cache/exclusions",
    model=CacheExclusion,
    serializer=shape(
        "CacheExclusion", fields_of(CacheExclusion, EXCLUSION), "Models whose answers are never cached."
    ),
    example={"kind": "regex", "pattern": ".*-preview$", "note": "changes under us"},
    scope="config",
    tag="Cache",
    ordering=("kind", "pattern"),
    identity=("kind", "pattern"),
    filters=ExclusionFilters,
    table=EXCLUSION,
    shown=lambda row: shown_fields(vars(row), EXCLUSION),
    base=CacheExclusion.objects.all,
    found_by=dict,
    made_of=dict,
    refer={},
)


def _made_of(identity: Identity) -> Mapping[str, Any]:
    tenant = Tenant.objects.filter(name=identity["tenant"]).first()
    user = get_user_model().objects.filter(username=identity["username"]).first()
    if tenant is None or user is None:
        raise Http404
    return {"tenant": tenant, "user": user}


MEMBER = (Field("role", "role", values.choice(Member.Role), required=True),)
MEMBERS = TableKind(
    noun="member",
    plural="members",
    path="members",
    model=Member,
    serializer=shape(
        "Member",
        {
            "tenant": serializers.CharField(read_only=True),
            "username": serializers.CharField(read_only=True),
            **fields_of(Member, MEMBER),
        },
        "A person's part in a tenant.",
    ),
    example={"role": "viewer"},
    scope="keys",
    tag="Tenants",
    ordering=("user__username", "id"),
    identity=("tenant", "username"),
    for_members=True,
    narrowed=lambda rows, seen: rows.filter(tenant__in=seen.tenant_ids),
    table=MEMBER,
    shown=lambda row: {"tenant": row.tenant.name, "username": row.user.username, "role": row.role},
    base=lambda: Member.objects.select_related("tenant", "user"),
    found_by=lambda identity: {"tenant__name": identity["tenant"], "user__username": identity["username"]},
    made_of=_made_of,
    refer={},
)
