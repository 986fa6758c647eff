"""The whole configuration by API: export and apply the file, settings, purge the cache, explain, whoami."""

from dataclasses import replace
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from gatewaysite.api import access, etags
from gatewaysite.api.authentication import TokenAuthentication
from gatewaysite.api.base import ApiView, answer
from gatewaysite.api.bodies import ExactJSONParser, YAMLParser, mapping
from gatewaysite.api.file_kinds import NOTHING, existing_for
from gatewaysite.api.kinds import invalid, refused, writable
from gatewaysite.api.resources import writing
from gatewaysite.api.shapes import NoFieldsSerializer, fields_of, shape, shown_fields
from gatewaysite.api.throttles import Throttled
from gatewaysite.api.tokens import SCOPES
from gatewaysite.config_file import Changes, ConfigFileError, apply_mapping, apply_text, diff, export, fields
from gatewaysite.config_file.applying import Applier
from gatewaysite.config_file.fields import read_fields
from gatewaysite.config_file.problems import Problems
from gatewaysite.models import ApiToken
from keys.models import ApiKey, Budget, Member, RateLimit, Tenant
from providers.models import Credential, Price, Provider
from proxy.api.authentication import KeyAuthentication
from proxy.api.explain import ExplainView
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

EVERYTHING = (
    *(Provider, Credential, Price, Route, Target, CacheExclusion, GatewaySettings),
    *(Tenant, ApiKey, RateLimit, Budget),
)


class ExportConfig(ApiView):
    """The rows as the file that makes them, without stored secrets."""

    scopes = ("config:read", "keys:read")
    permission_models = EVERYTHING

    def get(self, request: Request) -> HttpResponseBase:  # noqa: ARG002 - REST framework's contract
        """Answer with YAML."""
        return HttpResponse(export(), content_type="application/yaml")


class ApplyConfig(ApiView):
    """Makes the rows what a file says: all of it, or nothing."""

    scopes = ("config:write", "keys:write")
    permission_models = EVERYTHING
    post_takes = "change"
    parser_classes = (ExactJSONParser, YAMLParser)

    def write_parameters(self) -> set[str]:
        """Take one."""
        return {"dry_run"}

    def post(self, request: Request) -> Response:
        """Apply it, or tell what applying it would change."""
        dry_run = request.query_params.get("dry_run", "false")
        if dry_run not in {"true", "false"}:
            raise invalid("dry_run", "must be true or false")
        for verb in ("add", "delete"):
            access.require(request, EVERYTHING, verb)
        try:
            changes = self._apply(request, dry_run=dry_run == "true")
        except ConfigFileError as problem:
            raise refused(problem, "") from None
        return answer(_told(changes, dry_run=dry_run == "true"))

    @staticmethod
    def _apply(request: Request, *, dry_run: bool) -> Changes:
        body: Any = request.data
        if isinstance(body, str):
            return apply_text(body, dry_run=dry_run)
        return apply_mapping(mapping(request), dry_run=dry_run)


def _told(changes: Changes, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "changes": [
            {
                "what": each.what,
                "action": each.verb,
                "fields": {
                    name: {"before": before, "after": after} for name, (before, after) in each.fields.items()
                },
            }
            for each in changes.differences
        ],
        "unchanged": changes.unchanged,
        "left_alone": dict(changes.left_alone),
        "warnings": changes.warnings,
        "secrets": changes.secrets,
        "diff": "\n".join(diff(changes.differences)),
    }


SETTINGS = (*fields.SETTINGS, *fields.CACHE)
_NAMES = {"ttl_seconds": "cache_ttl_seconds"}
SettingsSerializer = shape(
    "Settings",
    {_NAMES.get(name, name): made for name, made in fields_of(GatewaySettings, SETTINGS).items()},
    "What holds where nothing else is said; null or empty: the environment's value.",
)
_TABLE = tuple(
    fields.Field(_NAMES.get(field.name, field.name), field.column, field.read, field.write)
    for field in SETTINGS
)


class Settings(ApiView):
    """The one row of settings."""

    scopes = ("config",)
    permission_models = (GatewaySettings,)

    def get(self, request: Request) -> Response:
        """Answer with it, or that it has not changed."""
        response = self._shown()
        if etags.unchanged(request, response["ETag"]):
            return Response(status=304, headers={"ETag": response["ETag"]})
        return response

    def put(self, request: Request) -> Response:
        """Set all of them; what is left out is the environment's again."""
        access.require(request, self.permission_models, "change")
        usual = shown_fields({**vars(GatewaySettings()), "default_provider": None}, _TABLE)
        return self._write(request, usual)

    def patch(self, request: Request) -> Response:
        """Set those that the body gives."""
        return self._write(request, {})

    def _write(self, request: Request, usual: dict[str, Any]) -> Response:
        given = {**usual, **writable(SettingsSerializer(), mapping(request))}
        with writing():
            GatewaySettings.objects.select_for_update(of=("self",)).filter(pk=1).first()
            etags.check(request, self._shown()["ETag"])
            problems = Problems()
            row = read_fields(given, "", _TABLE, problems)
            existing = existing_for(NOTHING)
            provider = row.get("default_provider")
            if provider and provider not in existing.providers:
                problems.add("default_provider", f"no provider is named {provider}")
            if len(row.get("default_model") or "") > 200:
                problems.add("default_model", "must have 200 characters or less")
            try:
                problems.raise_if_any()
            except ConfigFileError as problem:
                raise refused(problem, "") from None
            Applier(replace(NOTHING, settings=row), existing).apply()
            return self._shown()

    @staticmethod
    def _shown() -> Response:
        row = (
            GatewaySettings.objects.select_related("default_provider").filter(pk=1).first()
            or GatewaySettings()
        )
        default = row.default_provider.name if row.default_provider else None
        shown = shown_fields({**vars(row), "default_provider": default}, _TABLE)
        return answer(shown, headers={"ETag": etags.tag_of(shown)})


class PurgeCache(ApiView):
    """Makes every cached answer unreachable."""

    scopes = ("config",)
    permission_models = (GatewaySettings,)
    post_takes = "change"

    def post(self, request: Request) -> Response:
        """Purge, and answer with the epoch that begins."""
        writable(NoFieldsSerializer(), mapping(request, optional=True))
        return answer({"epoch": GatewaySettings.purge_cache()})


class Explain(Throttled, ExplainView):
    """Explains a request, to operators by token too."""

    authentication_classes = (TokenAuthentication, KeyAuthentication, SessionAuthentication)  # type: ignore[assignment]
    parser_classes = (ExactJSONParser,)
    metadata_class = None
    takes_keys = True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Hold a token against its scopes."""
        super().initial(request, *args, **kwargs)
        access.require_scopes(request, ("config:read",))


class Whoami(ApiView):
    """Who asks, and what that may do: anyone who is known may ask."""

    for_members = True

    def get(self, request: Request) -> Response:
        """Answer with it."""
        token = request.auth if isinstance(request.auth, ApiToken) else None
        roles = Member.objects.filter(user=request.user.pk).values_list("tenant__name", "role")
        return answer(
            {
                "username": request.user.get_username(),
                "staff": request.user.is_staff,
                "token": token.name if token else None,
                "scopes": token.scopes if token else list(SCOPES),
                "tenants": [{"name": name, "role": role} for name, role in roles.order_by("tenant__name")],
                "requests_per_minute": settings.GATEWAY.api_rpm or None,
            }
        )


WhoamiSerializer = shape(
    "Whoami",
    {
        "username": serializers.CharField(),
        "staff": serializers.BooleanField(),
        "token": serializers.CharField(allow_null=True),
        "scopes": serializers.ListField(child=serializers.CharField()),
        "tenants": shape(
            "Membership",
            {"name": serializers.CharField(), "role": serializers.ChoiceField(choices=Member.Role.values)},
            "A tenant, and one's role there.",
        )(many=True),
        "requests_per_minute": serializers.IntegerField(allow_null=True, help_text="Null: any number."),
    },
    "Who asks.",
)
