"""Members of a tenant: a list of one tenant's, and what one of them is.

Of a tenant's own people, owners alone see them, as on the tenant's dashboard.
"""

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from gatewaysite.api.access import Seen
from gatewaysite.api.callers import TENANTS
from gatewaysite.api.exclusions import MEMBERS
from gatewaysite.api.resources import KindItem, KindList
from keys.models import Member
from proxy.errors import Forbidden


class MemberList(KindList):
    """A tenant's members."""

    kind = MEMBERS

    def get(self, request: Request, **within: Any) -> Response:
        """Answer with a page."""
        self.tenant = TENANTS.find({"name": within["tenant"]}, self.seen)
        if self.tenant is None:
            raise Http404
        _require_owner(self.seen, self.tenant.pk)
        return super().get(request)

    def get_queryset(self) -> QuerySet[Any]:
        """Return the tenant's."""
        return MEMBERS.rows(self.seen).filter(tenant=self.tenant)


class MemberItem(KindItem):
    """One of them, by username."""

    kind = MEMBERS

    def get(self, request: Request, **identity: Any) -> Response:
        """Answer with it."""
        _require_owner(self.seen, self._found(identity).tenant_id)
        return super().get(request, **identity)


def _require_owner(seen: Seen, tenant_id: int) -> None:
    """Raise Forbidden for a member who is no owner of the tenant."""
    if not seen.at_least(Member.Role.OWNER, tenant_id):
        raise Forbidden("It takes the role owner in this tenant.", code="permission_denied")
