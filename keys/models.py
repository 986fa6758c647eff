"""Rows about callers: Tenant, ApiKey, what limits them, and what they have spent."""

from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from config.models import TrackedModel
from config.money import UsdField, usd
from keys import secret as secrets


def _check_patterns(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValidationError('must be a list of model patterns, such as ["gpt-4o*", "anthropic/*"]')


class Tenant(TrackedModel):
    """A team that owns keys and whose members see its usage."""

    snapshot_part = "tenants"

    name = models.CharField(max_length=60, unique=True, help_text="Short and stable; shown on dashboards.")
    timezone = models.CharField(
        max_length=40,
        default="UTC",
        help_text='Where its days and months begin: "Europe/Berlin". Default UTC.',
    )
    queue_weight = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Its share when calls wait in line for a busy provider: 3 is served three times as often "
        "as 1. From 1 to 1000, default 1.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """By name."""

        ordering = ("name",)

    def __str__(self) -> str:
        """Show the name."""
        return self.name

    def clean(self) -> None:
        """Refuse an unknown time zone."""
        import zoneinfo  # noqa: PLC0415 - only admin forms come here

        if self.timezone not in zoneinfo.available_timezones():
            raise ValidationError({"timezone": f"{self.timezone!r} is not a known time zone"})


class ApiKey(TrackedModel):
    """A tenant's credential. Only its digest is stored; the secret is shown once."""

    snapshot_part = "keys"
    snapshot_ignores = frozenset({"last_used_at"})

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=80, unique=True, help_text='What it is for: "acme-ci".')
    digest = models.CharField(
        max_length=64, unique=True, editable=False, help_text="SHA-256 of the secret, hex."
    )
    prefix = models.CharField(max_length=16, editable=False, help_text="The secret's first characters.")
    enabled = models.BooleanField(
        default=True, help_text="A disabled key is refused with 401 within a second."
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="Refused from this moment on. Empty: never."
    )
    allowed_models = models.JSONField(
        default=list,
        blank=True,
        validators=[_check_patterns],
        help_text='["gpt-4o*", "anthropic/*"]: exact names, prefixes, whole providers. Empty: every model.',
    )
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        """By name."""

        verbose_name = "API key"
        ordering = ("name",)

    def __str__(self) -> str:
        """Show the name."""
        return self.name

    @classmethod
    def issue(cls, *, tenant: Tenant, name: str, secret: str = "", **fields: Any) -> tuple[Self, str]:
        """Return a new unsaved key and its secret, which is nowhere else. An own secret may be given."""
        key = cls(tenant=tenant, name=name, **fields)
        secret = secret or secrets.issue()
        key.set_secret(secret)
        return key, secret

    def set_secret(self, secret: str) -> None:
        """Store the secret's digest. Raises ValueError for one that is short or mistyped."""
        if len(secret) < secrets.MIN_SECRET_LENGTH:
            raise ValueError(f"must have at least {secrets.MIN_SECRET_LENGTH} characters")
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise ValueError("must be ASCII without blanks: it travels in a header")
        if not secrets.well_formed(secret):
            raise ValueError("its checksum does not hold: mistyped?")
        self.digest = secrets.digest(secret).hex()
        self.prefix = secrets.display_prefix(secret)

    def snapshot_ref(self) -> str:
        """One key = one Caller: patched alone."""
        return str(self.pk)


class _Scope(TrackedModel):
    """Whom a limit or budget holds for: a key, a tenant, or (neither) everyone."""

    snapshot_part = "limits"

    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, related_name="%(class)ss"
    )
    key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="%(class)ss"
    )
    model = models.CharField(
        max_length=200, blank=True, help_text='Only for these models: "gpt-4o*", "anthropic/*". Empty: all.'
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        """No table of its own."""

        abstract = True

    def clean(self) -> None:
        """One owner at most."""
        if self.tenant_id and self.key_id:
            raise ValidationError("Choose a key or a tenant, not both.")

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

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.REQUESTS)
    amount = models.PositiveBigIntegerField(
        validators=[MinValueValidator(1)], help_text="The most that is let through in the window."
    )
    per = models.CharField(
        max_length=10, choices=Per, blank=True, help_text="The window. Empty for requests at once."
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
        """Calendar windows in the tenant's time zone."""

        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Month"
        TOTAL = "total", "Total"

    class Mode(models.TextChoices):
        """What happens near the ceiling."""

        STRICT = "strict", "Strict: never overspent"
        SOFT = "soft", "Soft: judged by expected cost"

    amount_nanousd = UsdField("amount", validators=[MinValueValidator(0)], help_text="US dollars per window.")
    window = models.CharField(max_length=10, choices=Window, default=Window.MONTH)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.STRICT)

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


class LedgerEntry(models.Model):
    """What was spent: append-only, one row per attempt that cost something.

    Ids are plain numbers, not foreign keys: deleting a key never touches what it spent.
    """

    class Kind(models.TextChoices):
        """How the row came to be."""

        SPENT = "spent", "Spent"
        INTERRUPTED = "interrupted", "Interrupted (estimated)"
        SHADOW = "shadow", "Shadow (in no budget)"

    completion_id = models.CharField(max_length=60)
    attempt = models.PositiveSmallIntegerField(default=0)
    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.SPENT)
    tenant_ref = models.BigIntegerField(null=True, db_index=True)
    key_ref = models.BigIntegerField(null=True, db_index=True)
    provider = models.CharField(max_length=60)
    model = models.CharField(max_length=200)
    requested_model = models.CharField(max_length=200, blank=True, help_text="As the client asked for it.")
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    estimated = models.BooleanField(
        default=False, help_text="The vendor sent no usage; these are our counts."
    )
    price_ref = models.BigIntegerField(null=True, help_text="The price row used; empty: no price was known.")
    cost_nanousd = models.BigIntegerField(
        null=True, help_text="Empty: no price was known. Never 0 for unknown."
    )

    class Meta:
        """Once per attempt."""

        verbose_name_plural = "ledger entries"
        constraints = (
            models.UniqueConstraint(
                fields=("completion_id", "attempt", "kind"), name="ledger_once_per_attempt"
            ),
        )

    def __str__(self) -> str:
        """Show what and how much."""
        cost = "unpriced" if self.cost_nanousd is None else f"${usd(self.cost_nanousd)}"
        return f"{self.completion_id}: {cost}"


class BudgetWindow(models.Model):
    """What one budget has spent in one window: a sum of the ledger, kept with it."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="windows")
    starts_at = models.DateTimeField()
    spent_nanousd = models.BigIntegerField(default=0)

    class Meta:
        """Once per window."""

        constraints = (models.UniqueConstraint(fields=("budget", "starts_at"), name="budgetwindow_once"),)

    def __str__(self) -> str:
        """Show the sum."""
        return f"{self.budget} since {self.starts_at:%Y-%m-%d}: ${usd(self.spent_nanousd)}"
