"""What owners may say of their tenant: its time zone, and who is told of its budgets."""

import zoneinfo
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_http_methods

from analytics.dashboard.access import Seat, seated
from analytics.dashboard.pages import at, page
from config.form_fields import LinesField
from keys.models import Tenant
from keys.validators import check_emails

MOST_ADDRESSES = 20


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A tenant's own settings; its name, limits and budgets are the operators'."""

    timezone = forms.CharField(
        label="Time zone",
        max_length=40,
        help_text='Where its days and months begin: "Europe/Berlin". Budgets count by them, too.',
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    alert_emails = LinesField(
        label="Who is told of budgets by e-mail",
        required=False,
        help_text="One address a line. Empty: nobody.",
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "team@example.com"}),
    )

    class Meta:
        """The columns."""

        model = Tenant
        fields = ("timezone", "alert_emails")

    def clean_alert_emails(self) -> list[str]:
        """Refuse what is no address, and too many."""
        addresses: list[str] = self.cleaned_data["alert_emails"]
        check_emails(addresses)
        if len(addresses) > MOST_ADDRESSES:
            raise ValidationError(f"At most {MOST_ADDRESSES} addresses.")
        return addresses


@require_http_methods(["GET", "HEAD", "POST"])
@seated("manage")
def tenant_settings(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Show and change them."""
    tenant = Tenant.objects.get(pk=seat.tenant.pk)
    form = SettingsForm(request.POST if request.method == "POST" else None, instance=tenant)
    if form.is_valid():
        form.save(commit=False)
        tenant.save(update_fields=["timezone", "alert_emails"])
        messages.success(request, "Saved.")
        return HttpResponseRedirect(at(seat, "settings"))
    return page(request, seat, "settings", _context(form))


def _context(form: SettingsForm) -> dict[str, Any]:
    return {"form": form, "zones": sorted(zoneinfo.available_timezones())}
