"""What was asked and answered, where a tenant or key has chosen to have it stored."""

from django.db import models


class StoredPayload(models.Model):
    """One exchange's texts, redacted and cut to size. `expires_at` is when it is to be deleted."""

    completion_id = models.CharField(max_length=60)
    at = models.DateTimeField(help_text="When the request arrived (UTC).")
    expires_at = models.DateTimeField(db_index=True)
    tenant_ref = models.BigIntegerField(null=True)
    key_ref = models.BigIntegerField(null=True)
    request = models.TextField(blank=True, help_text="The request's body; kept encrypted.")
    answer = models.TextField(blank=True, help_text="The answer's body, or a stream's events; encrypted.")
    request_bytes = models.BigIntegerField(default=0, help_text="The size that it had.")
    answer_bytes = models.BigIntegerField(default=0, help_text="The size that it had.")
    redactions = models.PositiveIntegerField(default=0, help_text="How many places were blacked out.")

    class Meta:
        """Once per exchange."""

        constraints = (models.UniqueConstraint(fields=("completion_id",), name="storedpayload_once"),)

    def __str__(self) -> str:
        """Show the exchange."""
        return self.completion_id
