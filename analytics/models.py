"""What happened: one RequestLog row per Completion, its sums, and the receipts that let segments go."""

from datetime import timedelta

from django.db import models

from analytics.payload_models import StoredPayload
from analytics.rollup_models import UsageRollup

__all__ = [
    "ReRating",
    "RequestLog",
    "SpoolReceipt",
    "StoredPayload",
    "UsageRollup",
    "VendorCost",
    "VendorImport",
]


class RequestLog(models.Model):
    """One finished exchange. Ids are plain numbers: deleting a key leaves its history."""

    class Outcome(models.TextChoices):
        """How it ended."""

        OK = "ok", "Answered"
        ERROR = "error", "Failed"
        CANCELLED = "cancelled", "Client left"
        INTERRUPTED = "interrupted", "Interrupted (process died)"

    completion_id = models.CharField(max_length=60)
    request_id = models.CharField(max_length=128, help_text="x-request-id; the client's own, if sent.")
    at = models.DateTimeField(help_text="When the request arrived (UTC).")
    endpoint = models.CharField(max_length=40)
    tenant_ref = models.BigIntegerField(null=True)
    key_ref = models.BigIntegerField(null=True)
    tags = models.JSONField(null=True, help_text="The key's, as they were then.")
    requested_model = models.CharField(max_length=200, blank=True)
    route = models.CharField(max_length=210, blank=True)
    provider = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=200, blank=True)
    status = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=12, choices=Outcome)
    error_code = models.CharField(max_length=60, blank=True)
    stream = models.BooleanField(default=False)
    cache = models.CharField(max_length=8, blank=True, help_text="hit, miss or bypass.")
    attempts = models.JSONField(default=list)
    prompt_tokens = models.BigIntegerField(null=True)
    completion_tokens = models.BigIntegerField(null=True)
    cached_tokens = models.BigIntegerField(null=True)
    cache_write_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    usage_estimated = models.BooleanField(default=False)
    cost_nanousd = models.BigIntegerField(null=True)
    latency_ms = models.FloatField(default=0)
    ttft_ms = models.FloatField(null=True)
    overhead_ms = models.FloatField(null=True)
    queue_ms = models.FloatField(null=True, help_text="Spent in line for busy providers. Empty: none.")
    saved_nanousd = models.BigIntegerField(
        null=True, help_text="Of a cache hit: what asking the vendor would have cost. Empty: unknown."
    )
    limits = models.JSONField(
        null=True, help_text="Limits and budgets that it was measured by, and the one that refused it."
    )

    class Meta:
        """Newest first; every screen pages by (at, id)."""

        ordering = ("-at", "-id")
        # Named here and not on the columns: on PostgreSQL `unique` and `db_index` of a text column
        # make a second index, for LIKE, that nothing uses.
        constraints = (models.UniqueConstraint(fields=("completion_id",), name="requestlog_once"),)
        indexes = (
            models.Index(fields=("-at", "-id"), name="requestlog_newest"),
            models.Index(fields=("tenant_ref", "-at"), name="requestlog_tenant"),
            models.Index(fields=("key_ref", "-at"), name="requestlog_key"),
            models.Index(fields=("request_id",), name="requestlog_request"),
        )

    def __str__(self) -> str:
        """Show id and status."""
        return f"{self.completion_id} {self.status}"


class SpoolReceipt(models.Model):
    """Proof that a spool segment's lines are in the database; written with them."""

    segment = models.CharField(max_length=120)
    lines = models.PositiveIntegerField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Once per segment."""

        constraints = (models.UniqueConstraint(fields=("segment",), name="spoolreceipt_once"),)

    def __str__(self) -> str:
        """Show the segment."""
        return f"{self.segment} ({self.lines} lines)"


class ReRating(models.Model):
    """A look at what a period would cost by the prices as they are now, and, once applied, its correction.

    Names and numbers of providers, tenants and keys are copies: the run tells what was done, whatever becomes
    of them.
    """

    class State(models.TextChoices):
        """How far it is."""

        PREVIEW = "preview", "Preview"
        APPLYING = "applying", "Being applied"
        APPLIED = "applied", "Applied"

    state = models.CharField(max_length=10, choices=State, default=State.PREVIEW)
    since = models.DateTimeField(help_text="From this moment on (UTC).")
    until = models.DateTimeField(help_text="Up to this moment (UTC), which is not part of it.")
    provider = models.CharField(max_length=60, blank=True, help_text="Empty: all.")
    model = models.CharField(
        max_length=200, blank=True, help_text='The vendor\'s name; "gpt-4o*" by prefix. Empty: all.'
    )
    tenant_ref = models.BigIntegerField(null=True, help_text="Empty: all.")
    tenant_name = models.CharField(max_length=60, blank=True)
    key_ref = models.BigIntegerField(null=True, help_text="Empty: all.")
    key_name = models.CharField(max_length=80, blank=True)
    made_by = models.CharField(max_length=150, blank=True)
    made_at = models.DateTimeField(auto_now_add=True)
    prices = models.CharField(max_length=64, help_text="A digest of the prices that it was made with.")
    ledger_through = models.BigIntegerField(
        help_text="The ledger's last row then; later ones are left alone."
    )
    rows = models.BigIntegerField(default=0, help_text="Attempts that it looked at.")
    changed = models.BigIntegerField(default=0, help_text="Of those: attempts that cost something else now.")
    newly_priced = models.BigIntegerField(
        default=0, help_text="Of those: attempts whose price was unknown and is known now."
    )
    unpriced = models.BigIntegerField(
        default=0, help_text="Attempts without a price even now: left as they are."
    )
    before_nanousd = models.BigIntegerField(default=0)
    difference_nanousd = models.BigIntegerField(default=0)
    sums = models.JSONField(default=dict, help_text="Differences by model, key, tenant and day.")
    applied_by = models.CharField(max_length=150, blank=True)
    applied_at = models.DateTimeField(null=True)
    applied_through = models.BigIntegerField(default=0, help_text="The last row that is done.")
    applied_rows = models.BigIntegerField(default=0)
    applied_nanousd = models.BigIntegerField(default=0)

    class Meta:
        """Newest first."""

        verbose_name = "re-rating"
        ordering = ("-pk",)

    def __str__(self) -> str:
        """Say what it is about."""
        parts = [self.provider, self.model, self.tenant_name, self.key_name]
        about = ", ".join(part for part in parts if part) or "everything"
        last = self.until - timedelta(microseconds=1)
        return f"{about} from {self.since:%Y-%m-%d} to {last:%Y-%m-%d}"


class VendorImport(models.Model):
    """A vendor's cost export that was read in."""

    provider = models.CharField(max_length=60)
    file_name = models.CharField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64, help_text="Of the file, hex.")
    layout = models.CharField(max_length=40, help_text="By which columns it was read.")
    first_day = models.DateField()
    last_day = models.DateField()
    lines = models.PositiveIntegerField()
    cost_nanousd = models.BigIntegerField()
    made_by = models.CharField(max_length=150, blank=True)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        """Say what it holds."""
        return f"{self.provider} from {self.first_day} to {self.last_day}"


class VendorCost(models.Model):
    """What a vendor says a model cost on a day (UTC), as last imported."""

    source = models.ForeignKey(VendorImport, on_delete=models.CASCADE, related_name="costs")
    provider = models.CharField(max_length=60)
    day = models.DateField()
    model = models.CharField(max_length=200, help_text="As the vendor names it.")
    cost_nanousd = models.BigIntegerField()
    input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)

    class Meta:
        """Once per provider, day and model."""

        ordering = ("provider", "-day", "model")
        constraints = (
            models.UniqueConstraint(fields=("provider", "day", "model"), name="vendorcost_once_per_day"),
        )

    def __str__(self) -> str:
        """Say what and when."""
        return f"{self.provider}/{self.model} on {self.day}"
