"""Forms of a tenant's keys: a new one, its terms, its rotation."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from analytics.dashboard.access import Seat
from analytics.dashboard.reach import Reach
from config.form_fields import LinesField
from keys.admin_key_forms import mark_of
from keys.calendar import zone_of
from keys.models import ApiKey
from keys.validators import check_patterns

OVERLAPS: Sequence[tuple[str, str]] = (
    ("24", "for 24 hours more"),
    ("1", "for an hour more"),
    ("168", "for 7 days more"),
    ("0", "no longer: it is in wrong hands"),
)
_PATTERNS = "One a line: a whole name, the beginning of names (gpt-4o*) or a provider (anthropic/*)."


def _lines(label: str, help_text: str, placeholder: str) -> LinesField:
    widget = forms.Textarea(attrs={"rows": 3, "placeholder": placeholder, "spellcheck": "false"})
    return LinesField(label=label, required=False, help_text=help_text, widget=widget)


class ClockField(forms.CharField):
    """A day and time as some clock on a wall shows it: whose, the form knows."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"})
    shape = "%Y-%m-%dT%H:%M"

    def to_python(self, value: Any) -> Any:
        """Return a moment without a zone, or None. Raises ValidationError."""
        try:
            return datetime.fromisoformat(value).replace(tzinfo=None) if value else None
        except ValueError:
            raise ValidationError("Write a day and a time: 2027-01-31T12:00.") from None

    def run_validators(self, value: Any) -> None:
        """It is no text any more."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare what is shown: a second that a key ends in is not."""
        return bool((initial or "") != (data or "")[: len("2027-01-31T12:00")])


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """What a tenant's people may say of a key. Limits, networks and tags are the operators' to say."""

    expires = ClockField(label="Expires", required=False)
    allowed_models = _lines("Models it may use", f"{_PATTERNS} Empty: all that the tenant may.", "gpt-4o*")
    denied_models = _lines("Models it may never use", f"{_PATTERNS} Empty: none.", "openai/gpt-5*")

    class Meta:
        """The columns."""

        model = ApiKey
        fields = ("name", "allowed_models", "denied_models")

    def __init__(self, seat: Seat, key: ApiKey | None = None, posted: Any = None) -> None:
        """Show moments as the tenant's clocks do."""
        self._seat, self.reach = seat, Reach.of(seat.tenant)
        zone = zone_of(seat.tenant.timezone)
        initial = {}
        if key is not None and key.expires_at:
            initial["expires"] = f"{key.expires_at.astimezone(zone):{ClockField.shape}}"
        super().__init__(posted, instance=key, initial=initial)
        self.fields["expires"].help_text = f"Refused from this moment on ({zone.key}). Empty: never."
        self.fields["name"].help_text = "What it is for. No other key of the gateway has this name."
        self.fields["name"].widget.attrs["placeholder"] = f"{seat.tenant.name}-web"
        if self.reach.allowed:
            self.fields[
                "allowed_models"
            ].help_text += f" The tenant may use: {', '.join(self.reach.allowed)}."

    def clean_name(self) -> str:
        """Refuse a name that a person could not tell from none."""
        name: str = self.cleaned_data["name"].strip()
        if not name.isprintable():
            raise ValidationError("It has letters that cannot be shown.")
        return name

    def clean_expires(self) -> datetime | None:
        """Return the moment (UTC). Refuse what is over, but not what a key had before."""
        typed: datetime | None = self.cleaned_data["expires"]
        if typed is None:
            return None
        moment = typed.replace(tzinfo=zone_of(self._seat.tenant.timezone))
        known: datetime | None = self.instance.expires_at
        if known is not None and "expires" not in self.changed_data:
            return known
        if moment <= timezone.now():
            raise ValidationError("This is in the past.")
        return moment

    def clean_allowed_models(self) -> list[str]:
        """Refuse what is no pattern, and what would let the key use more than the tenant may."""
        patterns: list[str] = self.cleaned_data["allowed_models"]
        check_patterns(patterns)
        if self._is_unchanged("allowed_models", patterns):  # an operator's own choice stays
            return patterns
        beyond = self.reach.beyond(patterns)
        if beyond:
            raise ValidationError(f"Not among what the tenant may use: {', '.join(beyond)}.")
        return self.reach.allowed_for(patterns)

    def clean_denied_models(self) -> list[str]:
        """Refuse what is no pattern; add what the tenant may never use."""
        patterns: list[str] = self.cleaned_data["denied_models"]
        check_patterns(patterns)
        return patterns if self._is_unchanged("denied_models", patterns) else self.reach.denied_for(patterns)

    def _is_unchanged(self, column: str, patterns: list[str]) -> bool:
        return self.instance.pk is not None and patterns == getattr(self.instance, column)

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Take the moment over."""
        self.instance.expires_at = self.cleaned_data["expires"]
        return super().save(commit)


class RotateForm(forms.Form):
    """How long the secret that a key has now works as well."""

    overlap = forms.ChoiceField(
        label="The secret it has now works",
        choices=OVERLAPS,
        help_text="While both work, clients can be changed one by one.",
    )
    # Of the secret that the page was opened for: a page that is sent twice must rotate once.
    rotates = forms.CharField(widget=forms.HiddenInput())

    def __init__(self, key: ApiKey, posted: Any = None) -> None:
        """Take note of the secret."""
        super().__init__(posted, initial={"rotates": mark_of(key)})
        self._key = key
        if key.disabled_because:  # its secret is in wrong hands, and ends
            del self.fields["overlap"]

    def clean_rotates(self) -> str:
        """Refuse a page for a secret that the key no longer has."""
        mark: str = self.cleaned_data["rotates"]
        if not constant_time_compare(mark, mark_of(self._key)):
            raise ValidationError("The secret has been rotated since this page was opened. Open it again.")
        return mark

    @property
    def ends_at(self) -> datetime | None:
        """Return until when the old secret works; None: no longer."""
        hours = int(self.cleaned_data.get("overlap") or 0)
        return timezone.now() + timedelta(hours=hours) if hours else None
