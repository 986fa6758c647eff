"""Operators' page for reconciliation: read a vendor's export in, and see how the ledger differs from it."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.http import urlencode
from unfold.contrib.filters.admin import DropdownFilter
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from analytics.models import VendorCost, VendorImport
from analytics.reconciliation import Comparison, Drift, billed_days, compare, import_export
from analytics.vendor_exports import BadExport
from config.screens import ReadOnlyScreen, action, display
from config.words import dollars, moment, signed_dollars
from providers.models import Provider

MOST_BYTES = 20 * 2**20
MOST_DAYS = 400
SHOWN_ROWS = 500


def _provider_field(**options: Any) -> "forms.ModelChoiceField[Provider]":
    return forms.ModelChoiceField(
        Provider.objects.order_by("name"),
        to_field_name="name",
        widget=UnfoldAdminSelectWidget(),
        **options,
    )


class ImportForm(forms.Form):
    """A vendor's export."""

    provider = _provider_field(help_text="Whose account it is.")
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,text/csv"}),
        help_text="CSV: OpenAI's cost export by line item, Anthropic's cost export, or the columns date, "
        "model, cost_usd. What was known of its days is replaced.",
    )

    def clean_file(self) -> Any:
        """Refuse what is too big to be one."""
        file = self.cleaned_data["file"]
        if file.size > MOST_BYTES:
            raise forms.ValidationError(f"It has more than {MOST_BYTES // 2**20} MiB.")
        return file


class PeriodForm(forms.Form):
    """What is compared."""

    provider = _provider_field()
    since = forms.DateField(
        label="First day", widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}), required=False
    )
    until = forms.DateField(
        label="Last day", widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}), required=False
    )

    def clean(self) -> dict[str, Any]:
        """Where no day is given, take the latest month that exports tell of."""
        found = super().clean() or {}
        provider = found.get("provider")
        known = billed_days(provider.name) if provider else None
        last = found.get("until") or (known[1] if known else date.today())  # noqa: DTZ011 - of no matter
        first = found.get("since") or last.replace(day=1)
        if first > last:
            raise forms.ValidationError("The last day comes before the first.")
        if last - first > timedelta(days=MOST_DAYS):
            raise forms.ValidationError(f"Choose at most {MOST_DAYS} days.")
        return {**found, "since": first, "until": last}


class VendorProviderFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By provider."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(name, name) for name in Provider.objects.order_by("name").values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the chosen ones."""
        return queryset.filter(provider=self.value()) if self.value() else queryset


@admin.register(VendorImport)
class VendorImportAdmin(ReadOnlyScreen):
    """What was read in, and the page that compares it."""

    empty_hint = (
        "Costs exported at a vendor as CSV, to hold against the ledger. They are read in on the page "
        "Reconciliation."
    )
    list_display = ("__str__", "file_name", "layout", "lines", "cost", "made")
    list_filter = (VendorProviderFilter,)
    actions_list = ("open_drift",)
    fields = (
        ("provider", "layout"),
        ("first_day", "last_day", "lines"),
        ("file_name", "sha256"),
        ("cost", "made"),
    )
    readonly_fields = ("cost", "made")
    ordering = ("-pk",)

    def get_urls(self) -> list[Any]:
        """Add the page that compares."""
        view = self.admin_site.admin_view(self.drift)
        return [path("drift/", view, name="analytics_vendorimport_drift"), *super().get_urls()]

    @action(description="Compare with the ledger", icon="balance", permissions=("view",))
    def open_drift(self, request: HttpRequest) -> HttpResponse:
        """Open the page."""
        return HttpResponseRedirect(reverse("admin:analytics_vendorimport_drift"))

    def drift(self, request: HttpRequest) -> HttpResponse:
        """Show how ledger and exports differ; take a new export in."""
        if not request.user.has_perm("analytics.view_vendorimport"):
            raise PermissionDenied
        may_import = request.user.has_perm("analytics.add_vendorimport")
        importing, problems = ImportForm(), ""
        if request.method == "POST":
            if not may_import:
                raise PermissionDenied
            importing = ImportForm(request.POST, request.FILES)
            if importing.is_valid():
                try:
                    return self._imported(request, importing)
                except BadExport as problem:
                    problems = str(problem)
        context = {
            **self.admin_site.each_context(request),
            "title": "Reconciliation",
            "opts": self.model._meta,
            "importing": importing if may_import else None,
            "problems": problems,
            **_compared(request.GET),
        }
        return render(request, "admin/analytics/vendorimport/drift.html", context)

    def _imported(self, request: HttpRequest, form: ImportForm) -> HttpResponse:
        provider, file = form.cleaned_data["provider"].name, form.cleaned_data["file"]
        source = import_export(
            provider, file.read(), file_name=file.name or "", by=request.user.get_username()
        )
        messages.success(
            request,
            f"{source.lines:,} lines read in ({source.layout}), {dollars(source.cost_nanousd)} in all.",
        )
        shown = {"provider": provider, "since": source.first_day, "until": source.last_day}
        return HttpResponseRedirect(f"{reverse('admin:analytics_vendorimport_drift')}?{urlencode(shown)}")

    @display(description="Cost")
    def cost(self, obj: VendorImport) -> str:
        """Show dollars."""
        return dollars(obj.cost_nanousd)

    @display(description="Read in (UTC)")
    def made(self, obj: VendorImport) -> str:
        """Say when, and by whom."""
        return moment(obj.made_at)


def _compared(asked: Mapping[str, Any]) -> dict[str, Any]:
    latest = VendorCost.objects.order_by("-source_id").values_list("provider", flat=True).first()
    period = PeriodForm(asked or ({"provider": latest} if latest else None))
    if not period.is_bound or not period.is_valid():
        return {"period": period}
    chosen = period.cleaned_data
    found = compare(chosen["provider"].name, chosen["since"], chosen["until"])
    filled = PeriodForm(initial={**chosen, "provider": chosen["provider"].name})
    return {"period": filled, "chosen": chosen, "found": _in_words(found)}


def _in_words(found: Comparison) -> dict[str, Any]:
    return {
        "rows": [_row(row) for row in found.rows[:SHOWN_ROWS]],
        "more": max(len(found.rows) - SHOWN_ROWS, 0),
        "total": _row(found.total),
        "days": found.days,
        "unbilled_days": found.unbilled_days,
        "unbilled": dollars(found.unbilled),
    }


def _row(row: Drift) -> dict[str, Any]:
    return {
        "day": row.day,
        "ours": ", ".join(sorted(row.names)) or "-",
        "theirs": ", ".join(sorted(row.billed)) or "-",
        "alike": row.names == row.billed,
        "ledger": dollars(row.ours),
        "vendor": dollars(row.theirs),
        "difference": signed_dollars(row.difference),
        "percent": "-" if row.percent is None else f"{row.percent:+.2f} %",
        "much": row.percent is None or abs(row.percent) >= 1,
        "unpriced": row.unpriced,
        "our_tokens": f"{row.our_tokens:,}",
        "their_tokens": "-" if row.their_tokens is None else f"{row.their_tokens:,}",
    }
