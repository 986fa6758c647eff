"""The form of a tenant, with its webhook as a field that is written and never read."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.views.decorators.debug import sensitive_variables
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from config.form_fields import LinesField
from config.vault import Vault, reference

_IS_URL = URLValidator(schemes=["http", "https"])


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A team."""

    alert_emails = LinesField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "ops@example.com"}),
        help_text="One address a line. Empty: nobody is told by e-mail.",
    )
    new_webhook = forms.CharField(
        label="New webhook",
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="A URL that is told the same by POST, stored encrypted; or a reference such as "
        "${ALERT_URL}, read from the environment. Empty: unchanged.",
    )
    clear_webhook = forms.BooleanField(
        label="Forget the stored webhook",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Nobody is told by POST then.",
    )

    @sensitive_variables()
    def clean_new_webhook(self) -> str:
        """Refuse what is no URL, without repeating it."""
        url: str = self.cleaned_data["new_webhook"].strip()
        if url and not reference(url):
            try:
                _IS_URL(url)
            except ValidationError:
                raise ValidationError("It must be a URL that begins with http:// or https://.") from None
        return url

    def clean(self) -> dict[str, Any]:
        """Refuse contradictions."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("new_webhook") and cleaned.get("clear_webhook"):
            self.add_error("clear_webhook", "Either write a new webhook or forget the stored one.")
        return cleaned

    @property
    def also_changed(self) -> Sequence[str]:
        """Columns that the form's own fields write."""
        return ("alert_webhook",) if {"new_webhook", "clear_webhook"} & set(self.changed_data) else ()

    @sensitive_variables()
    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Seal the new webhook."""
        if self.cleaned_data.get("clear_webhook"):
            self.instance.alert_webhook = ""
        elif self.cleaned_data.get("new_webhook"):
            self.instance.alert_webhook = Vault(settings.SECRET_KEYS).seal(self.cleaned_data["new_webhook"])
        return super().save(commit)
