"""What this installation has done once, who may call its management API, and the audit log's seals."""

from django.conf import settings
from django.db import models

from keys.append_only import AppendOnlyModel


class BootstrapStep(models.Model):
    """A step of the first start. It is never done again, so what it made stays deleted when deleted."""

    name = models.CharField(max_length=80, primary_key=True)
    done_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        """Show the step."""
        return self.name


class ApiToken(models.Model):
    """Lets a program use the management API in a person's name: with that person's permissions, at most."""

    name = models.CharField(max_length=80, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256, hex.")
    prefix = models.CharField(max_length=16, editable=False, help_text="The secret's first characters.")
    scopes = models.JSONField(
        default=list,
        blank=True,
        help_text='["config:read", "config:write", "keys:write", "usage:read"]; empty: nothing.',
    )
    enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        """By name."""

        verbose_name = "API token"
        ordering = ("name",)

    def __str__(self) -> str:
        """Show the name."""
        return self.name


class AuditSeal(AppendOnlyModel):
    """Chains an audit log entry to the one before: nobody changes or removes one without being noticed.

    `digest` is SHA-256 over the entry's content and the previous seal's digest.
    """

    entry_ref = models.BigIntegerField(unique=True)
    digest = models.CharField(max_length=64)
    previous = models.CharField(max_length=64, unique=True, help_text="The digest of the seal before.")
    sealed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """In the order of the chain."""

        ordering = ("pk",)

    def __str__(self) -> str:
        """Show the entry."""
        return f"seal of audit entry {self.entry_ref}"
