"""`/v1/responses`: OpenAI's Responses request, in its own form and in the canonical one.

What OpenAI alone can do (its stored conversations, its hosted tools) is noted, not refused: a vendor that
speaks the format gets the request as it came. What cannot be read is refused here for all of them.
https://platform.openai.com/docs/api-reference/responses/create
"""

from typing import Any

from providers.call import Call
from providers.wires import RESPONSES
from proxy.endpoints.base import Endpoint
from proxy.endpoints.native_only import NativeOnly
from proxy.endpoints.reading import check_depth, flag, is_verbatim, model_of, object_in
from proxy.endpoints.responses_input import messages_of
from proxy.endpoints.responses_settings import settings_of
from proxy.endpoints.responses_tools import tools_of

# What is kept at OpenAI, and why nobody else can go on with it.
_STORED = {
    "previous_response_id": "It names an answer stored at OpenAI; send the whole conversation as 'input'.",
    "conversation": "It names a conversation stored at OpenAI; send the whole of it as 'input'.",
    "prompt": "It names a prompt stored at OpenAI; send its text as 'instructions' or 'input'.",
    "store": "Only OpenAI stores answers; leave it out, or say false.",
    "background": "An answer in the background is stored at OpenAI; ask for a stream instead.",
}

_ONLY_THERE = (
    "'{param}' cannot be translated. {why} Only a provider with OpenAI's own Responses API can answer that."
)


def parse_responses(raw: bytes) -> Call:
    """Read an OpenAI Responses request. Raises BadRequest."""
    sent = object_in(raw)
    model = model_of(sent)
    stream = flag(sent, "stream")
    flag(sent, "background")
    flag(sent, "store")
    native = NativeOnly(_ONLY_THERE)
    for name, why in _STORED.items():
        if sent.get(name):
            native.note(name, why)
    body: dict[str, Any] = {
        "model": model,
        "messages": messages_of(sent, native),
        **settings_of(sent, native),
        **tools_of(sent, native),
    }
    if stream:
        body["stream"] = True
    check_depth(raw, body)
    return Call(
        wire=RESPONSES,
        model=model,
        body=body,
        raw=raw,
        stream=stream,
        verbatim=is_verbatim(raw, sent),
        sent=sent,
        only_native=native.found,
    )


RESPONSE = Endpoint("responses", parse_responses)
