"""Rows of the data plane: Route and Target, CacheExclusion, GatewaySettings; states of others beside them."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction

from config.models import TrackedModel
from config.money import UsdField
from providers.models import Provider
from proxy.patterns import BadPattern, compile_regex
from proxy.upstream_state import UpstreamState
from proxy.worker_state import WorkerState

__all__ = ("CacheExclusion", "GatewaySettings", "Route", "Target", "UpstreamState", "WorkerState")

DEFAULT_STICKY_HEADER = "x-session-id"


def _own_timeout(name: str, what: str) -> "models.FloatField[Any, Any]":
    return models.FloatField(
        name,
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text=f"Seconds {what}. Empty: the provider's.",
    )


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

    class Sticky(models.TextChoices):
        """By what requests are kept together."""

        NONE = "", "Nothing"
        USER = "user", "The request's user"
        HEADER = "header", "A header"

    strategy = models.CharField(
        max_length=20,
        choices=Strategy,
        default=Strategy.ORDERED,
        help_text="Which target is tried first; the others follow when it fails. Ordered: always in their "
        "order. Weighted: by their weights. Least latency: the one that begins to answer soonest. Least "
        "busy: the one with the fewest calls. Default ordered.",
    )
    sticky = models.CharField(
        "kept together by",
        max_length=10,
        choices=Sticky,
        default=Sticky.NONE,
        blank=True,
        help_text="Requests with the same value go to the same target first, where the vendor's prompt cache "
        "knows them. The user: prompt_cache_key, safety_identifier or user; Anthropic: metadata.user_id. "
        "Default nothing.",
    )
    sticky_header = models.CharField(
        max_length=60,
        default=DEFAULT_STICKY_HEADER,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", "must be the name of a header")],
        help_text=f"The header, where it is a header. Empty: {DEFAULT_STICKY_HEADER}.",
    )
    connect_timeout_s = _own_timeout("connect timeout", "to open a connection")
    first_content_timeout_s = _own_timeout("first content timeout", "until a stream's first content")
    idle_timeout_s = _own_timeout("idle timeout", "between two pieces of a stream")
    total_timeout_s = _own_timeout("total timeout", "for a whole answer, all attempts included")
    hedge = models.BooleanField(
        "ask a second target when the first is slow",
        default=False,
        help_text="After the model's usual time to the first content (its 95th percentile) the next target "
        "is asked too; the first content wins. Both calls cost. Default no.",
    )
    continue_streams = models.BooleanField(
        "continue broken streams",
        default=False,
        help_text="A stream that breaks off is continued by the next target from the text so far, marked in "
        "the answer, and each part is paid. Default no: it ends with an error.",
    )
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
        """Refuse a regex that RE2 cannot compile, with its error, and a header that means another thing."""
        _check_regex(self.kind, self.match, field="match")
        self.sticky_header = self.sticky_header or DEFAULT_STICKY_HEADER
        if self.sticky == self.Sticky.HEADER and self.sticky_header.lower() == self.Sticky.USER:
            raise ValidationError(
                {"sticky_header": "must not be called user, which means the request's user"}
            )


class Target(TrackedModel):
    """One upstream of a route."""

    snapshot_part = "routes"

    class Role(models.TextChoices):
        """When it is asked."""

        NORMAL = "normal", "Normal"
        CANARY = "canary", "Canary"
        ON_CONTEXT_OVERFLOW = "on_context_overflow", "On context overflow"
        ON_CONTENT_FILTER = "on_content_filter", "On content filter"
        SHADOW = "shadow", "Shadow"

    # Those that a request goes to in the first place; without one of them a route goes nowhere.
    ASKED_ROLES = (Role.NORMAL, Role.CANARY)

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="targets")
    model = models.CharField(
        max_length=200, blank=True, help_text="The vendor's model. Empty: the name the client asked for."
    )
    role = models.CharField(
        max_length=20,
        choices=Role,
        default=Role.NORMAL,
        help_text="Canary: gets its percentage of the requests first, and is the last to be tried with the "
        "rest. On context overflow, on content filter: asked when the others fail so. Shadow: gets a copy of "
        "its percentage of the requests, and nobody gets its answers. Default normal.",
    )
    weight = models.PositiveIntegerField(
        default=1, help_text="Share under the weighted strategy. 0: never first. Default 1."
    )
    percent = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Percentage of requests, of a canary (above 0) or a shadow (empty: 100; 0: none).",
    )
    shadow_budget_nanousd_per_day = UsdField(
        "shadow budget",
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="US dollars a day (UTC) that a shadow may cost; each worker has an equal share. Empty: no "
        "cap. 0: nothing.",
    )
    context_window = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Tokens that the model takes: it is passed over for a longer prompt. Empty: as its price "
        "says.",
    )
    position = models.PositiveIntegerField(default=0, help_text="Order of tries; smallest first. Default 0.")

    class Meta:
        """In the order of tries."""

        ordering = ("position", "id")

    def __str__(self) -> str:
        """Show provider and model."""
        return f"{self.provider}/{self.model or '(as asked)'}"

    def clean(self) -> None:
        """Hold the percentage and the budget against the role."""
        if self.role == self.Role.CANARY and not self.percent:
            raise ValidationError({"percent": "a canary needs a percentage of requests above 0"})
        if self.percent is not None and self.role not in {self.Role.CANARY, self.Role.SHADOW}:
            raise ValidationError({"percent": "only a canary or a shadow has one"})
        if self.shadow_budget_nanousd_per_day is not None and self.role != self.Role.SHADOW:
            raise ValidationError({"shadow_budget_nanousd_per_day": "only a shadow has one"})


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
