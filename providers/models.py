"""Rows about vendors: the account (Provider), what it serves (ProviderModel), what it costs (Price)."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from config.models import TrackedModel
from providers.credential import Credential, CredentialHolder, vault
from providers.dialects import DIALECTS
from providers.fault_columns import FaultColumns
from providers.price_columns import PriceColumns
from providers.quirks import read_quirks

__all__ = ("DEMO_URL", "Credential", "Price", "Provider", "ProviderModel", "dialect_choices", "vault")

DEMO_URL = "demo://"


def dialect_choices() -> list[tuple[str, str]]:
    """Return the wire formats that a provider may speak, and what people call them."""
    return [(name, dialect.label) for name, dialect in DIALECTS.items()]


def _check_base_url(value: str) -> None:
    if not value.startswith(("http://", "https://", DEMO_URL)):
        raise ValidationError("must start with http:// or https://", code="scheme")


_FRAMING = ("content-length", "transfer-encoding")


def _check_headers(value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValidationError('must be an object of strings, such as {"x-team": "blue"}', code="headers")
    if not {name.lower() for name in value}.isdisjoint(_FRAMING):
        raise ValidationError(
            f"must not hold {' or '.join(_FRAMING)}: the gateway says those", code="headers"
        )


def _check_quirks(value: Any) -> None:
    try:
        read_quirks(value)
    except ValueError as problem:
        raise ValidationError(str(problem), code="quirks") from None


_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _check_path_template(value: str) -> None:
    unknown = sorted(set(_PLACEHOLDER.findall(value)) - {"model", "path"})
    if unknown:
        raise ValidationError(f"knows {{model}} and {{path}}, not {{{unknown[0]}}}", code="placeholder")
    if not value.startswith("/") and not value.startswith("{path}"):
        raise ValidationError("must start with / or {path}", code="start")
    if not value.isprintable() or not {" ", "#"}.isdisjoint(value):
        raise ValidationError("must not contain spaces, # or control characters", code="characters")
    if not {"{", "}"}.isdisjoint(_PLACEHOLDER.sub("", value)):
        raise ValidationError("has a brace without its other one", code="brace")
    if "{path}" not in value:
        raise ValidationError("must contain {path}, the endpoint's path", code="path")


class Provider(FaultColumns, CredentialHolder):
    """An account at a vendor; its name is also the namespace of its models."""

    snapshot_part = "providers"
    snapshot_ignores = frozenset({"models_refreshed_at", "models_error"})

    name = models.CharField(
        max_length=60,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z", "use a-z, 0-9, dot, dash and underscore")],
        help_text='Also the namespace of its models: "openai" serves "openai/gpt-4o".',
    )
    dialect = models.CharField(max_length=20, choices=dialect_choices, help_text="The vendor's wire format.")
    base_url = models.CharField(
        "base URL",
        max_length=500,
        validators=[_check_base_url],
        help_text='For OpenAI and Mistral with the version, "https://api.openai.com/v1"; for others the host '
        'alone, "https://api.anthropic.com".',
    )
    auth_header = models.CharField(
        max_length=60,
        blank=True,
        help_text='Header that carries the key; empty: the dialect\'s own ("Authorization: Bearer").',
    )
    extra_headers = models.JSONField(
        default=dict,
        blank=True,
        validators=[_check_headers],
        help_text='Sent with every request: {"OpenAI-Organization": "org-..."}.',
    )
    path_template = models.CharField(
        max_length=300,
        blank=True,
        validators=[_check_path_template],
        help_text="How an endpoint's path is put under the base URL. Empty: {path}. Azure: "
        '"/openai/deployments/{model}{path}?api-version=2024-10-21".',
    )
    quirks = models.JSONField(
        default=dict,
        blank=True,
        validators=[_check_quirks],
        help_text="How a compatible server differs from OpenAI: rename_params, unsupported_params, "
        "developer_role, stream_usage, completions, responses, reasoning_content (see "
        "docs/compatible-servers.md).",
    )
    enabled = models.BooleanField(default=True, help_text="A disabled provider is skipped by every route.")
    drop_unsupported_params = models.BooleanField(
        default=False,
        help_text="Drop request parameters the vendor lacks instead of refusing the request with 400.",
    )
    shares_stored = models.BooleanField(
        "shares what it stores",
        default=False,
        help_text="Let every tenant list the files and batches of this account. Otherwise each finds its own "
        "by the ids it was given: the vendor's lists do not tell tenants apart.",
    )
    connect_timeout_s = models.FloatField(
        "connect timeout",
        default=5.0,
        validators=[MinValueValidator(0.001)],
        help_text="Seconds to open a connection. Default 5.",
    )
    first_content_timeout_s = models.FloatField(
        "first content timeout",
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text="Seconds until a stream's first content. Empty: PROVIDER_TIMEOUT, else 30.",
    )
    idle_timeout_s = models.FloatField(
        "idle timeout",
        default=60.0,
        validators=[MinValueValidator(0.001)],
        help_text="Seconds between two pieces of a stream. Default 60.",
    )
    total_timeout_s = models.FloatField(
        "total timeout",
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text="Seconds for a whole answer. Empty: PROVIDER_TIMEOUT for JSON answers, else 600.",
    )
    max_connections = models.PositiveIntegerField(
        default=500, validators=[MinValueValidator(1)], help_text="Open connections per worker. Default 500."
    )
    max_concurrency = models.PositiveIntegerField(
        "calls at a time",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Calls at a time of the whole gateway; each of its workers takes an equal share, at least "
        "one. More wait in line. Empty: any number.",
    )
    max_queue = models.PositiveIntegerField(
        "places in line",
        default=100,
        help_text="How many calls may wait in each worker; the next is refused with Retry-After. Default "
        "100. 0: none waits.",
    )
    queue_timeout_s = models.FloatField(
        "longest wait",
        default=30.0,
        validators=[MinValueValidator(0.001)],
        help_text="Seconds that a call may wait in line before it is refused. Default 30.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    models_refreshed_at = models.DateTimeField(null=True, blank=True, editable=False)
    models_error = models.TextField(blank=True, editable=False)

    class Meta:
        """By name."""

        ordering = ("name",)

    def __str__(self) -> str:
        """Show the name."""
        return self.name

    def clean(self) -> None:
        """Refuse faults at a real vendor; a row whose URL is not known yet is held to its other rules."""
        super().clean()
        self.check_faults(demo=self.base_url in ("", DEMO_URL))

    def first_credential(self) -> str:
        """Return the secret that is shown first: its own, else a further one's, else "".

        Raises SecretUnreadable.
        """
        own = self.open_credential()
        if own or self.pk is None:
            return own
        further = (each.open_credential() for each in self.further_credentials.filter(enabled=True))
        return next((secret for secret in further if secret), "")


class ProviderModel(TrackedModel):
    """A model the vendor says it serves, as last fetched in the background."""

    snapshot_part = "models"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="served_models")
    name = models.CharField(max_length=200)
    created = models.BigIntegerField(default=0, help_text="Unix seconds, as the vendor says; 0: unknown.")
    owned_by = models.CharField(max_length=100, blank=True)

    class Meta:
        """Once per provider."""

        ordering = ("provider__name", "name")
        constraints = (
            models.UniqueConstraint(fields=("provider", "name"), name="providermodel_once_per_provider"),
        )

    def __str__(self) -> str:
        """Show the prefixed name."""
        return f"{self.provider}/{self.name}"


class Price(PriceColumns, TrackedModel):
    """Rates of one provider's model from a moment on, in nano-dollars per million tokens.

    An operator's row wins over a built-in one; among equals the latest effective one holds.
    """

    snapshot_part = "prices"

    class Source(models.TextChoices):
        """Who wrote the row."""

        BUILTIN = "builtin", "Built in (genai-prices)"
        OPERATOR = "operator", "Operator"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="prices")
    model = models.CharField(
        max_length=200, help_text='The vendor\'s model name; a trailing * matches by prefix: "gpt-4o*".'
    )
    max_output_tokens = models.PositiveIntegerField(
        "most output",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Tokens that the model answers with at the most. Empty: as built in, else unknown. Holds "
        "whatever the date.",
    )
    context_window = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Tokens that the model takes, prompt and answer together. Empty: as built in, else "
        "unknown. Holds whatever the date.",
    )
    effective_from = models.DateTimeField(
        default=timezone.now, help_text="In force from this moment on (UTC)."
    )
    source = models.CharField(max_length=10, choices=Source, default=Source.OPERATOR)

    class Meta:
        """One row per provider, model, moment and source."""

        ordering = ("provider__name", "model", "-effective_from")
        constraints = (
            models.UniqueConstraint(
                fields=("provider", "model", "source", "effective_from"), name="price_once_per_moment"
            ),
        )

    def __str__(self) -> str:
        """Show what it prices."""
        return f"{self.provider}/{self.model} from {self.effective_from:%Y-%m-%d}"
