"""Gives a person what the issuer's groups give, and takes what they no longer give."""

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction

from gatewaysite.accounts.oidc_groups import ADMINISTRATOR, GroupMap, groups_in
from gatewaysite.environment import Environment
from keys.models import Member, Tenant

log = structlog.get_logger("gatewaysite.accounts")


def take_over(user: Any, claims: Mapping[str, Any]) -> None:
    """Bring roles and memberships of `user` in line with their claims.

    Only what OIDC_ROLES and OIDC_TENANTS name is the issuer's to give and take: what an operator gave
    beside it stays.
    """
    environment: Environment = settings.GATEWAY
    known = GroupMap(roles=dict(environment.oidc_roles), tenants=dict(environment.oidc_tenants))
    groups = groups_in(claims, environment.oidc_groups_claim)
    with transaction.atomic():
        _give_roles(user, known, known.roles_of(groups))
        _make_member(user, known, known.tenants_of(groups))


def _give_roles(user: Any, known: GroupMap, roles: frozenset[str]) -> None:
    if ADMINISTRATOR in known.known_roles and user.is_superuser is not (ADMINISTRATOR in roles):
        user.is_superuser = ADMINISTRATOR in roles
        user.is_staff = user.is_superuser or user.groups.exists()
        user.save(update_fields=["is_superuser", "is_staff"])
    found = {group.name: group for group in Group.objects.filter(name__in=known.known_roles)}
    for name in sorted(known.known_roles - {ADMINISTRATOR} - found.keys()):
        log.warning("sign_in.no_such_role", role=name)
    held = set(user.groups.filter(name__in=known.known_roles))
    given = {group for name, group in found.items() if name in roles}
    user.groups.add(*(given - held))
    user.groups.remove(*(held - given))


def _make_member(user: Any, known: GroupMap, parts: Mapping[str, str]) -> None:
    tenants = {tenant.name: tenant for tenant in Tenant.objects.filter(name__in=known.known_tenants)}
    for name in sorted(parts.keys() - tenants.keys()):
        log.warning("sign_in.no_such_tenant", tenant=name)
    held = {
        member.tenant.name: member
        for member in Member.objects.filter(user=user, tenant__in=tenants.values()).select_related("tenant")
    }
    for name, tenant in tenants.items():
        role, member = parts.get(name), held.get(name)
        if role is None:
            if member is not None:
                member.delete()
        elif member is None:
            Member.objects.create(tenant=tenant, user=user, role=role)
        elif member.role != role:
            member.role = role
            member.save(update_fields=["role"])
