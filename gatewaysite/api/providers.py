"""Providers and prices as JSON, and what else there is to know of a provider: its models, its health."""

from typing import Any

from rest_framework import serializers

from config.moments import moment, moment_text, whole_moment
from gatewaysite.api.file_kinds import FileKind
from gatewaysite.api.filters import PriceFilters, ProviderFilters
from gatewaysite.api.kinds import Body, Identity, texts
from gatewaysite.api.shapes import Dollars, fields_of, shape, shown_fields
from gatewaysite.config_file import fields
from gatewaysite.config_file.reading import ALWAYS
from gatewaysite.config_file.sections import Sections
from providers.models import Credential, Price, Provider
from providers.tiers import ABOVE

_HELP = (
    "The vendor's key, or ${VARIABLE}, a reference that each start resolves. Never shown. Left out: "
    "unchanged; null: none."
)
_KIND = "Whether there is one, and from where; never itself."


def _secret() -> serializers.CharField:
    return serializers.CharField(
        write_only=True, required=False, allow_null=True, allow_blank=True, help_text=_HELP
    )


FurtherKeySerializer = shape(
    "ProviderKey",
    {
        "name": serializers.CharField(
            max_length=60, help_text="What it is called in logs. Once per provider."
        ),
        "enabled": serializers.BooleanField(
            required=False, help_text="One that is not enabled is never shown."
        ),
        "api_key": _secret(),
        "credential": serializers.CharField(read_only=True, help_text=_KIND),
    },
    "A further key of a provider, taken when those before it are refused or used up.",
)
ProviderSerializer = shape(
    "Provider",
    {
        **fields_of(Provider, fields.PROVIDER),
        "api_key": _secret(),
        "credential": serializers.CharField(read_only=True, help_text=_KIND),
        "api_keys": FurtherKeySerializer(
            many=True,
            required=False,
            help_text="Further keys, in their order. Those that keep their name keep their secret.",
        ),
        "timeouts": shape("ProviderTimeouts", fields_of(Provider, fields.TIMEOUTS), "Seconds.")(
            required=False
        ),
        "faults": shape(
            "ProviderFaults",
            fields_of(Provider, fields.FAULTS),
            "How the demo fails on purpose. What is left out is off.",
        )(required=False, allow_null=True, help_text="Of the demo provider alone."),
        "created_at": serializers.DateTimeField(read_only=True),
    },
    "An account at a vendor.",
)


def _provider(row: Provider) -> dict[str, Any]:
    """Return a provider as JSON; `further_credentials` should be prefetched."""
    return {
        **shown_fields(vars(row), fields.PROVIDER),
        "credential": row.credential_kind,
        "api_keys": [
            {"name": each.name, "enabled": each.enabled, "credential": each.credential_kind}
            for each in sorted(row.further_credentials.all(), key=lambda each: (each.position, each.pk))
        ],
        "timeouts": shown_fields(vars(row), fields.TIMEOUTS),
        "faults": _faults(row),
        "created_at": whole_moment(row.created_at),
    }


def _faults(row: Provider) -> dict[str, Any]:
    given = set(row.given_faults())
    return shown_fields(vars(row), [field for field in fields.FAULTS if field.column in given])


def _fresh() -> dict[str, Any]:
    row = Provider()
    return {
        **without(shown_fields(vars(row), fields.PROVIDER), fields.PROVIDER),
        "api_keys": [],
        "timeouts": shown_fields(vars(row), fields.TIMEOUTS),
        "faults": {},
    }


def without(written: dict[str, Any], table: Any) -> dict[str, Any]:
    """Leave out what a new row must be given."""
    return {field.name: written[field.name] for field in table if not field.required}


PROVIDERS = FileKind(
    noun="provider",
    plural="providers",
    path="providers",
    model=Provider,
    parts={"api_keys": (Credential,)},
    serializer=ProviderSerializer,
    example={
        "name": "openai",
        "dialect": "openai",
        "base_url": "https://api.openai.com/v1",
        "api_key": "${OPENAI_API_KEY}",
        "timeouts": {"connect": 5, "idle": 60},
    },
    scope="config",
    tag="Providers",
    ordering=("name",),
    identity=("name",),
    filters=ProviderFilters,
    section="providers",
    read=Sections.provider,
    shown=_provider,
    fresh=_fresh,
    base=lambda: Provider.objects.prefetch_related("further_credentials"),
    secrets=lambda row: [row.credential, *(each.credential for each in row.further_credentials.all())],
)

_RATES = [field for field in fields.PRICE if field.name.endswith("_usd_per_mtok")]
_TIER = shape(
    "PriceTier",
    {
        ABOVE: serializers.IntegerField(
            min_value=1, help_text="For calls whose prompt has more tokens than this."
        ),
        **{
            field.name: Dollars(required=False, help_text="As below the tier where left out.")
            for field in fields.TIER[1:]
        },
    },
    "Rates of long prompts.",
)
PriceSerializer = shape(
    "Price",
    {
        **fields_of(Price, fields.PRICE),
        "tiers": _TIER(
            many=True, required=False, help_text="Rates for the whole of a call with a long prompt."
        ),
        "source": serializers.ChoiceField(choices=Price.Source.values, read_only=True),
    },
    "What a provider's model costs from a moment on, in US dollars per million tokens.",
)


def _price(row: Price) -> dict[str, Any]:
    values = {**vars(row), "provider": row.provider.name}
    return {
        **shown_fields(values, fields.PRICE),
        "tiers": [
            shown_fields(tier, [field for field in fields.TIER if field.column in tier]) for tier in row.tiers
        ],
        "source": row.source,
    }


class PriceKind(FileKind):
    """Prices are told apart by provider, model and moment; without a moment they hold for ever."""

    def identity_of(self, body: Body) -> Identity:
        """Return provider, moment and model."""
        named = texts(body, "provider", "model")
        since = body.get("effective_from", moment_text(ALWAYS))
        return {**named, "effective_from": since if isinstance(since, str) else str(since)}


def _price_columns(identity: Identity) -> Identity:
    return {
        "provider__name": identity["provider"],
        "model": identity["model"],
        "effective_from": moment(identity["effective_from"]),
        "source": Price.Source.OPERATOR,
    }


PRICES = PriceKind(
    noun="price",
    plural="prices",
    path="prices",
    model=Price,
    serializer=PriceSerializer,
    example={
        "provider": "openai",
        "model": "gpt-4o-mini",
        "input_usd_per_mtok": "0.15",
        "output_usd_per_mtok": "0.60",
        "cached_input_usd_per_mtok": "0.075",
        "effective_from": "2026-01-01",
    },
    scope="config",
    tag="Prices",
    ordering=("provider__name", "model", "-effective_from", "source", "id"),
    identity=("provider", "effective_from", "model"),
    filters=PriceFilters,
    section="prices",
    read=Sections.price,
    shown=_price,
    fresh=lambda: {
        **without(shown_fields({**vars(Price()), "provider": ""}, fields.PRICE), fields.PRICE),
        "tiers": [],
    },
    base=lambda: Price.objects.select_related("provider"),
    only=_price_columns,
)
