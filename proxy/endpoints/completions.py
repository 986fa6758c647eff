"""`/v1/completions`: OpenAI's text completions, to vendors that have them and, as a chat, to all others.

https://platform.openai.com/docs/api-reference/completions/create

A vendor that speaks the format gets the client's own request. For all others the prompt is one user's
message; what no chat can say (`only_native`) is refused by name. `echo` is the renderer's. No default of
`max_tokens` is put in: OpenAI's 16 belongs to its own models.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.call import Call, Untranslatable
from providers.wires import COMPLETIONS
from proxy.endpoints.base import Endpoint
from proxy.endpoints.reading import (
    are_tokens,
    check_texts,
    choices_of,
    flag,
    is_verbatim,
    model_of,
    object_in,
    wants_usage,
)
from proxy.errors import BadRequest

# Said in another way to a chat, or to nobody but us.
_OWN = frozenset({"prompt", "echo", "suffix", "best_of", "logprobs", "messages"})
# A completion has text alone: there would be no place for the answer.
_BEYOND_TEXT = ("tools", "tool_choice", "functions", "function_call", "audio", "modalities")


def parse_completions(raw: bytes) -> Call:
    """Read an OpenAI completion request. Raises BadRequest."""
    body = object_in(raw)
    model = model_of(body)
    prompts = prompts_in(body)
    flag(body, "echo")
    stream = flag(body, "stream")
    return Call(
        wire=COMPLETIONS,
        model=model,
        body=_chat(body, prompts),
        raw=raw,
        stream=stream,
        wants_usage=wants_usage(body, stream=stream),
        choices=choices_of(body) * max(len(prompts), 1),
        verbatim=is_verbatim(raw, body),
        sent=body,
        only_native=_untranslatable(body, prompts),
    )


def prompts_in(body: Mapping[str, Any]) -> Sequence[Any]:
    """Return the prompts, each a string or a list of tokens; none where there is none. Raises BadRequest."""
    prompt = body.get("prompt")
    if prompt is None:
        return ()
    if isinstance(prompt, str):
        return (prompt,)
    if not isinstance(prompt, list) or not prompt:
        raise BadRequest(
            "'prompt' must be a string, a list of tokens, or a list of those that is not empty.",
            param="prompt",
        )
    check_texts(prompt, "prompt")
    return (prompt,) if are_tokens(prompt) else prompt


def _chat(body: Mapping[str, Any], prompts: Sequence[Any]) -> dict[str, Any]:
    """Return the canonical request: the prompt as a user's message."""
    text = "\n".join(prompt for prompt in prompts if isinstance(prompt, str))
    chat = {name: value for name, value in body.items() if name not in _OWN}
    chat["messages"] = [{"role": "user", "content": text}]
    return chat


def _untranslatable(body: Mapping[str, Any], prompts: Sequence[Any]) -> Untranslatable | None:
    """Return what of the request no chat can say, and why."""
    why = _prompt_problem(prompts)
    if why:
        return Untranslatable("prompt", why)
    if body.get("suffix"):
        return Untranslatable(
            "suffix", "This model answers as a chat: it cannot fill in text before a 'suffix'."
        )
    # Without a choice among more candidates than are returned, best_of says nothing.
    if body.get("best_of") not in (None, 1, body.get("n") or 1):
        return Untranslatable(
            "best_of", "This model answers as a chat: it cannot give the 'best_of' several completions."
        )
    if body.get("logprobs") is not None and body["logprobs"] is not False:  # 0 asks for some, too
        return Untranslatable(
            "logprobs",
            "This model answers as a chat, whose log probabilities have another form: "
            "leave 'logprobs' out, or use /v1/chat/completions.",
        )
    for name in _BEYOND_TEXT:
        if body.get(name):
            return Untranslatable(name, f"A completion is text alone: use /v1/chat/completions for {name!r}.")
    return None


def _prompt_problem(prompts: Sequence[Any]) -> str:
    if len(prompts) > 1:
        return "This model answers as a chat: it takes one 'prompt' in a request, not several."
    if not prompts or not prompts[0]:
        return "This model answers as a chat: it needs a 'prompt' that is not empty."
    if not isinstance(prompts[0], str):
        return "This model answers as a chat: it takes the 'prompt' as text, not as tokens."
    return ""


COMPLETION = Endpoint("completions", parse_completions)
