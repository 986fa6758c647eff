"""What happened: one RequestLog row per Completion, and the receipts that let spool segments go."""

from django.db import models


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
