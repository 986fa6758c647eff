"""Forms of the API keys' screen: a key, and its rotation."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.views.decorators.debug import sensitive_variables
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from config.form_fields import LinesField, PairsField
from keys import secret as secrets
from keys.models import ApiKey

OVERLAP = timedelta(hours=24)


def _lines(placeholder: str, help_text: str) -> LinesField:
    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": placeholder})
    return LinesField(required=False, widget=widget, help_text=help_text)


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A key; a new one gets a secret, or takes the one it is given."""

    own_secret = forms.CharField(
        label="Own secret",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text=f"Only to keep a secret that clients have: {secrets.MIN_SECRET_LENGTH} characters or more. "
        "Empty: the gateway makes one and shows it once.",
    )
    allowed_models = _lines(
        "gpt-4o*\nanthropic/*",
        "One a line: a whole name, the beginning of names (gpt-4o*) or a provider (anthropic/*). "
        "Empty: every model.",
    )
    denied_models = _lines(
        "openai/gpt-5*", "One a line, of the same kind: never these, whatever is allowed. Empty: none."
    )
    allowed_networks = _lines(
        "10.0.0.0/8\n203.0.113.7",
        "One a line: the key is accepted from these addresses and networks alone. Behind a proxy, "
        "TRUSTED_PROXIES must name it. Empty: from everywhere.",
    )
    forced_route = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "gpt-4o-mini"}),
        help_text="A model name: whatever a request of this key asks for, it gets this one, by its route. "
        "Empty: what it asks for.",
    )
    tags = PairsField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "team=search\ncost_center=4711"}),
        help_text="One name=text a line: kept with everything that the key spends, to group it by.",
    )

    @sensitive_variables()
    def clean_own_secret(self) -> str:
        """Refuse a secret that is weak, mistyped or taken."""
        secret: str = self.cleaned_data["own_secret"]
        if not secret or self.instance.pk is not None:  # a stored key's is changed by its rotation alone
            return ""
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise forms.ValidationError("It has no spaces, line breaks or letters beyond ASCII.")
        try:
            self.instance.set_secret(secret)
        except ValueError as problem:
            raise forms.ValidationError(f"It {problem}") from None
        if self.instance.secret_is_taken():
            raise forms.ValidationError("This secret cannot be used.")
        return secret

    @sensitive_variables()
    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Give a new key its secret, which the page after saving shows."""
        if self.instance.pk is None:
            secret = self.cleaned_data.get("own_secret") or secrets.issue()
            self.instance.set_secret(secret)
            # Lives as long as this request: response_add renders it, nothing stores it.
            self.instance.issued_secret = secret
        return super().save(commit)


class RotateForm(forms.Form):
    """Until when the secret works that a key has now. Made anew for each request, so that its default is."""

    at_once = forms.BooleanField(
        label="End the old secret at once",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="For a secret that is in wrong hands. Who still sends it gets 401 within a second.",
    )
    until = forms.SplitDateTimeField(
        label="Old secret works until (UTC)",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="Till then both work, so that clients can be changed one by one. Proposed: in 24 hours.",
    )
    # Of the secret that the page was opened for: a page that is sent twice must rotate once.
    rotates = forms.CharField(widget=forms.HiddenInput())

    def __init__(self, key: ApiKey, posted: Any = None) -> None:
        """Propose the usual overlap."""
        proposed = (timezone.now() + OVERLAP).replace(second=0, microsecond=0)
        super().__init__(posted, initial={"until": proposed, "rotates": mark_of(key)})
        self._key = key
        if key.disabled_because:  # its secret is in wrong hands, and ends
            del self.fields["until"], self.fields["at_once"]

    def clean_until(self) -> Any:
        """Refuse what is over."""
        until = self.cleaned_data["until"]
        if until is not None and until <= timezone.now() and "at_once" not in self.data:
            raise forms.ValidationError("This is in the past.")
        return until

    def clean(self) -> dict[str, Any]:
        """Refuse a page for a secret that the key no longer has, and one that says nothing."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not constant_time_compare(cleaned.get("rotates", ""), mark_of(self._key)):
            raise forms.ValidationError(
                "The secret has been rotated since this page was opened. Open it again to rotate once more."
            )
        if "until" not in self.fields or cleaned.get("at_once") or cleaned.get("until"):
            return cleaned
        if "until" not in self.errors:
            self.add_error("until", "Say until when, or end the old secret at once.")
        return cleaned

    @property
    def ends_at(self) -> datetime | None:
        """Return until when the old secret works; None: no longer."""
        return None if self.cleaned_data.get("at_once") else self.cleaned_data.get("until")


def mark_of(key: ApiKey) -> str:
    """Return what names the secret that a key has now, and tells nothing of it."""
    return salted_hmac("keys.rotate", key.digest).hexdigest()[:24]
