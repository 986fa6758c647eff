"""Operators' screens for re-rating: ask for a preview, read it, apply it; the list of past runs."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from analytics import rerating
from analytics.models import ReRating
from config.screens import ReadOnlyScreen, action, display, goto
from config.words import dollars, moment, signed_dollars, table
from keys.models import ApiKey, RateLimit, Tenant
from providers.models import Provider

# What a page's request may take: some ten seconds of reading.
MOST_ENTRIES = 200_000
APPLY: dict[str, Any] = {
    "title": "Correct the ledger?",
    "description": "For each attempt that costs something else now a row with the difference is added, and "
    "the budgets' sums move with it. Rows are never changed or deleted: to go back, put the prices back and "
    "re-rate again.",
    "form_class": None,
    "form_submit_text": "Add the corrections",
}


def _day_field(**options: Any) -> forms.DateField:
    return forms.DateField(widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}), **options)


class ScopeForm(forms.Form):
    """What is to be re-rated."""

    since = _day_field(label="First day")
    until = _day_field(label="Last day", help_text="Days are UTC; both are part of the period.")
    provider = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget())
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="As the vendor names it; gpt-4o* is all that begin so. Empty: all.",
    )
    tenant = forms.ModelChoiceField(
        Tenant.objects.all(),
        required=False,
        widget=AutocompleteSelect(RateLimit._meta.get_field("tenant"), admin.site),
    )
    key = forms.ModelChoiceField(
        ApiKey.objects.all(),
        required=False,
        label="API key",
        widget=AutocompleteSelect(RateLimit._meta.get_field("key"), admin.site),
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Offer the providers that there are."""
        super().__init__(*arguments, **options)
        names = Provider.objects.order_by("name").values_list("name", flat=True)
        self.fields["provider"].choices = [("", "All"), *((name, name) for name in names)]  # type: ignore[attr-defined]  # a ChoiceField

    def clean(self) -> dict[str, Any]:
        """Refuse a period that ends before it begins."""
        found = super().clean() or {}
        since, until = found.get("since"), found.get("until")
        if since and until and until < since:
            raise forms.ValidationError("The last day comes before the first.")
        return found

    def run(self, by: str) -> ReRating:
        """Return an unsaved run."""
        asked = self.cleaned_data
        tenant, key = asked["tenant"], asked["key"]
        return ReRating(
            since=datetime.combine(asked["since"], time(), UTC),
            until=datetime.combine(asked["until"] + timedelta(days=1), time(), UTC),
            provider=asked["provider"],
            model=asked["model"].strip(),
            tenant_ref=tenant and tenant.pk,
            tenant_name=tenant.name if tenant else "",
            key_ref=key and key.pk,
            key_name=key.name if key else "",
            made_by=by,
        )


@admin.register(ReRating)
class ReRatingAdmin(ReadOnlyScreen):
    """Past runs, newest first."""

    empty_hint = (
        'After a price was corrected, what was spent can be corrected too. "Re-rate a period" shows the '
        "difference first, and changes nothing."
    )
    list_display = ("what", "badge", "changed_of", "difference", "made", "applied")
    list_display_links = ("what",)
    actions_list = ("make_preview",)
    actions_detail = ("apply_run",)
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": (("period", "badge_words"), ("limited_to", "made"), ("applied", "since_then"))}),
        (
            "What changes",
            {"fields": (("attempts", "new_prices", "no_prices"), ("before", "difference", "afterwards"))},
        ),
        ("By model", {"fields": ("by_model",)}),
        ("By tenant", {"fields": ("by_tenant",)}),
        ("By key", {"fields": ("by_key",)}),
        ("By day (UTC)", {"fields": ("by_day",)}),
    )
    readonly_fields = (
        *("period", "badge_words", "limited_to", "made", "applied", "since_then", "attempts", "new_prices"),
        *("no_prices", "before", "difference", "afterwards", "by_model", "by_tenant", "by_key", "by_day"),
    )

    def get_urls(self) -> list[Any]:
        """Add the page that asks for a preview."""
        view = self.admin_site.admin_view(self.preview)
        return [path("preview/", view, name="analytics_rerating_preview"), *super().get_urls()]

    def has_preview_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may add runs."""
        return request.user.has_perm("analytics.add_rerating")

    def has_apply_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may change runs may change money."""
        return request.user.has_perm("analytics.change_rerating")

    def preview(self, request: HttpRequest) -> HttpResponse:
        """Show the form; make a preview and open it."""
        if not self.has_preview_permission(request):
            raise PermissionDenied
        form = ScopeForm(request.POST) if request.method == "POST" else ScopeForm(initial=_this_month())
        if request.method == "POST" and form.is_valid():
            try:
                run = rerating.preview(form.run(request.user.get_username()), at_most=MOST_ENTRIES)
            except rerating.CannotRerate as problem:
                form.add_error(None, str(problem))
            else:
                return HttpResponseRedirect(reverse("admin:analytics_rerating_change", args=[run.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": "Re-rate a period",
            "opts": self.model._meta,
            "form": form,
        }
        return render(request, "admin/analytics/rerating/preview.html", context)

    @action(description="Re-rate a period", icon="currency_exchange", permissions=("preview",))
    def make_preview(self, request: HttpRequest) -> HttpResponse:
        """Open the form."""
        return HttpResponseRedirect(reverse("admin:analytics_rerating_preview"))

    @action(
        description="Apply",
        icon="done_all",
        permissions=("apply",),
        variant=ActionVariant.DANGER,
        dialog=APPLY,
    )
    def apply_run(self, request: HttpRequest, form: Any, object_id: str = "") -> HttpResponse:
        """Write the corrections, say so and show the run again."""
        run = get_object_or_404(ReRating, pk=object_id)
        before = run.state
        try:
            run = rerating.apply(run, by=request.user.get_username())
        except rerating.CannotRerate as problem:
            messages.error(request, str(problem))
        else:
            told = f"{run.applied_rows:,} corrections, {signed_dollars(run.applied_nanousd)} in all."
            already = before == ReRating.State.APPLIED
            messages.success(request, f"Had been applied before: {told}" if already else f"Applied: {told}")
        return goto(request, reverse("admin:analytics_rerating_change", args=[object_id]))

    @display(description="Re-rating")
    def what(self, obj: ReRating) -> str:
        """Say what it is about."""
        return f"{self.period(obj)}: {self.limited_to(obj)}"

    @display(description="State", label={"preview": "info", "applying": "warning", "applied": "success"})
    def badge(self, obj: ReRating) -> tuple[str, str]:
        """Say how far it is."""
        return obj.state, obj.get_state_display()

    @display(description="State")
    def badge_words(self, obj: ReRating) -> str:
        """Say the same in the form."""
        return str(obj.get_state_display())

    @display(description="Period (UTC)")
    def period(self, obj: ReRating) -> str:
        """Name the days, or the moments if they are no whole days."""
        last = obj.until - timedelta(days=1)
        if (obj.since.astimezone(UTC).time(), last.astimezone(UTC).time()) == (time(), time()):
            return f"{obj.since:%Y-%m-%d} to {last:%Y-%m-%d}"
        return f"{obj.since:%Y-%m-%d %H:%M:%S} to {obj.until:%Y-%m-%d %H:%M:%S}"

    @display(description="Limited to")
    def limited_to(self, obj: ReRating) -> str:
        """Name what it is limited to."""
        parts = {
            "provider": obj.provider,
            "model": obj.model,
            "tenant": obj.tenant_name,
            "key": obj.key_name,
        }
        return ", ".join(f"{word} {name}" for word, name in parts.items() if name) or "everything"

    @display(description="Changed of")
    def changed_of(self, obj: ReRating) -> str:
        """Say how many cost something else."""
        return f"{obj.changed:,} of {obj.rows:,}"

    @display(description="Attempts that cost something else now")
    def attempts(self, obj: ReRating) -> str:
        """Say the same in the form."""
        return self.changed_of(obj)

    @display(description="Of those: without a known price until now")
    def new_prices(self, obj: ReRating) -> str:
        """Count them."""
        return f"{obj.newly_priced:,}"

    @display(description="Without a price even now, left as they are")
    def no_prices(self, obj: ReRating) -> str:
        """Count them."""
        return f"{obj.unpriced:,}"

    @display(description="They cost")
    def before(self, obj: ReRating) -> str:
        """Show dollars."""
        return dollars(obj.before_nanousd)

    @display(description="Difference")
    def difference(self, obj: ReRating) -> str:
        """Show dollars with their sign."""
        return signed_dollars(obj.difference_nanousd)

    @display(description="They cost afterwards")
    def afterwards(self, obj: ReRating) -> str:
        """Show dollars."""
        return dollars(obj.before_nanousd + obj.difference_nanousd)

    @display(description="Made")
    def made(self, obj: ReRating) -> str:
        """Say when, and by whom."""
        return format_html("{} by {}", moment(obj.made_at), obj.made_by or "system")

    @display(description="Applied")
    def applied(self, obj: ReRating) -> str:
        """Say when, by whom, and how much it was."""
        if obj.state == ReRating.State.PREVIEW:
            return "no"
        told = f"{obj.applied_rows:,} rows, {signed_dollars(obj.applied_nanousd)}"
        if obj.applied_at is None:
            return f"under way: {told} so far"
        return format_html("{} by {}: {}", moment(obj.applied_at), obj.applied_by or "system", told)

    @display(description="Came in after it was made, left alone")
    def since_then(self, obj: ReRating) -> str:
        """Count what came in since."""
        return f"{rerating.came_since(obj):,}"

    @display(description="")
    def by_model(self, obj: ReRating) -> str:
        """Show the sums."""
        return _sums(obj, "model", "Model")

    @display(description="")
    def by_tenant(self, obj: ReRating) -> str:
        """Show the sums."""
        return _sums(obj, "tenant", "Tenant")

    @display(description="")
    def by_key(self, obj: ReRating) -> str:
        """Show the sums."""
        return _sums(obj, "key", "API key")

    @display(description="")
    def by_day(self, obj: ReRating) -> str:
        """Show the sums."""
        return _sums(obj, "day", "Day")


def _sums(run: ReRating, group: str, word: str) -> str:
    rows = run.sums.get(group, ())
    if not rows:
        return "nothing changes"
    shown = (
        (name, f"{count:,}", dollars(before), signed_dollars(difference), dollars(before + difference))
        for name, count, before, difference in rows
    )
    heads = (word, "Attempts", "Before", "Difference", "After")
    return format_html('<div class="gw-sums">{}</div>', table(heads, shown))


def _this_month() -> Mapping[str, Any]:
    today = datetime.now(UTC).date()
    return {"since": today.replace(day=1), "until": today}
