"""Rows about what limits callers: RateLimit and Budget, of a key, of a tenant or of everyone."""

from collections.abc import Collection
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from config.models import TrackedModel
from config.money import UsdField, usd
from keys.validators import STAR, check_percents, usual_percents

# A budget's sums are compared in numbers that are exact up to 2^53 nano-dollars, about nine million dollars.
MAX_BUDGET_NANOUSD = 9_000_000 * 10**9
MAX_COUNT = 10**12  # of requests or tokens


class _Scope(TrackedModel):
    """Whom a limit or budget holds for: a key, a tenant, or (neither) everyone."""

    # A key's own are part of its Caller, and patched with it: see `snapshot_changes`.
    snapshot_part = "limits"
    _owners: frozenset[int | None] = frozenset()

    tenant = models.ForeignKey(
        "keys.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="%(class)ss"
    )
    key = models.ForeignKey(
        "keys.ApiKey", null=True, blank=True, on_delete=models.CASCADE, related_name="%(class)ss"
    )
    model = models.CharField(
        max_length=200, blank=True, help_text='Only for these models: "gpt-4o*", "anthropic/*". Empty: all.'
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        """No table of its own."""

        abstract = True

    def clean(self) -> None:
        """One owner at most; a star that would match nothing is refused."""
        if "*" in self.model[:-1]:
            raise ValidationError({"model": STAR})
        if self.tenant_id and self.key_id:
            raise ValidationError("Choose a key or a tenant, not both.")

    @classmethod
    def from_db(cls, db: Any, field_names: Collection[str], values: Collection[Any], **options: Any) -> Self:
        """Remember whose it is, so that a change of hands is told to both."""
        row = super().from_db(db, field_names, values, **options)
        row._owners = frozenset({row.key_id if "key_id" in field_names else None})  # noqa: SLF001 - its own
        return row

    def snapshot_changes(self) -> Collection[tuple[str, str]]:
        """A key's own limit changes its Caller, another one those of everyone or of tenants."""
        self._owners |= {self.key_id}
        return {("limits", "") if owner is None else ("keys", str(owner)) for owner in self._owners}

    @classmethod
    def snapshot_parts(cls) -> Collection[str]:
        """Both."""
        return ("limits", "keys")

    @property
    def scope(self) -> str:
        """Say in words whom it holds for."""
        owner = (
            f"key {self.key}" if self.key_id else f"tenant {self.tenant}" if self.tenant_id else "everyone"
        )
        return f"{owner}, {self.model}" if self.model else owner


class RateLimit(_Scope):
    """How many requests or tokens per window, or how many at once."""

    class Kind(models.TextChoices):
        """What is counted."""

        REQUESTS = "requests", "Requests"
        TOKENS = "tokens", "Tokens"
        CONCURRENT = "concurrent", "Requests at once"

    class Per(models.TextChoices):
        """The window; none for requests at once."""

        SECOND = "second", "Second"
        MINUTE = "minute", "Minute"
        HOUR = "hour", "Hour"
        DAY = "day", "Day"

    class Each(models.TextChoices):
        """Who of those it holds for has a count of their own."""

        TOGETHER = "", "All together"
        TENANT = "tenant", "Each tenant"
        KEY = "key", "Each key"
        MODEL = "model", "Each model"
        IP = "ip", "Each client address"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.REQUESTS)
    amount = models.PositiveBigIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(MAX_COUNT)],
        help_text="The most that is let through in the window.",
    )
    per = models.CharField(
        max_length=10, choices=Per, blank=True, help_text="The window. Empty for requests at once."
    )
    each = models.CharField(
        max_length=10,
        choices=Each,
        blank=True,
        default=Each.TOGETHER,
        help_text="Whether everyone it holds for shares the amount, or each tenant, key, model (as asked "
        "for) or client address has it for itself.",
    )

    class Meta:
        """A window except for concurrency."""

        constraints = (
            models.CheckConstraint(
                condition=models.Q(kind="concurrent", per="")
                | (~models.Q(kind="concurrent") & ~models.Q(per="")),
                name="ratelimit_window_unless_concurrent",
                violation_error_message="Requests at once take no window; requests and tokens need one.",
            ),
            models.CheckConstraint(
                condition=models.Q(tenant__isnull=True) | models.Q(key__isnull=True),
                name="ratelimit_one_owner",
            ),
        )

    def __str__(self) -> str:
        """Say the limit in words."""
        window = f" per {self.per}" if self.per else " at once"
        return f"{self.amount:,} {'requests' if self.kind == 'concurrent' else self.kind}{window}"


class Budget(_Scope):
    """A spend ceiling with a window."""

    class Window(models.TextChoices):
        """Calendar windows in the tenant's time zone. Weeks begin on Monday."""

        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Month"
        TOTAL = "total", "Total"

    class Mode(models.TextChoices):
        """What happens near the ceiling."""

        STRICT = "strict", "Strict: never overspent"
        SOFT = "soft", "Soft: judged by expected cost"

    amount_nanousd = UsdField(
        "amount",
        validators=[MinValueValidator(0), MaxValueValidator(MAX_BUDGET_NANOUSD)],
        help_text="US dollars per window, at most nine million.",
    )
    window = models.CharField(max_length=10, choices=Window, default=Window.MONTH)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.STRICT)
    raised_nanousd = UsdField(
        "raised to",
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(MAX_BUDGET_NANOUSD)],
        help_text="US dollars that hold instead of the amount until the date beside it. Empty: no raise.",
    )
    raised_until = models.DateTimeField(
        null=True, blank=True, help_text="From then on the amount holds again."
    )
    alert_percents = models.JSONField(
        default=usual_percents,
        blank=True,
        validators=[check_percents],
        help_text="[80, 100]: whoever is to be told of this tenant's budgets is told once in each window "
        "when so much of it is spent. Empty: nobody is.",
    )
    refuse_unpriced = models.BooleanField(
        "refuse models without a price",
        default=False,
        help_text="What a model without a known price costs is unknown, and in no budget. On: such requests "
        "are refused.",
    )

    class Meta:
        """One owner at most."""

        constraints = (
            models.CheckConstraint(
                condition=models.Q(tenant__isnull=True) | models.Q(key__isnull=True), name="budget_one_owner"
            ),
        )

    def __str__(self) -> str:
        """Say the budget in words."""
        return (
            f"${usd(self.amount_nanousd)} per {self.window}"
            if self.window != "total"
            else (f"${usd(self.amount_nanousd)} in total")
        )
