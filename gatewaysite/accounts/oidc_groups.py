"""What the groups of an OpenID Connect claim stand for: roles of the admin, and parts in tenants.

Pure: `OIDC_ROLES` and `OIDC_TENANTS` are parsed here, and read with the claims of one sign-in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

# In OIDC_ROLES: everything, users and roles included.
ADMINISTRATOR = "administrator"
# From the least to the most.
MEMBER_ROLES = ("viewer", "member", "owner")


@dataclass(frozen=True, slots=True)
class GroupMap:
    """Group -> roles, group -> (tenant, what a member there may do)."""

    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tenants: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)

    @property
    def known_roles(self) -> frozenset[str]:
        """All roles that the issuer gives and takes."""
        return frozenset(role for roles in self.roles.values() for role in roles)

    @property
    def known_tenants(self) -> frozenset[str]:
        """All tenants whose members the issuer names."""
        return frozenset(tenant for parts in self.tenants.values() for tenant, _ in parts)

    def roles_of(self, groups: Sequence[str]) -> frozenset[str]:
        """Return the roles that these groups give."""
        return frozenset(role for group in groups for role in self.roles.get(group, ()))

    def tenants_of(self, groups: Sequence[str]) -> dict[str, str]:
        """Return tenant -> role; of two groups of one tenant the one that may do more counts."""
        found: dict[str, str] = {}
        for tenant, role in (part for group in groups for part in self.tenants.get(group, ())):
            if tenant not in found or MEMBER_ROLES.index(role) > MEMBER_ROLES.index(found[tenant]):
                found[tenant] = role
        return found


def groups_in(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return the groups that a claim lists; "realm_access.roles" looks inside an object."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def parse_roles(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read OIDC_ROLES as pairs of group and roles. Raises ValueError with what was expected."""
    expected = 'a JSON object of groups and roles such as {"gateway-admins": "operator"}'
    return tuple((group, tuple(names)) for group, names in _pairs(text, expected))


def parse_tenants(text: str) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Read OIDC_TENANTS as pairs of group and (tenant, role)s. Raises ValueError with what was expected."""
    expected = 'a JSON object of groups and tenants such as {"team-search": "search:member"}'
    return tuple((group, tuple(_part(name) for name in names)) for group, names in _pairs(text, expected))


def _pairs(text: str, expected: str) -> Iterator[tuple[str, list[str]]]:
    try:
        read = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        read = None
    if not isinstance(read, dict):
        raise ValueError(expected)  # noqa: TRY004 - the environment's parsers raise ValueError
    for group, names in read.items():
        listed = [names] if isinstance(names, str) else names
        if not isinstance(listed, list) or not listed:
            raise ValueError(expected)
        if not all(isinstance(name, str) and name.strip() for name in listed):
            raise ValueError(expected)
        yield group, [name.strip() for name in listed]


def _part(text: str) -> tuple[str, str]:
    tenant, colon, role = text.rpartition(":")
    if not colon:
        return text, MEMBER_ROLES[0]
    if not tenant or role not in MEMBER_ROLES:
        raise ValueError(f"tenant:role with a role of {', '.join(MEMBER_ROLES)}, not {text!r}")
    return tenant, role
