"""Forms of the provider screens."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from config.form_fields import HeadersField, ObjectField
from providers import tier_text
from providers.models import Credential, Price, Provider
from providers.pricing import RATE_COLUMNS

_MOVED = "The key was stored for another host: write it again."


def _key_field(help_text: str) -> forms.CharField:
    return forms.CharField(
        label="Key",
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text=help_text,
    )


class _KeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A row with a vendor's key, as a field that is written and never read."""

    @sensitive_variables()
    def clean_new_credential(self) -> str:
        """Refuse what cannot be sent in a header: usually a slip of the clipboard."""
        secret: str = self.cleaned_data["new_credential"]
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise forms.ValidationError("A key has no spaces, line breaks or letters beyond ASCII.")
        return secret

    @property
    def also_changed(self) -> Sequence[str]:
        """Columns that the form's own fields write."""
        return ("credential",) if {"new_credential", "clear_credential"} & set(self.changed_data) else ()

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Seal the new key."""
        if self.cleaned_data.get("clear_credential"):
            self.instance.set_credential("")
        elif self.cleaned_data.get("new_credential"):
            self.instance.set_credential(self.cleaned_data["new_credential"])
        return super().save(commit)


class ProviderForm(_KeyForm):
    """A provider, with its key as a field that is written and never read."""

    new_credential = _key_field(
        "The vendor's API key, stored encrypted; or a reference such as ${OPENAI_API_KEY}, "
        "read from the environment at each start. Empty: unchanged."
    )
    clear_credential = forms.BooleanField(
        label="Forget the stored key",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Requests then go out without a key.",
    )
    extra_headers = HeadersField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Sent with every request, one a line: OpenAI-Organization: org-...",
    )
    quirks = ObjectField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="How a compatible server differs from OpenAI, as a JSON object: rename_params, "
        "unsupported_params, developer_role, stream_usage, completions, responses, reasoning_content. "
        "docs/compatible-servers.md has them for well-known servers.",
    )

    def clean(self) -> dict[str, Any]:
        """Refuse contradictions, and a stored key for another host than it was stored for."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        new, forget = cleaned.get("new_credential"), cleaned.get("clear_credential")
        if new and forget:
            self.add_error("clear_credential", "Either write a new key or forget the stored one.")
        # Otherwise whoever may edit a provider could have its key sent to a server of their own.
        stored = self.initial.get("base_url", "") if self.instance.credential else ""
        moved = stored and _origin(stored) != _origin(cleaned.get("base_url", stored))
        if moved and not new and not forget:
            self.add_error(
                "new_credential", "The key was stored for another host: write it again, or forget it."
            )
        return cleaned


class CredentialForm(_KeyForm):
    """One of a provider's further credentials."""

    new_credential = _key_field("Stored encrypted, or a reference such as ${SECOND_KEY}. Empty: unchanged.")

    def clean(self) -> dict[str, Any]:
        """Demand the key of a new row."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.instance.pk is None and not cleaned.get("new_credential") and not self.errors:
            self.add_error("new_credential", "Write the key, or a reference such as ${SECOND_KEY}.")
        return cleaned


class CredentialFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]  # generic only in the stubs
    """A provider's further credentials."""

    def clean(self) -> None:
        """Refuse stored keys for another host than they were stored for, as ProviderForm does for its own."""
        super().clean()
        if self.instance.pk is None:
            return
        stored = Provider.objects.values_list("base_url", flat=True).get(pk=self.instance.pk)
        if _origin(stored) == _origin(self.instance.base_url):
            return
        forms_of = {form.instance.pk: form for form in self.initial_forms}
        # As stored, not as posted: a form may leave rows out.
        held = Credential.objects.filter(provider=self.instance.pk).exclude(credential="")
        for pk in held.values_list("pk", flat=True):
            form = forms_of.get(pk)
            if form is None:
                raise forms.ValidationError(_MOVED)
            if not form.cleaned_data.get("DELETE") and not form.cleaned_data.get("new_credential"):
                form.add_error("new_credential", _MOVED)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


class TestDialog(BaseDialogForm):  # type: ignore[misc]  # unfold ships no types
    """Starts the test as soon as the dialog is open."""

    form_before_template = "admin/providers/provider/test_starts.html"

    def get_before_template_context(self, request: HttpRequest, object_id: Any = None) -> dict[str, Any]:
        """Say where to post."""
        return {"path": request.path}


class TiersField(forms.CharField):
    """Tiers, a line each; its value is the row's list."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "above 200000: input 6, output 22.5"})

    def prepare_value(self, value: Any) -> Any:
        """Show the row's tiers as text; typed text, and what a copy brings along, stays as it is."""
        return value if isinstance(value, str) else tier_text.written(value or ())

    def clean(self, value: Any) -> Any:
        """Return the tiers."""
        text = super().clean(value)
        try:
            return tier_text.read(text)
        except ValueError as problem:
            raise forms.ValidationError(str(problem)) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare the tiers: other spaces are no change, and what cannot be read is one."""
        try:
            return bool(tier_text.read(self.prepare_value(initial)) != tier_text.read(data or ""))
        except ValueError:
            return True


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A price, with its tiers as lines of text."""

    tiers = TiersField(
        label="Long prompts",
        required=False,
        strip=False,  # so that lines are counted as they were typed
        help_text='A line each, such as "above 200000: input 6, output 22.5, cached input 0.6", in US '
        "dollars per million tokens. They hold for the whole of a call whose prompt has more tokens than "
        "that, cached ones counted; what a line does not say is as without it.",
    )

    class Meta:
        """All that people write."""

        model = Price
        fields = (
            *("provider", "model", "effective_from", "context_window", "max_output_tokens", "tiers"),
            *RATE_COLUMNS.values(),
        )
