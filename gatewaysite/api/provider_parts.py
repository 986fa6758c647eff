"""What is only read of a provider: the models it serves, and its upstreams' health."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from config.moments import whole_moment
from gatewaysite.api import pages
from gatewaysite.api.base import answer
from gatewaysite.api.providers import PROVIDERS
from gatewaysite.api.resources import KindView
from providers.models import Provider, ProviderModel
from proxy.models import UpstreamState


class _Part(KindView):
    """A list of what belongs to one provider."""

    kind = PROVIDERS
    parameters = pages.PARAMETERS

    def provider(self, name: str) -> Provider:
        """Return the provider. Raises NotFound."""
        found: Provider | None = PROVIDERS.find({"name": name}, self.seen)
        if found is None:
            raise self.missing({"name": name})
        return found


class ProviderModels(_Part):
    """The models that the vendor says it serves, as last fetched."""

    def get(self, request: Request, name: str) -> Response:
        """Answer with a page."""
        rows = ProviderModel.objects.filter(provider=self.provider(name))
        found, cursor = pages.page(request, rows, ("name",))
        items = [{"name": row.name, "owned_by": row.owned_by, "created": row.created} for row in found]
        return answer({"items": items, "next_cursor": cursor})


class ProviderHealth(_Part):
    """Its upstreams' circuit breakers."""

    permission_models = (Provider, UpstreamState)

    def get(self, request: Request, name: str) -> Response:
        """Answer with a page."""
        rows = UpstreamState.objects.filter(upstream__startswith=f"{self.provider(name).name}/")
        found, cursor = pages.page(request, rows, ("upstream",))
        return answer({"items": [_health(row) for row in found], "next_cursor": cursor})


def _health(row: UpstreamState) -> dict[str, Any]:
    moments = {name: getattr(row, name) for name in ("open_until", "cooling_until", "reported_at")}
    return {
        **{
            name: getattr(row, name)
            for name in ("upstream", "state", "failures", "reason", "worker", "held_open")
        },
        **{name: whole_moment(at) if at else None for name, at in moments.items()},
    }
