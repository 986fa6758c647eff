"""Rows of the data plane: Route and Target, CacheExclusion, GatewaySettings."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, transaction

from config.models import TrackedModel
from providers.models import Provider
from proxy.patterns import BadPattern, compile_regex


class Route(TrackedModel):
    """Which requested models go to which targets."""

    snapshot_part = "routes"

    class Kind(models.TextChoices):
        """How `match` is read."""

        EXACT = "exact", "Exact name"
        PREFIX = "prefix", "Prefix"
        REGEX = "regex", "Regex (RE2, unanchored)"

    class Strategy(models.TextChoices):
        """In which order targets are tried."""

        ORDERED = "ordered", "Ordered"
        WEIGHTED = "weighted", "Weighted"
        LEAST_LATENCY = "least_latency", "Least latency"
        LEAST_BUSY = "least_busy", "Least busy"

    match = models.CharField(
        max_length=200, help_text='The model a client asks for: "gpt-4o", "gpt-4o*" (prefix) or a regex.'
    )
    kind = models.CharField(
        max_length=10,
        choices=Kind,
        default=Kind.EXACT,
        help_text="Exact beats prefix and regex; see priority.",
    )
    priority = models.IntegerField(
        default=0, help_text="Higher first among prefixes and regexes; then the longest match. Default 0."
    )
    strategy = models.CharField(max_length=20, choices=Strategy, default=Strategy.ORDERED)
    enabled = models.BooleanField(default=True)
    note = models.CharField(max_length=200, blank=True, help_text="For people; the gateway does not read it.")

    class Meta:
        """Highest priority first."""

        ordering = ("-priority", "match")
        constraints = (models.UniqueConstraint(fields=("kind", "match"), name="route_once_per_match"),)

    def __str__(self) -> str:
        """Show the pattern."""
        return self.match

    def clean(self) -> None:
        """Refuse a regex that RE2 cannot compile, with its error."""
        _check_regex(self.kind, self.match, field="match")


class Target(TrackedModel):
    """One upstream of a route."""

    snapshot_part = "routes"

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="targets")
    model = models.CharField(
        max_length=200, blank=True, help_text="The vendor's model. Empty: the name the client asked for."
    )
    weight = models.PositiveIntegerField(
        default=1, help_text="Share under the weighted strategy. 0: never first."
    )
    position = models.PositiveIntegerField(default=0, help_text="Order of tries; smallest first.")

    class Meta:
        """In the order of tries."""

        ordering = ("position", "id")

    def __str__(self) -> str:
        """Show provider and model."""
        return f"{self.provider}/{self.model or '(as asked)'}"


class CacheExclusion(TrackedModel):
    """Models whose answers are never cached."""

    snapshot_part = "exclusions"

    class Kind(models.TextChoices):
        """How `pattern` is read."""

        EXACT = "exact", "Exact name"
        REGEX = "regex", "Regex (RE2, unanchored)"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.EXACT)
    pattern = models.CharField(max_length=200, help_text='"gpt-4o-realtime", or as a regex ".*-preview$".')
    note = models.CharField(max_length=200, blank=True, help_text="Why; for people.")

    class Meta:
        """Once each."""

        ordering = ("kind", "pattern")
        constraints = (models.UniqueConstraint(fields=("kind", "pattern"), name="exclusion_once"),)

    def __str__(self) -> str:
        """Show the pattern."""
        return self.pattern

    def clean(self) -> None:
        """Refuse a regex that RE2 cannot compile, with its error."""
        _check_regex(self.kind, self.pattern, field="pattern")


class GatewaySettings(TrackedModel):
    """The one row of settings; an empty field means the environment's value."""

    snapshot_part = "settings"

    default_provider = models.ForeignKey(
        Provider,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        help_text="Serves models that no route and no prefix names. Empty: DEFAULT_PROVIDER, else 404.",
    )
    default_model = models.CharField(
        max_length=200, blank=True, help_text="For the simple chat. Empty: DEFAULT_MODEL, else the demo's."
    )
    cache_ttl_s = models.PositiveIntegerField(
        "cache TTL",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Seconds an answer is kept. Empty: CACHE_TTL (1h).",
    )
    cache_epoch = models.PositiveIntegerField(
        default=0, editable=False, help_text="Part of every cache key; the purge action raises it."
    )

    class Meta:
        """One row."""

        verbose_name = verbose_name_plural = "gateway settings"

    def __str__(self) -> str:
        """Name the one row."""
        return "Gateway settings"

    def save(self, **options: Any) -> None:
        """Keep it one row."""
        self.pk = 1
        super().save(**options)

    @classmethod
    def load(cls) -> "GatewaySettings":
        """Return the row, making it on first use."""
        return cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def purge_cache(cls) -> int:
        """Make every cached answer unreachable, in all workers within a second; return the epoch."""
        with transaction.atomic():
            row = cls.objects.select_for_update().get(pk=cls.load().pk)
            row.cache_epoch += 1
            row.save(update_fields=["cache_epoch"])
        return row.cache_epoch


def _check_regex(kind: str, pattern: str, *, field: str) -> None:
    if kind != "regex":
        return
    try:
        compile_regex(pattern)
    except BadPattern as problem:
        raise ValidationError({field: f"not a valid RE2 regex: {problem}"}) from None
