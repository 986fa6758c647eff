"""The content blocks of a user's turn, as canonical parts."""

from collections.abc import Callable, Mapping
from typing import Any

from proxy.endpoints.messages_reading import blocks_at, string_at
from proxy.endpoints.native_only import NativeOnly, wrong

Part = dict[str, Any]
PDF = "application/pdf"


def parts_of(block: Mapping[str, Any], where: str, native: NativeOnly) -> list[Part]:
    """Return what a text, image, document or search result says. Raises BadRequest.

    A block of another type is noted: then the parts are not all of it.
    """
    read = _READERS.get(block["type"])
    if read is None:
        native.note(where, f"'{where}': content of the type {block['type']!r} is known to Anthropic alone.")
        return []
    parts = read(block, where, native)
    if parts and block.get("cache_control"):
        parts[-1]["cache_control"] = block["cache_control"]
    return parts


def text_part(text: str) -> Part:
    """Return a part of text."""
    return {"type": "text", "text": text}


def _text(block: Mapping[str, Any], where: str, _: NativeOnly) -> list[Part]:
    return [text_part(string_at(block, "text", where))]


def _image(block: Mapping[str, Any], where: str, native: NativeOnly) -> list[Part]:
    source, kind = _source(block, where)
    if kind == "base64":
        url = _data_url(source, where, "")
    elif kind == "url":
        url = string_at(source, "url", f"{where}.source")
    else:
        return _unreadable(kind, where, native)
    return [{"type": "image_url", "image_url": {"url": url}}]


def _document(block: Mapping[str, Any], where: str, native: NativeOnly) -> list[Part]:
    source, kind = _source(block, where)
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        native.note_extra(f"{where}.citations", f"'{where}.citations': only Anthropic's API cites documents.")
    heading = "\n".join(each for each in (block.get("title"), block.get("context")) if isinstance(each, str))
    if kind == "text":
        text = string_at(source, "data", f"{where}.source")
        return [text_part(f"{heading}\n\n{text}" if heading else text)]
    before = [text_part(heading)] if heading else []
    if kind == "content":
        inside = blocks_at(source.get("content"), f"{where}.source.content")
        return [*before, *(part for each, at in inside for part in parts_of(each, at, native))]
    name = block.get("title") if isinstance(block.get("title"), str) else "document.pdf"
    if kind == "base64":
        file = {"filename": name, "file_data": _data_url(source, where, PDF)}
    elif kind == "url":
        file = {"filename": name, "file_url": string_at(source, "url", f"{where}.source")}
    else:
        return _unreadable(kind, where, native)
    return [*before, {"type": "file", "file": file}]


def _search_result(block: Mapping[str, Any], where: str, native: NativeOnly) -> list[Part]:
    lines = [string_at(block, "title", where), string_at(block, "source", where), ""]
    for each, at in blocks_at(block.get("content"), f"{where}.content"):
        lines += [part["text"] for part in parts_of(each, at, native) if "text" in part]
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        native.note_extra(
            f"{where}.citations", f"'{where}.citations': only Anthropic's API cites search results."
        )
    return [text_part("\n".join(lines))]


def _source(block: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise wrong(f"{where}.source", "must be an object")
    return source, string_at(source, "type", f"{where}.source")


def _data_url(source: Mapping[str, Any], where: str, default_type: str) -> str:
    mime = source.get("media_type") or default_type
    if not isinstance(mime, str) or not mime:
        raise wrong(f"{where}.source.media_type", "must be a string")
    return f"data:{mime};base64,{string_at(source, 'data', f'{where}.source')}"


def _unreadable(kind: str, where: str, native: NativeOnly) -> list[Part]:
    # A file that was uploaded to Anthropic, and whatever comes after these.
    native.note(f"{where}.source", f"'{where}.source' of the type {kind!r} means nothing to another vendor.")
    return []


_READERS: Mapping[str, Callable[[Mapping[str, Any], str, NativeOnly], list[Part]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
