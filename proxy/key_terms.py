"""What a key's own terms make of a request: the model that it is forced to, and the most it may ask for.

Both are written into the request itself, so that all behind this (cache, estimates, every dialect) finds them
where a client would have said them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from keys.caller import USUAL, KeyTerms
from providers.call import Call
from providers.wires import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from proxy.errors import BadRequest
from proxy.estimating import asked_output

# The parameter that limits an answer, by the client's format. In the canonical form it is the newer of two.
_LIMITS: Mapping[str, str] = {
    CHAT: "max_completion_tokens",
    COMPLETIONS: "max_tokens",
    MESSAGES: "max_tokens",
    RESPONSES: "max_output_tokens",
}
_CANONICAL = "max_completion_tokens"
# Other names that compatible servers know it by, some of them before OpenAI's own (llama.cpp).
# https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
_SAME = ("max_completion_tokens", "max_tokens", "n_predict", "max_new_tokens", "max_length")


def on_terms(call: Call, terms: KeyTerms) -> Call:
    """Return the call as the key's terms have it. Raises BadRequest where it asks for more than allowed."""
    if terms is USUAL:
        return call
    if terms.forced_route:
        call = _forced(call, terms.forced_route)
    if terms.max_tokens is not None and call.wire in _LIMITS:
        call = _limited(call, terms.max_tokens)
    return call


def _forced(call: Call, model: str) -> Call:
    if call.model == model:
        return call
    return call._replace(
        model=model,
        asked_model=call.model,
        body={**call.body, "model": model},
        sent={**call.sent, "model": model} if call.sent else call.sent,
        verbatim=False,
    )


def _limited(call: Call, most: int) -> Call:
    """Return the call with a limit on its answer. Raises BadRequest."""
    own = _LIMITS[call.wire]
    for param, value in _named_limits(call, own):
        if type(value) is not int or not 0 <= value <= most:
            raise _too_much(param, value, most)
    named = asked_output(call.body)
    _check_thinking(call, most if named is None else named, most)
    if named is not None:
        return call
    body, sent = {**call.body, _CANONICAL: most}, call.sent
    if sent:
        sent = {**sent, own: most}
    return call._replace(body=body, sent=sent, verbatim=False)


def _named_limits(call: Call, own: str) -> Iterator[tuple[str, Any]]:
    """Yield the limits that the client names, as it calls them."""
    asked = call.sent or call.body
    names = _SAME if call.wire in (CHAT, COMPLETIONS) else (own, *_SAME[2:])
    yield from ((name, asked[name]) for name in names if asked.get(name) is not None)
    options = asked.get("options")  # Ollama's own
    if isinstance(options, dict) and options.get("num_predict") is not None:
        yield "options.num_predict", options["num_predict"]


def _check_thinking(call: Call, limit: int, most: int) -> None:
    """Refuse thoughts that would come on top of the answer's `limit`: their budget makes room for itself."""
    thinking = call.body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if type(budget) is int and budget >= limit and budget + limit > most:
        raise _too_much("thinking.budget_tokens", budget, most)


def _too_much(param: str, value: Any, most: int) -> BadRequest:
    return BadRequest(
        f"'{param}' is {str(value)[:40]}, and answers to this key have at most {most:,} tokens: ask for a "
        "whole number up to that.",
        param=param,
        code="max_tokens_exceeds_key_limit",
    )
