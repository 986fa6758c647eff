"""Rows about callers: Tenant, ApiKey, what limits them, and what they have spent."""

import ipaddress
from collections.abc import Collection
from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_email
from django.db import models

from config.models import TrackedModel
from config.money import UsdField, usd
from config.words import dollars
from keys import secret as secrets
from keys.append_only import AppendOnlyModel

# A budget's sums are compared in numbers that are exact up to 2^53 nano-dollars, about nine million dollars.
MAX_BUDGET_NANOUSD = 9_000_000 * 10**9
MAX_COUNT = 10**12  # of requests or tokens
MAX_TAGS, MAX_TAG = 20, 100
STAR = 'a * stands at the end of a pattern alone: "gpt-4o*"'
# What `ApiKey.rotate` writes.
ROTATED = ("digest", "prefix", "previous_digest", "previous_prefix", "previous_until")


def _check_patterns(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValidationError('must be a list of model patterns, such as ["gpt-4o*", "anthropic/*"]')
    if any("*" in item[:-1] for item in value):
        raise ValidationError(STAR)


def _check_networks(value: Any) -> None:
    if not isinstance(value, list):
        raise ValidationError('must be a list of addresses and networks, such as ["10.0.0.0/8"]')
    for each in value:
        try:
            ipaddress.ip_network(each, strict=False) if isinstance(each, str) else _no_network()
        except ValueError:
            raise ValidationError(
                f"{each!r} is neither an address nor a network such as 10.0.0.0/8"
            ) from None


def _no_network() -> None:
    raise ValueError


def _check_tags(value: Any) -> None:
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and name and isinstance(text, str) for name, text in value.items()
    ):
        raise ValidationError('must be names and texts, such as {"team": "search"}')
    if len(value) > MAX_TAGS or any(len(part) > MAX_TAG for pair in value.items() for part in pair):
        raise ValidationError(f"at most {MAX_TAGS} tags, of {MAX_TAG} characters each")


def _check_percents(value: Any) -> None:
    if not isinstance(value, list) or not all(type(each) is int and 1 <= each <= 1000 for each in value):
        raise ValidationError("must be a list of whole percentages from 1 to 1000, such as [80, 100]")


def _check_emails(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValidationError('must be a list of addresses, such as ["ops@example.com"]')
    for each in value:
        try:
            validate_email(each)
        except ValidationError:  # its code would have a JSON field say that this is no JSON
            raise ValidationError(f"{each!r} is not an e-mail address") from None


def usual_percents() -> list[int]:
    """Return the percentages of a budget that are told of, unless it says others."""
    return [80, 100]


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
    alert_emails = models.JSONField(
        default=list,
        blank=True,
        validators=[_check_emails],
        help_text="Who is told by e-mail when a budget of this tenant, or of one of its keys, reaches one "
        "of its percentages. Empty: nobody.",
    )
    alert_webhook = models.TextField(
        blank=True, help_text="A URL that is told the same by POST; kept encrypted. Empty: none."
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
    denied_models = models.JSONField(
        default=list,
        blank=True,
        validators=[_check_patterns],
        help_text="Patterns of the same kind: never these, whatever is allowed. Empty: none.",
    )
    allowed_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[_check_networks],
        help_text='["10.0.0.0/8", "203.0.113.7"]: the key is accepted from these addresses alone. Behind a '
        "proxy, TRUSTED_PROXIES must name it. Empty: from everywhere.",
    )
    tags = models.JSONField(
        default=dict,
        blank=True,
        validators=[_check_tags],
        help_text='{"team": "search"}: kept with everything that the key spends, to group it by.',
    )
    max_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="The most tokens of an answer. It is what a request that names no limit gets; one that "
        "asks for more is refused. Empty: as much as the model gives.",
    )
    forced_route = models.CharField(
        max_length=200,
        blank=True,
        help_text="A model name: whatever a request of this key asks for, it gets this one, by its route. "
        "Empty: what it asks for.",
    )
    previous_digest = models.CharField(  # noqa: DJ001 - unique, but for those that have none
        max_length=64, unique=True, null=True, editable=False
    )
    previous_prefix = models.CharField(max_length=16, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, editable=False, help_text="Until when the secret before the last rotation works as well."
    )
    disabled_because = models.CharField(
        max_length=200, blank=True, editable=False, help_text="Why it was disabled, if not by hand."
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

    def rotate(self, *, until: datetime | None, secret: str = "") -> str:
        """Give the key another secret and return it; the one it has works until `until` (None: no longer).

        A secret from before the last rotation works no longer, nor does one that was reported as leaked,
        whatever `until` says. Raises ValueError as `set_secret` does.
        """
        old_digest, old_prefix = self.digest, self.prefix
        secret = secret or secrets.issue()
        self.set_secret(secret)
        self.end_previous()
        if until is not None and old_digest != self.digest and not self.disabled_because:
            self.previous_digest, self.previous_prefix, self.previous_until = old_digest, old_prefix, until
        return secret

    def secret_is_taken(self) -> bool:
        """Has another key this secret, or had it before its last rotation?"""
        same = models.Q(digest=self.digest) | models.Q(previous_digest=self.digest)
        return ApiKey.objects.filter(same).exclude(pk=self.pk).exists()

    def end_previous(self) -> None:
        """Let the secret before the last rotation work no longer."""
        self.previous_digest, self.previous_prefix, self.previous_until = None, "", None

    def save(self, **options: Any) -> None:
        """Forget why a key was disabled when it is enabled again."""
        written = options.get("update_fields")
        if self.enabled and self.disabled_because and (written is None or "enabled" in written):
            self.disabled_because = ""
            if written is not None:
                options["update_fields"] = {*written, "disabled_because"}
        super().save(**options)

    def snapshot_ref(self) -> str:
        """One key = one Caller: patched alone."""
        return str(self.pk)


class _Scope(TrackedModel):
    """Whom a limit or budget holds for: a key, a tenant, or (neither) everyone."""

    # A key's own are part of its Caller, and patched with it: see `snapshot_changes`.
    snapshot_part = "limits"
    _owners: frozenset[int | None] = frozenset()

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
        validators=[_check_percents],
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


class LedgerEntry(AppendOnlyModel):
    """What was spent: append-only, a row for each attempt that cost something, and for each correction of it.

    What an attempt has cost is the sum of its rows. Ids are plain numbers, not foreign keys: deleting a key
    never touches what it spent.
    """

    class Kind(models.TextChoices):
        """How the row came to be."""

        SPENT = "spent", "Spent"
        INTERRUPTED = "interrupted", "Interrupted (estimated)"
        SHADOW = "shadow", "Shadow (in no budget)"
        RETRACTED = "retracted", "Estimate taken back"
        ADJUSTED = "adjusted", "Adjusted (price corrected)"

    completion_id = models.CharField(max_length=60)
    attempt = models.PositiveSmallIntegerField(default=0)
    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.SPENT)
    revision = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="Counts the corrections of an attempt; 0: none."
    )
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
    cache_write_1h_tokens = models.BigIntegerField(default=0, db_default=0)
    audio_prompt_tokens = models.BigIntegerField(default=0, db_default=0)
    audio_cached_tokens = models.BigIntegerField(default=0, db_default=0)
    audio_completion_tokens = models.BigIntegerField(default=0, db_default=0)
    image_prompt_tokens = models.BigIntegerField(default=0, db_default=0)
    image_cached_tokens = models.BigIntegerField(default=0, db_default=0)
    image_completion_tokens = models.BigIntegerField(default=0, db_default=0)
    estimated = models.BooleanField(
        default=False, help_text="The vendor sent no usage; these are our counts."
    )
    price_ref = models.BigIntegerField(null=True, help_text="The price row used; empty: no price was known.")
    cost_nanousd = models.BigIntegerField(
        null=True, help_text="Empty: no price was known. Never 0 for unknown. Corrections may be negative."
    )
    tags = models.JSONField(null=True, help_text="The key's, as they were then.")
    own_credential = models.BooleanField(
        default=False, db_default=False, help_text="Paid by the caller's own vendor key: in no budget."
    )
    shadow = models.BooleanField(
        default=False, db_default=False, help_text="Of a mirrored request, which nobody sent: in no budget."
    )
    rerating_ref = models.BigIntegerField(null=True, help_text="The re-rating that wrote this row.")

    CORRECTIONS = (Kind.RETRACTED, Kind.ADJUSTED)

    class Meta:
        """Once per attempt and correction."""

        verbose_name_plural = "ledger entries"
        constraints = (
            models.UniqueConstraint(
                fields=("completion_id", "attempt", "kind", "revision"), name="ledger_once_per_attempt"
            ),
        )

    def __str__(self) -> str:
        """Show what and how much."""
        return f"{self.completion_id}: {dollars(self.cost_nanousd, unknown='unpriced')}"


class LedgerRetention(models.Model):
    """One row, or none: ledger entries from before `keeps_from` may be deleted (`manage.py purge_ledger`)."""

    keeps_from = models.DateTimeField()

    def __str__(self) -> str:
        """Show the moment."""
        return f"kept from {self.keeps_from:%Y-%m-%d} on"


class BudgetWindow(models.Model):
    """What one budget has spent in one window: a sum of the ledger, kept with it."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="windows")
    starts_at = models.DateTimeField()
    spent_nanousd = models.BigIntegerField(default=0)
    corrected_nanousd = models.BigIntegerField(
        default=0, db_default=0, help_text="The sum of corrections in this window, a part of what is spent."
    )
    # Whoever keeps live counters asks for what has changed since it asked last.
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta:
        """Once per window."""

        constraints = (models.UniqueConstraint(fields=("budget", "starts_at"), name="budgetwindow_once"),)

    def __str__(self) -> str:
        """Show the sum."""
        return f"{self.budget} since {self.starts_at:%Y-%m-%d}: ${usd(self.spent_nanousd)}"


class BudgetAlert(models.Model):
    """That a budget's window has reached a percentage, and whether somebody has been told. Once each."""

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="alerts")
    percent = models.PositiveSmallIntegerField()
    reached_at = models.DateTimeField(auto_now_add=True)
    spent_nanousd = models.BigIntegerField()
    limit_nanousd = models.BigIntegerField()
    sent_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        """Once per window and percentage."""

        ordering = ("-reached_at",)
        constraints = (models.UniqueConstraint(fields=("window", "percent"), name="budgetalert_once"),)

    def __str__(self) -> str:
        """Say what was reached."""
        return f"{self.percent} % of {self.window}"


class AlertDelivery(models.Model):
    """That one who is to be told of a BudgetAlert has been, or is still to be: `due_at` says when next.

    Neither sent nor due: it was given up. A webhook's URL is a secret, so only whose it is stands here.
    """

    class Kind(models.TextChoices):
        """How somebody is told."""

        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook"

    alert = models.ForeignKey(BudgetAlert, on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=10, choices=Kind)
    address = models.CharField(
        max_length=320, help_text="Of an e-mail; of a webhook, whether it is the tenant's or the operators'."
    )
    due_at = models.DateTimeField(null=True, db_index=True)
    sent_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        """Each is told once."""

        verbose_name_plural = "alert deliveries"
        constraints = (
            models.UniqueConstraint(fields=("alert", "kind", "address"), name="alertdelivery_once"),
        )

    def __str__(self) -> str:
        """Say who is told."""
        return f"{self.get_kind_display()}: {self.address}"
