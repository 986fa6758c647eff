"""Rows about callers: Tenant, ApiKey, what limits them, and what they have spent."""

from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from config.models import TrackedModel
from keys import secret as secrets
from keys.ledger_models import AlertDelivery, BudgetAlert, BudgetWindow, LedgerEntry, LedgerRetention
from keys.limit_models import Budget, RateLimit
from keys.member_models import Member
from keys.validators import (
    check_emails,
    check_networks,
    check_patterns,
    check_tags,
)

__all__ = [
    "AlertDelivery",
    "ApiKey",
    "Budget",
    "BudgetAlert",
    "BudgetWindow",
    "LedgerEntry",
    "LedgerRetention",
    "Member",
    "RateLimit",
    "Tenant",
]

MAX_PAYLOAD_DAYS = 365

# What `ApiKey.rotate` writes.
ROTATED = ("digest", "prefix", "previous_digest", "previous_prefix", "previous_until", "disabled_because")

# A tag of keys that their tenant's own people have disabled, or somebody who reported a leak: no other
# disabled key may be enabled by those people.
DISABLED_BY = "disabled_by"
LEAK = "report-leak"


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
        validators=[check_emails],
        help_text="Who is told by e-mail when a budget of this tenant, or of one of its keys, reaches one "
        "of its percentages. Empty: nobody.",
    )
    alert_webhook = models.TextField(
        blank=True, help_text="A URL that is told the same by POST; kept encrypted. Empty: none."
    )
    payload_days = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(MAX_PAYLOAD_DAYS)],
        help_text="For how many days what its keys ask, and what they are answered, is stored beside the "
        "request log, redacted. 0: nothing is stored. Default 0.",
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
        validators=[check_patterns],
        help_text='["gpt-4o*", "anthropic/*"]: exact names, prefixes, whole providers. Empty: every model.',
    )
    denied_models = models.JSONField(
        default=list,
        blank=True,
        validators=[check_patterns],
        help_text="Patterns of the same kind: never these, whatever is allowed. Empty: none.",
    )
    allowed_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[check_networks],
        help_text='["10.0.0.0/8", "203.0.113.7"]: the key is accepted from these addresses alone. Behind a '
        "proxy, TRUSTED_PROXIES must name it. Empty: from everywhere.",
    )
    tags = models.JSONField(
        default=dict,
        blank=True,
        validators=[check_tags],
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
    payload_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_PAYLOAD_DAYS)],
        help_text="As the tenant's field of this name, for this key alone; 0: nothing is stored. Empty: as "
        "its tenant says.",
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
        whatever `until` says: a key that was disabled because of it may be enabled from now on. Raises
        ValueError as `set_secret` does.
        """
        old_digest, old_prefix = self.digest, self.prefix
        secret = secret or secrets.issue()
        self.set_secret(secret)
        self.end_previous()
        if until is not None and old_digest != self.digest and not self.disabled_because:
            self.previous_digest, self.previous_prefix, self.previous_until = old_digest, old_prefix, until
        self.disabled_because = ""
        return secret

    def secret_is_taken(self) -> bool:
        """Has another key this secret, or had it before its last rotation?"""
        same = models.Q(digest=self.digest) | models.Q(previous_digest=self.digest)
        return ApiKey.objects.filter(same).exclude(pk=self.pk).exists()

    def end_previous(self) -> None:
        """Let the secret before the last rotation work no longer."""
        self.previous_digest, self.previous_prefix, self.previous_until = None, "", None

    def report_leak(self, reason: str) -> None:
        """Disable the key until its secret is rotated. Whoever might enable it before still may then."""
        if self.enabled:
            self.enabled, self.tags = False, {**self.tags, DISABLED_BY: LEAK}
        self.disabled_because = self.disabled_because or reason[:200]

    @property
    def own_people_may_enable(self) -> bool:
        """May its tenant's people enable it? Not what operators have disabled, and no leaked secret."""
        return not self.disabled_because and DISABLED_BY in self.tags

    @property
    def tags_of_operators(self) -> dict[str, str]:
        """Its tags, without the one that lets its tenant's people enable it again."""
        return {name: text for name, text in self.tags.items() if name != DISABLED_BY}

    def save(self, **options: Any) -> None:
        """Forget why a key was disabled, and by whom, when it is enabled again."""
        written = options.get("update_fields")
        if self.enabled and (written is None or {"enabled", "tags"} & set(written)):
            forgotten = {"disabled_because": "", "tags": self.tags_of_operators}
            changed = [name for name, value in forgotten.items() if getattr(self, name) != value]
            for name in changed:
                setattr(self, name, forgotten[name])
            if written is not None:
                options["update_fields"] = {*written, *changed}
        super().save(**options)

    def snapshot_ref(self) -> str:
        """One key = one Caller: patched alone."""
        return str(self.pk)
