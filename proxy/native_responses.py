"""Between a stream of OpenAI's Responses and a whole response, as the vendor itself said them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.sse import EventSplitter, data_of
from proxy.cache import BrokenEntry
from proxy.renderers.responses_events import EventWriter

# What an item has not yet when it begins.
_BEGUN: Mapping[str, Mapping[str, Any]] = {
    "message": {"content": []},
    "function_call": {"arguments": ""},
    "reasoning": {"summary": []},
}
_LAST = ("response.completed", "response.incomplete")


class ResponsesForm:
    """The native form of the Responses format (proxy.replay)."""

    def assemble(self, stream: bytes) -> bytes:
        """Return the response in the stream's last event, which holds all of it. Raises BrokenEntry."""
        for raw in reversed(EventSplitter().feed(stream)):
            event = _object(data_of(raw))
            if event.get("type") in _LAST and isinstance(event.get("response"), dict):
                return orjson.dumps(event["response"])
        raise BrokenEntry

    def disassemble(self, body: bytes) -> bytes:
        """Return the events of a stream that would have said the response. Raises BrokenEntry."""
        response = _object(body)
        output = response.get("output")
        if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
            raise BrokenEntry
        try:
            return _written(response, output)
        except orjson.JSONEncodeError:  # nested too deeply
            raise BrokenEntry from None


def _written(response: Mapping[str, Any], output: Sequence[Mapping[str, Any]]) -> bytes:
    writer = EventWriter()
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    writer.write("response.created", response=begun)
    writer.write("response.in_progress", response=begun)
    for index, item in enumerate(output):
        _write_item(writer, index, item)
    status = "incomplete" if response.get("status") == "incomplete" else "completed"
    writer.write(f"response.{status}", response=response)
    return writer.taken()


def _write_item(writer: EventWriter, index: int, item: Mapping[str, Any]) -> None:
    """Write an item; what only OpenAI makes (searches, images) has no pieces."""
    kind = str(item.get("type"))
    begun = {**item, **_BEGUN.get(kind, {})}
    if "status" in item:
        begun["status"] = "in_progress"
    writer.write("response.output_item.added", output_index=index, item=begun)
    where = {"item_id": item.get("id"), "output_index": index}
    if kind == "message":
        for place, part in enumerate(_objects(item.get("content"))):
            _write_part(writer, {**where, "content_index": place}, part)
    elif kind == "reasoning":
        for place, part in enumerate(_objects(item.get("summary"))):
            _write_summary(writer, {**where, "summary_index": place}, part)
    elif kind == "function_call":
        arguments, name = item.get("arguments"), item.get("name")
        writer.write("response.function_call_arguments.delta", **where, delta=arguments)
        writer.write("response.function_call_arguments.done", **where, name=name, arguments=arguments)
    writer.write("response.output_item.done", output_index=index, item=item)


def _write_part(writer: EventWriter, where: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    if part.get("type") == "refusal":
        writer.write("response.content_part.added", **where, part={**part, "refusal": ""})
        writer.write("response.refusal.delta", **where, delta=part.get("refusal"))
        writer.write("response.refusal.done", **where, refusal=part.get("refusal"))
    else:
        text, logprobs = part.get("text"), part.get("logprobs") or []
        begun = {**part, "text": "", "annotations": [], "logprobs": []}
        writer.write("response.content_part.added", **where, part=begun)
        writer.write("response.output_text.delta", **where, delta=text, logprobs=logprobs)
        for number, annotation in enumerate(_objects(part.get("annotations"))):
            writer.write(
                "response.output_text.annotation.added",
                **where,
                annotation_index=number,
                annotation=annotation,
            )
        writer.write("response.output_text.done", **where, text=text, logprobs=logprobs)
    writer.write("response.content_part.done", **where, part=part)


def _write_summary(writer: EventWriter, where: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    text = part.get("text")
    writer.write("response.reasoning_summary_part.added", **where, part={**part, "text": ""})
    writer.write("response.reasoning_summary_text.delta", **where, delta=text)
    writer.write("response.reasoning_summary_text.done", **where, text=text)
    writer.write("response.reasoning_summary_part.done", **where, part=part)


def _object(text: bytes | None) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text or b"null")
    except orjson.JSONDecodeError:
        raise BrokenEntry from None
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
