"""What the admin's screens share: their base, read-only and endless screens, on/off actions.

Imported by the apps' admin modules alone; nothing that serves requests comes here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from operator import or_
from typing import Any, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.options import IS_FACETS_VAR
from django.contrib.admin.utils import model_ngettext
from django.contrib.admin.views.main import (
    ALL_VAR,
    ERROR_FLAG,
    ORDER_VAR,
    PAGE_VAR,
    SEARCH_VAR,
)
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold import decorators
from unfold.admin import ModelAdmin, TabularInline
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from config.filters import between
from config.keyset import Cursor, KeysetPaginator
from config.money import UsdField
from config.words import dollars

# Parameters of a list that keep no row out of it, or look one up by its id.
_NO_FILTERS = frozenset({PAGE_VAR, SEARCH_VAR, ALL_VAR, ORDER_VAR, ERROR_FLAG, IS_FACETS_VAR})

Method = TypeVar("Method", bound=Callable[..., Any])


class _DollarFields:
    """Shows dollar columns as dollars, to those who may change them and to those who may only look."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Give a dollar column a text input of the admin's look: a number input refuses "0.15"."""
        field = super().formfield_for_dbfield(db_field, request, **options)  # type: ignore[misc]  # a mixin
        if isinstance(db_field, UsdField):
            field.widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"})
        return field

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Where a form is only looked at, Django would print the stored nano-dollars."""
        sections = super().get_fieldsets(request, obj)  # type: ignore[misc]  # a mixin
        shown = self._shown_as_dollars(request, obj)
        return [
            (title, {**options, "fields": [replaced(field, shown) for field in options["fields"]]})
            for title, options in sections
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add what stands in for the dollar columns."""
        fields = super().get_readonly_fields(request, obj)  # type: ignore[misc]  # a mixin
        return (*fields, *self._shown_as_dollars(request, obj).values())

    def _shown_as_dollars(self, request: HttpRequest, obj: Any) -> Mapping[str, Callable[[Any], str]]:
        if obj is None or self.has_change_permission(request, obj):  # type: ignore[attr-defined]  # a mixin
            return {}
        columns = self.model._meta.fields  # type: ignore[attr-defined]  # a mixin
        return {column.name: _as_dollars(column) for column in columns if isinstance(column, UsdField)}


@cache
def _as_dollars(column: UsdField) -> Callable[[Any], str]:
    @admin.display(description=column.verbose_name)
    def shown(row: Any) -> str:
        return dollars(getattr(row, column.name), unknown="-")

    return shown


def replaced(field: Any, replacements: Mapping[str, Any]) -> Any:
    """Return the field, or the fields of each row of a form, with others in the place of some."""
    if isinstance(field, list | tuple):
        return tuple(replaced(each, replacements) for each in field)
    return replacements.get(field, field)


class _List(ChangeList):  # type: ignore[misc]  # unfold ships no types
    """Says "n results" over a list only where a filter or search made it shorter, and n is known."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page."""
        super().get_results(request)
        if not self.is_narrowed or isinstance(self.paginator, KeysetPaginator):
            self.full_result_count = self.result_count

    @property
    def is_narrowed(self) -> bool:
        """Does a search or a filter keep rows out of it?"""
        return bool(self.query or self.has_active_filters)


class Screen(_DollarFields, ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """A model's list and form. Saves write the changed columns only, never a stale row."""

    list_filter_submit = True
    list_fullwidth = True
    list_per_page = 50
    # An action works row by row, so that each row is audited: one page of them at most.
    list_disable_select_all = True
    show_full_result_count = False
    warn_unsaved_form = True
    # What an empty list says: what would be here, and what to do next.
    empty_hint = ""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:  # noqa: ARG002 - Django's contract
        """Insert a new row whole; of a stored one, write what the operator changed."""
        if not change:
            obj.save()
            return
        columns = {field.name for field in obj._meta.concrete_fields}
        written = columns & {*form.changed_data, *getattr(form, "also_changed", ())}
        if written:
            obj.save(update_fields=sorted(written))

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[_List]:  # noqa: ARG002 - Django's contract
        """Use our list."""
        return _List

    def is_own_page(self, request: HttpRequest) -> bool:
        """Does the request come to this screen, not to one that cascades into its rows?"""
        options = self.model._meta
        name = (request.resolver_match.url_name if request.resolver_match else "") or ""
        return name.startswith(f"{options.app_label}_{options.model_name}_")


class Rows(_DollarFields, TabularInline):  # type: ignore[misc]  # unfold ships no types
    """Rows of another model inside a form."""

    extra = 0
    hide_title = True

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        """Name each field by its column: a column's heading labels nothing for who listens to the page."""
        formset = super().get_formset(request, obj, **options)
        for name, field in formset.form.base_fields.items():
            label = str(field.label or name)
            field.widget.attrs.setdefault("aria-label", label[:1].upper() + label[1:])
        return formset


class ReadOnlyScreen(Screen):
    """Rows that the gateway writes: nobody adds, changes or deletes them here."""

    actions = None

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Offer no history: these rows have none."""
        context = {**(extra_context or {}), "show_history": False}
        response: HttpResponse = super().changeform_view(request, object_id, form_url, context)
        return response

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's contract
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's contract
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse here; let the deletion of a parent row take these along."""
        return not self.is_own_page(request) and bool(super().has_delete_permission(request, obj))


class EndlessScreen(ReadOnlyScreen):
    """Rows that grow for ever, newest first: no list of them counts, sorts or scans the table."""

    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    # Columns of ids with an index: a search looks for one whole id in them.
    searched_ids: Sequence[str] = ()
    # Filters that an index serves, by the names of their parameters: any other looks through rows.
    indexed_filters: Sequence[str] = ()

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, **_: Any) -> Paginator:  # type: ignore[type-arg]
        """Use the paginator that never counts; that of other rows, a row's history, may."""
        if queryset.model is not self.model:
            return Paginator(queryset, per_page)
        moment = self.ordering[0].lstrip("-")
        looks = any(value and not self._is_indexed(name, moment) for name, value in request.GET.items())
        return KeysetPaginator(
            queryset,
            per_page,
            moment=moment,
            cursor=Cursor.read(request.GET.get(PAGE_VAR, "")),
            looked_through=between(self.by_index(request), moment, request.GET) if looks else None,
        )

    def by_index(self, request: HttpRequest) -> QuerySet[Any]:  # noqa: ARG002 - for those that have such filters
        """Return the rows that `indexed_filters` leave: other filters look for theirs among them."""
        rows: QuerySet[Any] = self.model._default_manager.all()  # noqa: SLF001 - Django's public name for it
        return rows

    def _is_indexed(self, parameter: str, moment: str) -> bool:
        return parameter in {*self.indexed_filters, *_NO_FILTERS} or parameter.startswith(
            (f"{moment}_from", f"{moment}_to")
        )

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's contract
        queryset: QuerySet[Any],
        search_term: str,
    ) -> tuple[QuerySet[Any], bool]:
        """Look up one id by its index; anything softer would read the whole table."""
        term = search_term.strip()
        if not term or not self.searched_ids:
            return queryset, False
        return queryset.filter(reduce(or_, (Q((name, term)) for name in self.searched_ids))), False


class OnOffActions:
    """Switches rows with an `enabled` column on and off."""

    @admin.action(description="Enable selected", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Switch on."""
        self._switch(request, queryset, enabled=True)

    @admin.action(description="Disable selected", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Switch off."""
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: Any, *, enabled: bool) -> None:
        # Row by row, because a bulk update leaves no trace in the audit log.
        with transaction.atomic():
            rows = list(queryset.order_by("pk").exclude(enabled=enabled).select_for_update(of=("self",)))
            for row in rows:
                row.enabled = enabled
                row.save(update_fields=["enabled"])
        word = "enabled" if enabled else "disabled"
        text = (
            f"{len(rows)} {model_ngettext(queryset.model, len(rows))} {word}." if rows else f"Already {word}."
        )
        messages.success(request, text)


def action(**options: Any) -> Callable[[Method], Method]:
    """Return unfold's decorator of a button, with a type."""
    return decorators.action(**options)  # type: ignore[no-any-return]  # unfold ships no types


def display(**options: Any) -> Callable[[Method], Method]:
    """Return unfold's decorator of a column, with a type."""
    return decorators.display(**options)  # type: ignore[no-any-return]  # unfold ships no types


def goto(request: HttpRequest, url: str) -> HttpResponse:
    """Send the browser to `url`, also when the request came from a dialog."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": url})
    return redirect(url)
