"""The columns of a provider's row that make the demo fail on purpose: see `providers.faults`."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from providers.faults import OFF, Faults, faults_of

HOUR_MS = 3_600_000
MAX_PIECES = 1_000_000


class FaultColumns(models.Model):
    """Part of a provider's row. Nothing set: the demo answers as ever."""

    fault_percent = models.FloatField(
        "share that fails",
        default=100.0,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Percent of the requests that fail as said here, drawn at random. Default 100.",
    )
    fault_status = models.PositiveSmallIntegerField(
        "status",
        null=True,
        blank=True,
        validators=[MinValueValidator(400), MaxValueValidator(599)],
        help_text="HTTP status of the error answered, 400 to 599. Empty: no error.",
    )
    fault_retry_after_s = models.PositiveIntegerField(
        "Retry-After",
        null=True,
        blank=True,
        validators=[MaxValueValidator(86_400)],
        help_text="Seconds told in Retry-After, with status 429 and 503. Empty: the header is left out.",
    )
    fault_latency_ms = models.PositiveIntegerField(
        "latency",
        default=0,
        validators=[MaxValueValidator(HOUR_MS)],
        help_text="Milliseconds before the head of any answer. Default 0.",
    )
    fault_ttft_ms = models.PositiveIntegerField(
        "time to first content",
        default=0,
        validators=[MaxValueValidator(HOUR_MS)],
        help_text="Milliseconds of a stream between its head and its first content. Default 0.",
    )
    fault_cut_after = models.PositiveIntegerField(
        "cut after",
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_PIECES)],
        help_text="Pieces of content after which the connection is lost; a JSON answer breaks off in its "
        "middle. Empty: never.",
    )
    fault_stall_after = models.PositiveIntegerField(
        "stall after",
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_PIECES)],
        help_text="Pieces of content after which nothing more comes, until a timeout fires or the client "
        "leaves. Empty: never.",
    )

    class Meta:
        """No table of its own."""

        abstract = True

    @property
    def faults(self) -> Faults:
        """Return them as values."""
        return faults_of(vars(self))

    def given_faults(self) -> list[str]:
        """Return the columns that say something else than "off"."""
        return [name for name, off in OFF.items() if getattr(self, name) != off]

    def check_faults(self, *, demo: bool) -> None:
        """Raise ValidationError for faults at a real vendor, and for two ends of one answer."""
        given = [] if demo else self.given_faults()
        if given:
            problem = ValidationError("is for the demo provider alone (base URL demo://)", code="demo")
            raise ValidationError(dict.fromkeys(given, problem))
        if self.fault_cut_after is not None and self.fault_stall_after is not None:
            raise ValidationError(
                {"fault_stall_after": ValidationError("cannot be given together with cut after", code="both")}
            )

    def clear_faults(self) -> list[str]:
        """Switch them all off and return the columns that changed; the row is not saved."""
        given = self.given_faults()
        for name in given:
            setattr(self, name, OFF[name])
        return given
