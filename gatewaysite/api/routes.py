"""Routes with their targets as JSON."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from gatewaysite.api.file_kinds import FileKind
from gatewaysite.api.filters import RouteFilters
from gatewaysite.api.kinds import Body, Identity, texts
from gatewaysite.api.providers import without
from gatewaysite.api.shapes import fields_of, shape, shown_fields
from gatewaysite.config_file import fields
from gatewaysite.config_file.sections import Sections
from proxy.models import Route, Target


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "enum": ["user"]},
            {
                "type": "object",
                "properties": {"header": {"type": "string", "maxLength": 60}},
                "required": ["header"],
                "additionalProperties": False,
            },
        ],
        "nullable": True,
    }
)
class Sticky(serializers.JSONField):
    """By what requests are kept together."""


_CHAIN_HELP = {
    "on_context_overflow": "Asked when the others' context windows are too small.",
    "on_content_filter": "Asked when the others' content filters refuse.",
    "shadow": "Get a copy of a percentage of the requests; nobody gets their answers.",
}
RouteSerializer = shape(
    "Route",
    {
        **fields_of(Route, fields.ROUTE),
        "sticky": Sticky(required=False, allow_null=True, help_text=Sticky.__doc__),
        "timeouts": shape("RouteTimeouts", fields_of(Route, fields.ROUTE_TIMEOUTS), "Seconds.")(
            required=False, help_text="Null: the provider's."
        ),
        "targets": shape("Target", fields_of(Target, fields.TARGET), "An upstream of a route.")(
            many=True, help_text="In the order of tries."
        ),
        **{
            name: shape(
                f"{name.title().replace('_', '')}Target", fields_of(Target, table), "A target for a case."
            )(many=True, required=False, help_text=_CHAIN_HELP[name])
            for name, table in fields.CHAINS.items()
        },
    },
    "Which requested models go to which targets.",
)


def _route(row: Route) -> dict[str, Any]:
    """Return a route as JSON; `targets__provider` should be prefetched."""
    listed: Mapping[str, list[dict[str, Any]]] = defaultdict(list)
    for target in row.targets.all():
        name = "targets" if target.role in Target.ASKED_ROLES else target.role
        values = {**vars(target), "provider": target.provider.name}
        listed[name].append(shown_fields(values, fields.CHAINS.get(name, fields.TARGET)))
    return {
        **shown_fields(vars(row), fields.ROUTE),
        "sticky": {"header": row.sticky_header} if row.sticky == Route.Sticky.HEADER else row.sticky or None,
        "timeouts": shown_fields(vars(row), fields.ROUTE_TIMEOUTS),
        **{name: listed[name] for name in ("targets", *fields.CHAINS)},
    }


def _fresh() -> dict[str, Any]:
    return {
        **without(shown_fields(vars(Route()), fields.ROUTE), fields.ROUTE),
        "sticky": None,
        "timeouts": shown_fields(vars(Route()), fields.ROUTE_TIMEOUTS),
        **{name: [] for name in fields.CHAINS},
    }


class RouteKind(FileKind):
    """Routes are told apart by kind and match; one that ends with * is a prefix, unless said otherwise."""

    def identity_of(self, body: Body) -> Identity:
        """Return kind and match."""
        match = texts(body, "match")["match"]
        usual = Route.Kind.PREFIX if match.endswith("*") else Route.Kind.EXACT
        return {"kind": body.get("kind", str(usual)), "match": match}


ROUTES = RouteKind(
    noun="route",
    plural="routes",
    path="routes",
    model=Route,
    parts=dict.fromkeys(("targets", *fields.CHAINS), (Target,)),
    serializer=RouteSerializer,
    example={
        "match": "gpt-4o*",
        "kind": "prefix",
        "strategy": "ordered",
        "targets": [
            {"provider": "openai"},
            {"provider": "anthropic", "model": "claude-haiku-4-5"},
        ],
    },
    scope="config",
    tag="Routes",
    ordering=("-priority", "match", "kind"),
    identity=("kind", "match"),
    filters=RouteFilters,
    section="routes",
    read=Sections.route,
    shown=_route,
    fresh=_fresh,
    base=lambda: Route.objects.prefetch_related("targets__provider"),
)
