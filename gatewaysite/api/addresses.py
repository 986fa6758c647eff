"""The addresses of resources, with what OpenAPI says of each operation."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import models
from django.urls import URLPattern, path

from gatewaysite.api import describing
from gatewaysite.api.describing import Operation, described, in_path
from gatewaysite.api.file_kinds import FileKind
from gatewaysite.api.kinds import Kind
from gatewaysite.api.resources import KindItem, KindList
from gatewaysite.api.shapes import listed
from gatewaysite.api.table_kinds import TableKind

WHOLE = (
    "What the body leaves out is as in a new one; secrets that it leaves out stay. The same body twice "
    "changes nothing the second time."
)


def addresses(
    kind: Kind,
    *,
    reads: Mapping[str, Any] | None = None,
    list_view: type[KindList] = KindList,
    item_view: type[KindItem] = KindItem,
    under: str = "",
    adding: bool = True,
) -> list[URLPattern]:
    """Return the addresses of a kind: its list and its items. `reads` completes the example of an answer.

    `under`: what stands before it, as members stand under a tenant. `adding`: is there a POST?
    """
    word = "".join(part.title() for part in kind.noun.split())
    answered = {**_usual(kind), **_shown(kind), **(reads or {})}
    the_list = type(f"{word}List", (list_view,), {"kind": kind, "__doc__": list_view.__doc__})
    item = type(f"{word}Item", (item_view,), {"kind": kind, "__doc__": item_view.__doc__})
    outer = [name for name in kind.identity if f":{name}>" in under]
    parts = [_part(kind, name) for name in outer]
    _describe_list(the_list, kind, word=word, answered=answered, outer=parts, adding=adding)
    _describe_item(item, kind, answered)
    if not adding:
        the_list.http_method_names = ["get", "head"]  # type: ignore[attr-defined]  # REST framework's own
    below = [f"<{_converter(kind, name)}:{name}>" for name in kind.identity if name not in outer]
    base = f"{under}{kind.path}"
    name = kind.noun.replace(" ", "-")
    return [
        path(base, the_list.as_view(), name=f"{name}-list"),  # type: ignore[attr-defined]  # made above
        path(f"{base}/{'/'.join(below)}", item.as_view(), name=f"{name}-item"),  # type: ignore[attr-defined]  # the same
    ]


def _describe_list(
    view: type[Any], kind: Kind, *, word: str, answered: Any, outer: Sequence[Any], adding: bool
) -> None:
    operations = {
        "get": Operation(
            id=f"list_{kind.plural.replace(' ', '_')}",
            tag=kind.tag,
            summary=f"List {kind.plural}",
            description=f"All {kind.plural} that one may see, by pages, in a fixed order.",
            response=listed(word, kind.serializer),
            answered={"items": [answered], "next_cursor": None},
            parameters=(*outer, *describing.of_filters(kind.filters), *describing.PAGES),
            errors=(404,) if outer else (),
        )
    }
    if adding:
        operations["post"] = Operation(
            id=f"create_{kind.noun.replace(' ', '_')}",
            tag=kind.tag,
            summary=f"Create a {kind.noun}",
            description=f"Create a {kind.noun}; 409 if it exists.",
            request=kind.serializer,
            response=kind.serializer,
            status=201,
            sent=kind.example,
            answered=answered,
            errors=(404, 409),
            tagged=True,
        )
    described(view, **operations)


def _describe_item(view: type[Any], kind: Kind, answered: Any) -> None:
    noun = kind.noun.replace(" ", "_")
    parts = [_part(kind, name) for name in kind.identity]
    sent = {name: value for name, value in kind.example.items() if name not in kind.identity} or kind.example
    shared: dict[str, Any] = {"tag": kind.tag, "response": kind.serializer, "answered": answered}
    described(
        view,
        get=Operation(
            id=f"get_{noun}",
            summary=f"Read a {kind.noun}",
            parameters=(*parts, describing.IF_CHANGED),
            also={304: None},
            errors=(404,),
            tagged=True,
            **shared,
        ),
        put=Operation(
            id=f"put_{noun}",
            summary=f"{'Create or replace' if kind.named else 'Replace'} a {kind.noun}",
            description=f"Make the {kind.noun} what the body says. {WHOLE}",
            request=_unnamed(kind),
            sent=sent,
            also={201: kind.serializer} if kind.named else {},
            parameters=(*parts, describing.IF_MATCH, describing.IF_NONE_MATCH),
            errors=(404, 409, 412),
            tagged=True,
            **shared,
        ),
        patch=Operation(
            id=f"patch_{noun}",
            summary=f"Change fields of a {kind.noun}",
            request=kind.serializer,
            sent=_patch(kind),
            parameters=(*parts, describing.IF_MATCH),
            errors=(404, 409, 412),
            tagged=True,
            **shared,
        ),
        delete=Operation(
            id=f"delete_{noun}",
            tag=kind.tag,
            summary=f"Delete a {kind.noun}",
            status=204,
            parameters=(*parts, describing.IF_MATCH),
            errors=(404, 409, 412),
        ),
    )


def _unnamed(kind: Kind) -> Any:
    """Return the serializer of a PUT's body, in which what the address says may be left out."""
    if not set(kind.identity) & set(kind.serializer().fields):
        return kind.serializer
    name = kind.serializer.__name__.replace("Serializer", "PutSerializer")
    put: Any = type(name, (kind.serializer,), {"__doc__": kind.serializer.__doc__})
    for part in kind.identity:
        field = put._declared_fields[part]  # noqa: SLF001 - where REST framework keeps what a class declares
        options = {**field._kwargs, "required": False}  # noqa: SLF001 - by which it copies fields, too
        put._declared_fields[part] = type(field)(*field._args, **options)  # noqa: SLF001 - the same
    return put


def _patch(kind: Kind) -> Mapping[str, Any]:
    name = next(
        (
            name
            for name in ("enabled", "max_queue", "timezone", "note", "role", "amount", "tags")
            if name in kind.serializer().fields
        ),
        None,
    )
    usual = {"enabled": False, "max_queue": 50, "timezone": "UTC", "note": "see the wiki", "role": "owner"}
    if name in usual:
        return {name: usual[name]}
    return {"output_usd_per_mtok": "0.80"}


def _part(kind: Kind, name: str) -> Any:
    told = f"The {kind.noun}'s {name.replace('_', ' ')}"
    return in_path(
        name, f"{told}." if name != "effective_from" else f"{told}: 1970-01-01 for one that always held."
    )


def _converter(kind: Kind, name: str) -> str:
    if name == "id":
        return "int"
    # The last may hold slashes: models are called so.
    return "path" if name == kind.identity[-1] and kind.named else "str"


def _shown(kind: Kind) -> dict[str, Any]:
    fields = kind.serializer().fields
    return {name: value for name, value in kind.example.items() if not fields[name].write_only}


def _usual(kind: Kind) -> dict[str, Any]:
    if isinstance(kind, FileKind):
        return kind.fresh()
    if isinstance(kind, TableKind):
        columns = {field.name: (field, kind.model._meta.get_field(field.column)) for field in kind.table}
        return {
            name: None if isinstance(column, models.ForeignKey) else field.write(column.get_default())  # type: ignore[union-attr]  # tables name columns
            for name, (field, column) in columns.items()
        }
    return {}
