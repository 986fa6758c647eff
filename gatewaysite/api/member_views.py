"""Members of a tenant: a list of one tenant's, and what one of them is."""

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from gatewaysite.api.callers import TENANTS
from gatewaysite.api.exclusions import MEMBERS
from gatewaysite.api.resources import KindItem, KindList


class MemberList(KindList):
    """A tenant's members."""

    kind = MEMBERS

    def get(self, request: Request, **within: Any) -> Response:
        """Answer with a page."""
        self.tenant = TENANTS.find({"name": within["tenant"]}, self.seen)
        if self.tenant is None:
            raise Http404
        return super().get(request)

    def get_queryset(self) -> QuerySet[Any]:
        """Return the tenant's."""
        return MEMBERS.rows(self.seen).filter(tenant=self.tenant)


class MemberItem(KindItem):
    """One of them, by username."""

    kind = MEMBERS
