"""The items of a response's output while they are being written: thoughts, words, calls of functions.

Each writes the events that OpenAI sends for it, from `response.output_item.added` to `.done`
(https://platform.openai.com/docs/api-reference/responses-streaming), and is JSON at the end.
"""

from collections.abc import Mapping
from typing import Any

from providers.carried import EXTRA, carry
from proxy.renderers.responses_events import EventWriter, text_frame


class Item:
    """What all items have: an id, their place in the output, a beginning and an end."""

    prefix = ""

    def __init__(self, writer: EventWriter, place: int, identity: str) -> None:
        """Take a place in the output; `begin` writes it."""
        self.writer = writer
        self.place = place
        self.id = f"{self.prefix}_{identity}_{place}"
        self.ended = False

    def begin(self) -> None:
        """Write that the item is there."""
        self.writer.write(
            "response.output_item.added", output_index=self.place, item=self.to_json("in_progress")
        )

    def end(self, status: str) -> None:
        """Write that the item is whole, once."""
        if self.ended:
            return
        self.ended = True
        self.end_part()
        self._status = status
        self.writer.write("response.output_item.done", output_index=self.place, item=self.to_json(status))

    def end_part(self) -> None:
        """Write the end of what is open inside the item."""

    def to_json(self, status: str) -> dict[str, Any]:
        """Return the item."""
        raise NotImplementedError

    def final(self) -> dict[str, Any]:
        """Return the item as it ended."""
        return self.to_json(self._status)


class Reasoning(Item):
    """Thoughts: told as a summary, carried by the client as `encrypted_content` for the vendor."""

    prefix = "rs"

    def __init__(self, writer: EventWriter, place: int, identity: str) -> None:
        """Begin without a thought."""
        super().__init__(writer, place, identity)
        self._summary: list[dict[str, str]] = []
        self._blocks: list[Any] = []
        self._open: list[str] = []
        self._frame = b""

    def think(self, text: str) -> None:
        """Write a piece of thought."""
        where = self._where(len(self._summary))
        if not self._open:
            part = {"type": "summary_text", "text": ""}
            self.writer.write("response.reasoning_summary_part.added", **where, part=part)
            self._frame = text_frame("response.reasoning_summary_text.delta", **where)
        self._open.append(text)
        self.writer.write_text(self._frame, text)

    def add_block(self, block: Any) -> None:
        """Keep what the vendor wants back; it ends the thought that it signs."""
        self.end_part()
        self._blocks.append(block)

    def end_part(self) -> None:
        """End the thought."""
        if not self._open:
            return
        where, text = self._where(len(self._summary)), "".join(self._open)
        part = {"type": "summary_text", "text": text}
        self.writer.write("response.reasoning_summary_text.done", **where, text=text)
        self.writer.write("response.reasoning_summary_part.done", **where, part=part)
        self._summary.append(part)
        self._open = []

    def to_json(self, status: str) -> dict[str, Any]:
        """Return the item; its content is known when it has ended."""
        content = None if status == "in_progress" else carry(self._blocks)
        return {"id": self.id, "type": "reasoning", "summary": self._summary, "encrypted_content": content}

    def _where(self, summary: int) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.place, "summary_index": summary}


class Message(Item):
    """Words: text with its citations, or a refusal."""

    prefix = "msg"

    def __init__(self, writer: EventWriter, place: int, identity: str) -> None:
        """Begin without a word."""
        super().__init__(writer, place, identity)
        self._content: list[dict[str, Any]] = []
        self._open = ""
        self._pieces: list[str] = []
        self._annotations: list[Any] = []
        self._logprobs: list[Any] = []
        self._frame = b""

    def say(self, text: str, logprobs: list[Any] | None = None) -> None:
        """Write a piece of text; an empty one is the beginning of a text."""
        if self._open != "output_text":
            self._begin_part("output_text")
        if not text:
            return
        self._pieces.append(text)
        if logprobs:
            self._logprobs += logprobs
            where = self._where()
            self.writer.write("response.output_text.delta", **where, delta=text, logprobs=logprobs)
        else:
            self.writer.write_text(self._frame, text)

    def refuse(self, text: str) -> None:
        """Write a piece of a refusal."""
        if self._open != "refusal":
            self._begin_part("refusal")
        self._pieces.append(text)
        self.writer.write_text(self._frame, text)

    def annotate(self, annotation: Mapping[str, Any]) -> None:
        """Write a citation of the text."""
        if self._open != "output_text":
            self._begin_part("output_text")
        self.writer.write(
            "response.output_text.annotation.added",
            **self._where(),
            annotation_index=len(self._annotations),
            annotation=annotation,
        )
        self._annotations.append(annotation)

    def end_part(self) -> None:
        """End the text or the refusal."""
        if not self._open:
            return
        where, part, text = self._where(), self._part(), "".join(self._pieces)
        if self._open == "output_text":
            self.writer.write("response.output_text.done", **where, text=text, logprobs=self._logprobs)
        else:
            self.writer.write("response.refusal.done", **where, refusal=text)
        self.writer.write("response.content_part.done", **where, part=part)
        self._content.append(part)
        self._open = ""

    def to_json(self, status: str) -> dict[str, Any]:
        """Return the item."""
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": self._content,
        }

    def _begin_part(self, kind: str) -> None:
        self.end_part()
        self._open, self._pieces, self._annotations, self._logprobs = kind, [], [], []
        where = self._where()
        self.writer.write("response.content_part.added", **where, part=self._part())
        if kind == "output_text":
            self._frame = text_frame("response.output_text.delta", **where, logprobs=[])
        else:
            self._frame = text_frame("response.refusal.delta", **where)

    def _part(self) -> dict[str, Any]:
        text = "".join(self._pieces)
        if self._open == "refusal":
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "annotations": self._annotations,
            "logprobs": self._logprobs,
            "text": text,
        }

    def _where(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.place, "content_index": len(self._content)}


class FunctionCall(Item):
    """A call of one of the client's functions."""

    prefix = "fc"

    def __init__(self, writer: EventWriter, place: int, identity: str, call: Mapping[str, Any]) -> None:
        """Begin with a call's first piece, which has its id and its function's name."""
        super().__init__(writer, place, identity)
        function = call.get("function") or {}
        self.call_id = str(call.get("id") or f"call_{identity}_{place}")
        self._name = str(function.get("name") or "")
        self._pieces: list[str] = []
        self._extra: Any = None
        self._frame = text_frame(
            "response.function_call_arguments.delta", item_id=self.id, output_index=self.place
        )

    def go_on(self, call: Mapping[str, Any]) -> None:
        """Write a piece of the arguments."""
        self._extra = call.get(EXTRA) or self._extra
        piece = (call.get("function") or {}).get("arguments")
        if isinstance(piece, str) and piece:
            self._say(piece)

    def end(self, status: str) -> None:
        """Write that the call is whole; the arguments of one without any are an object all the same."""
        if status == "completed" and not self._pieces:
            self._say("{}")
        super().end(status)

    def _say(self, piece: str) -> None:
        self._pieces.append(piece)
        self.writer.write_text(self._frame, piece)

    def end_part(self) -> None:
        """End the arguments."""
        self.writer.write(
            "response.function_call_arguments.done",
            item_id=self.id,
            output_index=self.place,
            name=self._name,
            arguments="".join(self._pieces),
        )

    def to_json(self, status: str) -> dict[str, Any]:
        """Return the item."""
        item = {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "arguments": "".join(self._pieces),
            "call_id": self.call_id,
            "name": self._name,
        }
        return item if self._extra is None else {**item, EXTRA: self._extra}
