"""The content of a Responses item as chat's: a string, or parts."""

from collections.abc import Callable, Mapping
from typing import Any

from proxy.endpoints.native_only import NativeOnly, wrong

Part = Mapping[str, Any]
_DETAILS = (None, "auto", "low", "high")


def content_of(content: Any, where: str, native: NativeOnly) -> Any:
    """Return a string or a list of canonical parts. Raises BadRequest."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong(where, "must be a string or a list")
    parts = [_part(part, f"{where}[{index}]", native) for index, part in enumerate(content)]
    known = [part for part in parts if part is not None]
    if len(known) == 1 and known[0].keys() == {"type", "text"}:  # some servers take strings only
        return known[0]["text"]
    return known


def _part(part: Any, where: str, native: NativeOnly) -> dict[str, Any] | None:
    if not isinstance(part, dict):
        raise wrong(where, "must be an object")
    kind = part.get("type")
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "must be a string")
    read = _READERS.get(kind)
    if read is None:
        known = ", ".join(_READERS)
        native.note(f"{where}.type", f"Of content, {known} are known here; {kind!r} is not.")
        return None
    made = read(part, where, native)
    # Where the client wants its prompt cached up to: Anthropic's breakpoint says the same.
    if made is not None and part.get("prompt_cache_breakpoint"):
        made["cache_control"] = {"type": "ephemeral"}
    return made


def _text(part: Part, where: str, _: NativeOnly) -> dict[str, Any]:
    return {"type": "text", "text": _string(part, "text", where)}


def _refusal(part: Part, where: str, _: NativeOnly) -> dict[str, Any]:
    # What the model said when it refused is what it said.
    return {"type": "text", "text": _string(part, "refusal", where)}


def _image(part: Part, where: str, native: NativeOnly) -> dict[str, Any] | None:
    if part.get("image_url") is None:
        if part.get("file_id") is None:
            raise wrong(f"{where}.image_url", "is missing")
        native.note(f"{where}.file_id", "It names a file that OpenAI has stored; send the image itself.")
        return None
    image = {"url": _string(part, "image_url", where)}
    detail = part.get("detail")
    if detail not in _DETAILS:
        native.note_extra(f"{where}.detail", f"The detail {detail!r} is known to OpenAI alone.")
    elif detail is not None:
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _file(part: Part, where: str, _: NativeOnly) -> dict[str, Any]:
    names = ("file_data", "file_url", "file_id", "filename")
    file = {name: _string(part, name, where) for name in names if part.get(name) is not None}
    if not file.keys() - {"filename"}:
        raise wrong(where, "must have 'file_data', 'file_url' or 'file_id'")
    return {"type": "file", "file": file}


def _audio(part: Part, where: str, _: NativeOnly) -> dict[str, Any]:
    audio = part.get("input_audio")
    if not isinstance(audio, dict):
        raise wrong(f"{where}.input_audio", "must be an object")
    return {"type": "input_audio", "input_audio": audio}


def _string(part: Part, name: str, where: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise wrong(f"{where}.{name}", "must be a string")
    return value


_READERS: Mapping[str, Callable[[Part, str, NativeOnly], dict[str, Any] | None]] = {
    "input_text": _text,
    "output_text": _text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}
