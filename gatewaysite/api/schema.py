"""`/api/schema/`: OpenAPI, made once; `/api/docs/`: the same as a page for people, without any script."""

import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer

METHODS = ("get", "post", "put", "patch", "delete")


@cache
def schema() -> dict[str, Any]:
    """Return the schema of all operations."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


@cache
def _written(form: str) -> bytes:
    if form == "json":
        return json.dumps(schema(), indent=1).encode()
    written: bytes = OpenApiYamlRenderer().render(schema(), renderer_context={})  # type: ignore[no-untyped-call]
    return written


def schema_view(request: HttpRequest) -> HttpResponse:
    """Answer with YAML, or with JSON for `?format=json` and for who asks for that."""
    asked = request.GET.get("format")
    wants_json = "json" in request.headers.get("accept", "") if asked is None else asked == "json"
    kind = "application/vnd.oai.openapi+json" if wants_json else "application/vnd.oai.openapi"
    return HttpResponse(_written("json" if wants_json else "yaml"), content_type=f"{kind}; charset=utf-8")


def docs_view(request: HttpRequest) -> HttpResponse:
    """Answer with a page for people."""
    return render(request, "api/docs.html", {"about": schema()["info"], "sections": _sections()})


@cache
def _sections() -> list[dict[str, Any]]:
    """Return the operations by their tags, in the order of the addresses."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema()["paths"].items():
        for method in METHODS:
            if method in methods:
                told = methods[method]
                sections.setdefault(told["tags"][0], []).append(_operation(path, method, told))
    return [
        {"name": name, "anchor": name.lower().replace(" ", "-"), "operations": operations}
        for name, operations in sorted(sections.items())
    ]


def _operation(path: str, method: str, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": told["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": told["summary"],
        "description": told["description"],
        "parameters": [
            {
                "name": each["name"],
                "place": each["in"],
                "told": each.get("description", ""),
                "choices": ", ".join(each["schema"].get("enum", ())),
            }
            for each in told.get("parameters", ())
        ],
        "request": _example(told.get("requestBody", {}).get("content", {})),
        "answers": [
            {"status": status, "told": answer["description"], "example": _example(answer.get("content", {}))}
            for status, answer in told["responses"].items()
        ],
    }


def _example(content: dict[str, Any]) -> str:
    for form in content.values():
        for example in form.get("examples", {}).values():
            return json.dumps(example["value"], indent=2, ensure_ascii=False)
    return ""
