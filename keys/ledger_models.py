"""Rows about what was spent: the ledger, its sums by budget and window, and who was told of them."""

from django.db import models

from config.money import usd
from config.words import dollars
from keys.append_only import AppendOnlyModel


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

    budget = models.ForeignKey("keys.Budget", on_delete=models.CASCADE, related_name="windows")
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
