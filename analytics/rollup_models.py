"""Sums of what happened, by time and by who and what: all that dashboards read."""

from django.db import models

# Upper ends of the latency histogram's buckets, in milliseconds; a last bucket has what took longer.
# 1.5 times apart: a quantile read between two of them is off by less than a fifth.
EDGES_MS = (
    *(5, 8, 12, 18, 27, 40, 60, 90, 135, 200, 300, 450, 700, 1_000, 1_500, 2_300, 3_400, 5_000),
    *(7_500, 11_000, 17_000, 25_000, 40_000, 60_000, 120_000),
)
LATENCY_COLUMNS = (*(f"latency_{edge}" for edge in EDGES_MS), "latency_more")
TTFT_COLUMNS = (*(f"ttft_{edge}" for edge in EDGES_MS), "ttft_more")


class UsageRollup(models.Model):
    """What one caller's traffic at one model came to in a slot of time: exactly the log's and ledger's sums.

    Beside those, and made of them, are wide sums: of a tenant, whatever its keys, models and tags, and of a
    model, whoever called it. What is not told apart is 0 or empty there. Few rows, for long charts.

    A slot of an hour never crosses a border of a day, wherever the tenant is: where its time zone is off by a
    part of an hour, its slots are quarters. Slots of a day are days of UTC, for those who look far back.
    Numbers of attempts that were not the last (a failover's first) are in the row of their own upstream, with
    their cost alone. Money is the ledger's: by the moment of the request, corrections included.
    """

    class Grain(models.IntegerChoices):
        """How long a slot is, about, and of whom: a caller at a model; a tenant; a model."""

        HOUR = 60, "Hour"
        TENANT_HOUR = 61, "Hour of a tenant"
        MODEL_HOUR = 62, "Hour of a model"
        DAY = 1440, "Day (UTC)"
        TENANT_DAY = 1441, "Day (UTC) of a tenant"
        MODEL_DAY = 1442, "Day (UTC) of a model"

        @property
        def of_tenants(self) -> "UsageRollup.Grain":
            """The wide sums by tenant of HOUR or DAY."""
            return UsageRollup.Grain(self + 1)

        @property
        def of_models(self) -> "UsageRollup.Grain":
            """The wide sums by provider and model of HOUR or DAY."""
            return UsageRollup.Grain(self + 2)

    grain = models.PositiveSmallIntegerField(choices=Grain)
    starts_at = models.DateTimeField()
    tenant_ref = models.BigIntegerField(default=0, help_text="0: none.")
    key_ref = models.BigIntegerField(default=0, help_text="0: none.")
    provider = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=200, blank=True)
    tags = models.TextField(blank=True, help_text="The key's, as sorted JSON. Empty: none.")
    requests = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0, help_text="Failed or interrupted.")
    refused = models.BigIntegerField(default=0, help_text="Of the errors: answered with 4xx.")
    limited = models.BigIntegerField(default=0, help_text="Of those: 429.")
    cancelled = models.BigIntegerField(default=0, help_text="The client left.")
    streams = models.BigIntegerField(default=0)
    hits = models.BigIntegerField(default=0)
    misses = models.BigIntegerField(default=0)
    attempts = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    cost_nanousd = models.BigIntegerField(default=0)
    unbilled_nanousd = models.BigIntegerField(
        default=0, help_text="Of the cost: paid by the caller's own vendor key, or a shadow's: in no budget."
    )
    unpriced = models.BigIntegerField(default=0, help_text="Ledger rows whose price nobody knew.")
    saved_nanousd = models.BigIntegerField(default=0, help_text="What cache hits did not cost.")

    class Meta:
        """Once per slot, caller and model."""

        constraints = (
            models.UniqueConstraint(
                fields=("grain", "starts_at", "tenant_ref", "key_ref", "provider", "model", "tags"),
                name="usagerollup_once",
            ),
        )
        indexes = (
            models.Index(fields=("tenant_ref", "grain", "starts_at"), name="usagerollup_tenant"),
            models.Index(fields=("key_ref", "grain", "starts_at"), name="usagerollup_key"),
        )

    def __str__(self) -> str:
        """Show when, who and what."""
        return f"{self.starts_at:%Y-%m-%d %H:%M} {self.key_ref} {self.provider}/{self.model}"


# A histogram is a row of columns, so that the database adds it up.
for _column in (*LATENCY_COLUMNS, *TTFT_COLUMNS):
    UsageRollup.add_to_class(_column, models.PositiveIntegerField(default=0))
