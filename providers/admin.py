"""Operators' screen for vendors' accounts; the models they serve and their prices are in admin_prices."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import model_ngettext
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.enums import ActionVariant

from config.screens import OnOffActions, Rows, Screen, action, display
from providers import admin_prices  # noqa: F401 - Django looks for screens in admin.py alone
from providers.admin_forms import CredentialForm, CredentialFormSet, ProviderForm, TestDialog
from providers.credential import CredentialHolder
from providers.models import DEMO_URL, Credential, Price, Provider, ProviderModel
from providers.probe import ProbeResult, probe

PARALLEL_TESTS = 8
SHOWN_MODELS = 200
REHEARSAL = "Rehearse failures"


class CredentialRows(Rows):
    """A provider's further keys, dragged into the order of use.

    Whoever may change the provider may change them, as its own key: only so is each move to another host
    held against all of them.
    """

    model = Credential
    form = CredentialForm
    formset = CredentialFormSet
    readonly_fields = ("stored",)
    ordering_field = "position"
    hide_ordering_field = True
    verbose_name = "further key"
    verbose_name_plural = "Further keys, taken in this order when the ones before them are refused or used up"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        """Offer no new key to those who may only look."""
        if self.has_change_permission(request, obj) or self.has_add_permission(request, obj):
            return ("name", "stored", "new_credential", "enabled", "position")
        return ("name", "stored", "enabled", "position")

    @display(description="Stored key")
    def stored(self, obj: Credential) -> str:
        """Say in words what is stored."""
        return _stored(obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the provider's."""
        return _may(request, "view") or _may(request, "change")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the provider's."""
        return _may(request, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the provider's."""
        return _may(request, "change")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Ask for the provider's."""
        return _may(request, "change") or (obj is None and _may(request, "add"))


class ModelListFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By how the last look at the vendor's model list went."""

    title = "model list"
    parameter_name = "model_list"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (("ok", "Fetched"), ("failed", "Failed"), ("never", "Not fetched yet"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Provider]) -> QuerySet[Provider]:
        """Return the chosen ones."""
        chosen: Mapping[str, Mapping[str, Any]] = {
            "ok": {"models_refreshed_at__isnull": False, "models_error": ""},
            "failed": {"models_error__gt": ""},
            "never": {"models_refreshed_at__isnull": True},
        }
        return queryset.filter(**chosen.get(self.value() or "", {}))


@admin.register(Provider)
class ProviderAdmin(OnOffActions, Screen):
    """Vendors' accounts."""

    form = ProviderForm
    list_display = ("name", "dialect", "base_url", "state", "key", "models_found")
    list_filter = ("enabled", ("dialect", ChoicesDropdownFilter), ModelListFilter)
    search_fields = ("name", "base_url")
    search_help_text = "Name or base URL"
    ordering = ("name",)
    actions = ("test_selected", "enable_selected", "disable_selected", "switch_faults_off")
    actions_detail = ("test_provider",)
    readonly_fields = ("key", "model_list", "price_list")
    inlines = (CredentialRows,)
    fieldsets = (
        (None, {"fields": (("name", "dialect"), "base_url", "enabled")}),
        (
            "Credential",
            {"fields": ("key", ("new_credential", "clear_credential"), "auth_header", "extra_headers")},
        ),
        ("Models and prices", {"fields": ("model_list", "price_list")}),
        (
            REHEARSAL,
            {
                "description": "How this demo provider fails on purpose, to rehearse a failover.",
                "fields": (
                    "fault_percent",
                    ("fault_status", "fault_retry_after_s"),
                    ("fault_latency_ms", "fault_ttft_ms"),
                    ("fault_cut_after", "fault_stall_after"),
                ),
            },
        ),
        (
            "Timeouts",
            {
                "fields": (
                    ("connect_timeout_s", "first_content_timeout_s"),
                    ("idle_timeout_s", "total_timeout_s"),
                ),
                "classes": ("collapse",),
            },
        ),
        (
            "Capacity",
            {
                "fields": (
                    ("max_concurrency", "max_connections"),
                    ("max_queue", "queue_timeout_s"),
                ),
                "classes": ("collapse",),
            },
        ),
        (
            "Quirks",
            {
                "fields": (
                    "drop_unsupported_params",
                    "shares_stored",
                    "path_template",
                    "quirks",
                ),
                "classes": ("collapse",),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        """Count models and prices along."""
        found: QuerySet[Any] = super().get_queryset(request)
        counted: QuerySet[Any] = found.annotate(model_count=_count(ProviderModel), price_count=_count(Price))
        return counted

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what a new provider has not yet, and what the demo alone has."""
        sections = super().get_fieldsets(request, obj)
        # One that is being moved to a real vendor still shows the faults that are to go first.
        if obj is None or not (obj.base_url == DEMO_URL or obj.given_faults()):
            sections = [section for section in sections if section[0] != REHEARSAL]
        if obj is not None:
            return sections
        return [
            (title, {**options, "fields": _without(options["fields"], {"key", "clear_credential"})})
            for title, options in sections
            if title != "Models and prices"
        ]

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: Any) -> None:
        """Save, and warn when the key's variable is not set."""
        super().save_model(request, obj, form, change)
        if variable := obj.unset_variable:
            messages.warning(
                request,
                f"{variable} is not set here: {obj} cannot be used by this key until the gateway starts with "
                "it.",
            )

    @display(description="State", label={"on": "success", "off": "warning", "failing": "danger"})
    def state(self, obj: Provider) -> tuple[str, str]:
        """Say whether it is used, and whether it fails on purpose."""
        if not obj.enabled:
            return "off", "disabled"
        return ("failing", "fails on purpose") if obj.faults.on else ("on", "enabled")

    @display(description="Stored key")
    def key(self, obj: Provider) -> str:
        """Say in words what is stored."""
        return _stored(obj)

    @display(description="Models")
    def models_found(self, obj: Any) -> str:
        """Say how many models were found, or that the vendor could not say."""
        if obj.models_error:
            return format_html(
                '<span class="gw-bad" title="{}">{} · failing</span>', obj.models_error, obj.model_count
            )
        return str(obj.model_count) if obj.models_refreshed_at else "not fetched yet"

    @display(description="Model list")
    def model_list(self, obj: Any) -> str:
        """Link to the models and say how fresh they are."""
        url = _list_of(ProviderModel, obj)
        link = format_html('<a class="gw-link" href="{}">{} models</a>', url, obj.model_count)
        if not obj.models_refreshed_at:
            return format_html("{} · not fetched yet; the background task looks every ten minutes", link)
        asked = f"asked {timesince(obj.models_refreshed_at)} ago"
        if obj.models_error:
            return format_html('{} · {}: <span class="gw-bad">{}</span>', link, asked, obj.models_error)
        return format_html("{} · {}", link, asked)

    @display(description="Prices")
    def price_list(self, obj: Any) -> str:
        """Link to the prices, and to a new one."""
        return format_html(
            '<a class="gw-link" href="{}">{} prices</a> · '
            '<a class="gw-link" href="{}?provider={}">add one</a>',
            _list_of(Price, obj),
            obj.price_count,
            reverse("admin:providers_price_add"),
            obj.pk,
        )

    @action(
        description="Test this provider",
        icon="network_check",
        permissions=("change",),
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": "Test this provider",
            "description": "Asks the vendor for its list of models, with the saved key.",
            "form_class": TestDialog,
            "form_submit_text": "Test again",
        },
    )
    def test_provider(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        """Ask the vendor now and show the answer in the dialog."""
        provider = get_object_or_404(Provider, pk=object_id)
        return self._shown(request, [(provider, probe(provider))])

    @admin.action(description="Test selected", permissions=["change"])
    def test_selected(self, request: HttpRequest, queryset: QuerySet[Provider]) -> HttpResponse:
        """Ask all of them at once and show a page of answers."""
        providers = list(queryset)
        with ThreadPoolExecutor(max_workers=min(PARALLEL_TESTS, len(providers) or 1)) as pool:
            results = list(pool.map(probe, providers))
        return self._shown(request, list(zip(providers, results, strict=True)))

    @admin.action(description="Switch all faults off", permissions=["change"])
    def switch_faults_off(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        """Let demo providers that fail on purpose answer as ever; row by row, for the audit log."""
        mended = 0
        with transaction.atomic():
            for provider in queryset.order_by("pk").select_for_update(of=("self",)):
                changed = provider.clear_faults()
                if changed:
                    provider.save(update_fields=changed)
                    mended += 1
        noun = model_ngettext(Provider._meta, mended)
        text = f"{mended} {noun} no longer fail{'s' if mended == 1 else ''} on purpose."
        messages.success(request, text if mended else "None of them failed on purpose.")

    def _shown(self, request: HttpRequest, tests: list[tuple[Provider, ProbeResult]]) -> HttpResponse:
        page = "test_result" if request.headers.get("HX-Request") else "test_results"
        context = {
            **self.admin_site.each_context(request),
            "title": "Test of providers",
            "opts": self.model._meta,
            "tests": [
                {"provider": provider, "result": result, "names": result.names[:SHOWN_MODELS]}
                for provider, result in tests
            ],
            "shown": SHOWN_MODELS,
        }
        return render(request, f"admin/providers/provider/{page}.html", context)


def _stored(row: CredentialHolder) -> str:
    variable = row.unset_variable
    return f"from ${{{variable}}} (not set)" if variable else row.credential_kind


def _may(request: HttpRequest, verb: str) -> bool:
    return request.user.has_perm(f"providers.{verb}_provider")


def _count(model: type[Any]) -> Coalesce:
    # A subquery each: two joins would multiply, and counting the list would carry them.
    counted = (
        model.objects.filter(provider=OuterRef("pk")).order_by().values("provider").annotate(rows=Count("pk"))
    )
    return Coalesce(Subquery(counted.values("rows"), output_field=IntegerField()), 0)


def _list_of(model: type[Any], provider: Provider) -> str:
    url = reverse(f"admin:providers_{model._meta.model_name}_changelist")
    return f"{url}?provider__id__exact={provider.pk}"


def _without(fields: Sequence[Any], names: set[str]) -> list[Any]:
    """Drop names from a fieldset's rows."""
    kept: list[Any] = []
    for field in fields:
        row = tuple(name for name in field if name not in names) if isinstance(field, tuple) else field
        if row and row not in names:
            kept.append(row)
    return kept
