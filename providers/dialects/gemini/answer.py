"""Gemini's candidates as canonical choices: read part by part, alike for whole answers and streams.

Thoughts (`thought: true`) become `reasoning_content`, never content; a signature becomes a thinking block
and, on a call, `extra_content` (providers.dialects.gemini.signatures). A call comes whole. Images that the
model made are `images`, as OpenRouter has them; grounding and citations `annotations`. What ran inside
Google (executableCode, codeExecutionResult, toolCall) is left out: the client must not run it again, and
the model says its outcome in its text. https://ai.google.dev/api/generate-content#Candidate
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2s
from typing import Any

from providers.canonical import CONTENT_FILTER, LENGTH, STOP, TOOL_CALLS
from providers.dialects.gemini.errors import error_in_body
from providers.dialects.gemini.signatures import extra_content, thinking_block
from providers.dialects.gemini.usage import usage_of
from providers.dialects.shapes import broken
from providers.dialects.toolcalls import arguments_text
from providers.events import Answer

# All others say that something was withheld or went wrong (SAFETY, RECITATION, MALFORMED_FUNCTION_CALL...):
# of OpenAI's reasons only content_filter tells that the answer is not whole.
_REASONS = {"STOP": STOP, "MAX_TOKENS": LENGTH}
_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
Delta = dict[str, Any]


class CallIds:
    """Ids for calls that Gemini gave none: unique, and short enough for every vendor (OpenAI: 40).

    They come from the answer's own `responseId`, so the same bytes always give the same ids; from chance
    where there is none.
    """

    def __init__(self) -> None:
        """Start before the first call of an answer."""
        self._stem = ""
        self._given = 0

    def next(self, response_id: Any) -> str:
        """Return the next call's id."""
        if not self._stem:
            known = isinstance(response_id, str) and response_id
            self._stem = (
                blake2s(response_id.encode(), digest_size=12).hexdigest() if known else secrets.token_hex(12)
            )
        self._given += 1
        return f"call_{self._stem}_{self._given}"


class Candidate:
    """One candidate while it comes: gives the deltas, keeps the reason of its end."""

    def __init__(self, ids: CallIds, *, one_call: bool) -> None:
        """`ids` are shared by the candidates of an answer; `one_call`: read one tool call at most."""
        self.reason: str | None = None
        self._one_call = one_call
        self._ids = ids
        self._calls = 0
        self._thinking = ""  # thoughts that no signature has closed yet
        self._cited: set[str] = set()

    def read(self, candidate: Mapping[str, Any], response_id: Any) -> Iterator[Delta]:
        """Yield what a candidate, or a piece of it, adds.

        Raises UpstreamError, and what reading a wrong shape does (translated.expected_shape).
        """
        for part in (candidate.get("content") or {}).get("parts") or ():
            yield from self._part(part, response_id)
        cited = [each for each in _citations(candidate) if each["url"] not in self._cited]
        if cited:
            self._cited.update(each["url"] for each in cited)
            yield {"annotations": [{"type": "url_citation", "url_citation": each} for each in cited]}
        # Older models say STOP in every chunk, so the last one counts.
        reason = candidate.get("finishReason")
        if reason and reason != _UNSPECIFIED:
            self.reason = str(reason)

    def finish_reason(self) -> str:
        """Return OpenAI's reason."""
        reason = _REASONS.get(self.reason or "STOP", CONTENT_FILTER)
        return TOOL_CALLS if reason == STOP and self._calls else reason

    def _part(self, part: Mapping[str, Any], response_id: Any) -> Iterator[Delta]:
        signature = part.get("thoughtSignature") or ""
        if not isinstance(signature, str):
            raise broken("a thought signature is not a text")
        if "functionCall" in part:
            yield from self._call(part["functionCall"], signature, response_id)
        elif part.get("thought"):
            yield from self._thought(part.get("text") or "", signature)
        else:
            if signature:
                yield self._block(signature)
            self._thinking = ""
            if part.get("text"):
                yield {"content": _text(part["text"])}
            elif "inlineData" in part:
                yield from _image(part["inlineData"])

    def _thought(self, text: Any, signature: str) -> Iterator[Delta]:
        if text:
            self._thinking += _text(text)
            yield {"reasoning_content": text}
        if signature:
            yield self._block(signature)

    def _call(self, call: Mapping[str, Any], signature: str, response_id: Any) -> Iterator[Delta]:
        if self._one_call and self._calls:
            return
        name, arguments = call.get("name"), call.get("args")
        if not isinstance(name, str) or not name or not isinstance(arguments, (dict, type(None))):
            raise broken("a function call has no name or no arguments")
        own = call.get("id")
        call_id = own if isinstance(own, str) and own else self._ids.next(response_id)
        delta: Delta = {
            "index": self._calls,
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments_text(arguments)},
        }
        if signature:
            delta["extra_content"] = extra_content(signature)
            yield self._block(signature, call_id=call_id)
        self._thinking = ""
        self._calls += 1
        yield {"tool_calls": [delta]}

    def _block(self, signature: str, *, call_id: str = "") -> Delta:
        block = thinking_block(self._thinking, signature, call_id=call_id)
        self._thinking = ""
        return {"thinking_blocks": [block]}


def answer_of(message: Mapping[str, Any], *, one_call: bool) -> Answer:
    """Return a whole answer, with one tool call a choice at most if `one_call`. Raises as Candidate.read."""
    if message.get("error"):
        raise error_in_body(message["error"])
    candidates = message.get("candidates") or ()
    if not isinstance(candidates, (list, tuple)):
        raise broken("its candidates have the wrong shape")
    ids = CallIds()
    choices = [
        _choice(Candidate(ids, one_call=one_call), each, place, message)
        for place, each in enumerate(candidates)
    ]
    if not choices and isinstance(message.get("promptFeedback"), dict):
        # A blocked prompt has no candidates: https://ai.google.dev/api/generate-content#PromptFeedback
        choices = [blocked_choice()]
    if not choices:
        raise broken("it has no candidates")
    return Answer(
        message={"choices": choices},
        usage=usage_of(message.get("usageMetadata")),
        finish_reasons=[choice["finish_reason"] for choice in choices],
    )


def blocked_choice() -> dict[str, Any]:
    """Return the choice that stands for a prompt that Google blocked."""
    nothing = {"role": "assistant", "content": None, "refusal": None}
    return {"index": 0, "message": nothing, "logprobs": None, "finish_reason": CONTENT_FILTER}


def logprobs_of(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return OpenAI's logprobs from Gemini's logprobsResult."""
    result = candidate.get("logprobsResult")
    if not result:
        return None
    tops = [each.get("candidates") or () for each in result.get("topCandidates") or ()]
    content = []
    for place, token in enumerate(result.get("chosenCandidates") or ()):
        others = tops[place] if place < len(tops) else ()
        content.append({**_token(token), "top_logprobs": [_token(each) for each in others]})
    return {"content": content, "refusal": None}


def _choice(
    reader: Candidate, candidate: Mapping[str, Any], place: int, message: Mapping[str, Any]
) -> dict[str, Any]:
    deltas = list(reader.read(candidate, message.get("responseId")))
    return {
        "index": place,
        "message": _message(deltas),
        "logprobs": logprobs_of(candidate),
        "finish_reason": reader.finish_reason(),
    }


def _message(deltas: Sequence[Delta]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    for delta in deltas:
        for name, value in delta.items():
            before = message.get(name)
            message[name] = value if before is None else before + value
    if "tool_calls" in message:
        message["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"} for call in message["tool_calls"]
        ]
    blocks = message.get("thinking_blocks")
    if blocks and not any(block["thinking"] for block in blocks):
        # The signature came after the text; the blocks of a whole answer say all that was thought.
        blocks[0]["thinking"] = message.get("reasoning_content") or ""
    return message


def _citations(candidate: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    grounding = candidate.get("groundingMetadata") or {}
    sources = [chunk.get("web") or {} for chunk in grounding.get("groundingChunks") or ()]
    sources += (candidate.get("citationMetadata") or {}).get("citationSources") or ()
    seen = set()
    for source in sources:
        url = source.get("uri")
        if isinstance(url, str) and url and url not in seen:
            seen.add(url)
            yield {"url": url, "title": _text(source.get("title") or "")}


def _image(held: Mapping[str, Any]) -> Iterator[Delta]:
    mime, content = held.get("mimeType"), held.get("data")
    if isinstance(mime, str) and isinstance(content, str) and mime.startswith("image/"):
        url = f"data:{mime};base64,{content}"
        yield {"images": [{"type": "image_url", "image_url": {"url": url}}]}


def _token(held: Mapping[str, Any]) -> dict[str, Any]:
    token = _text(held.get("token") or "")
    return {"token": token, "logprob": float(held.get("logProbability") or 0), "bytes": list(token.encode())}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise broken("a text is not a string")
    return value
