"""What a call can cost at most, and what it is likely to cost, before anybody is asked.

At most: no tokenizer makes more tokens of a text than it has bytes of UTF-8, whatever the script; an image
counts as much as any vendor takes for one, and what the request does not show (files, recordings, earlier
turns, what a vendor's own tools find) as all that the model can read; the answer has as many tokens as the
request, the key or the model allows. All of it is billed at the dearest target that may answer, in its
dearest tier. Likely: a token for four bytes, and an answer as long as this key's answers of this model
usually are (proxy.learning).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from providers.call import Call
from providers.upstream import Upstream
from providers.usage import tokens_in
from providers.wires import COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, UNREAD

MOST_PROMPT = 1_000_000  # tokens; of what the request does not show, where the model does not say less
MOST_OUTPUT = 128_000  # tokens; where neither request, key nor model says less
FORWARDED_PROMPT = 128_000  # of a form, which is passed on while it arrives: pictures, a recording
FORWARDED_OUTPUT = 16_000  # of what is passed on unread
# Of each picture that is asked for: the largest has 6,240, and its three previews 100 each.
# https://platform.openai.com/docs/guides/image-generation#cost-and-latency
IMAGE_OUTPUT = 6540
USUAL_OUTPUT = 256  # where there is no history, and the request names no limit
# OpenAI: up to 1,536 patches, times 1.62 for the small models; Anthropic and Gemini take less.
# https://platform.openai.com/docs/guides/images-vision#calculating-costs
IMAGE_TOKENS = 6000
TOOLS_TOKENS = 1000  # what vendors put into a prompt that has tools: Anthropic up to 735
# Anthropic's thinking may come on top of the limit that a request names: its dialect makes room for it.
THINKING_TOKENS = 32_768
# Nano-dollars: a million dollars. No request costs that, and sums of more are no whole numbers in Redis.
MOST_COST = 10**15
_PER_MTOK = 10**6
# Parts of a prompt whose size says little of their tokens, or nothing.
_FILES = frozenset(
    [
        *("file", "input_file", "document", "document_url", "container_upload", "item_reference"),
        *("input_audio", "audio_url", "video_url", "input_video"),
    ]
)
# What a vendor runs itself, with the results in the prompt.
_READING_TOOLS = ("web_search", "web_fetch", "file_search", "code_interpreter", "code_execution", "mcp")
# OpenAI's, of turns that it has kept, and of a chat model that searches.
_EARLIER = ("previous_response_id", "conversation", "web_search_options")
# Names that servers know an answer's limit by, OpenAI's and those of compatible ones.
_LIMITS = ("max_completion_tokens", "max_tokens", "n_predict", "max_new_tokens", "max_length")


class Size(NamedTuple):
    """A call in tokens: at most, and likely. `prompts`: how many there are, each as long as a model allows.

    0: nobody knows how many.
    """

    worst_prompt: int
    worst_output: int
    prompt: int
    output: int
    prompts: int = 1

    @property
    def likely(self) -> int:
        """Return the likely tokens of prompt and answer together."""
        return self.prompt + self.output


class Costs(NamedTuple):
    """Nano-dollars, at the dearest target. `unpriced`: there is one whose price nobody knows."""

    worst: int
    expected: int
    unpriced: bool


@dataclass(frozen=True, slots=True)
class Dearest:
    """The rates (nano-dollars per million tokens) of the targets that may answer a call, until `until`.

    `rates` are pairs of input and output, of those targets alone that are not cheaper in both.
    """

    rates: Sequence[tuple[int, int]]
    usual: Sequence[tuple[int, int]]
    unpriced: bool
    prompt_limit: int | None
    output_limit: int
    until: float

    def costs(self, size: Size) -> Costs:
        """Return what a call of that size costs."""
        worst_prompt, worst_output, prompt, output, prompts = size
        if self.prompt_limit is not None and prompts:
            worst_prompt = min(worst_prompt, self.prompt_limit * prompts)
        worst = min(-(-_most(self.rates, worst_prompt, worst_output) // _PER_MTOK), MOST_COST)
        expected = -(-_most(self.usual, prompt, output) // _PER_MTOK)
        return Costs(worst, min(worst, expected), self.unpriced)


def dearest(targets: Sequence[Upstream], now: float) -> Dearest:
    """Return what the targets of a request cost at most at epoch second `now`."""
    worst, usual, until = set[tuple[int, int]](), set[tuple[int, int]](), float("inf")
    unpriced, windows, outputs = False, list[int | None](), list[int]()
    for upstream in targets:
        rates = upstream.prices.at(now)
        until = min(until, upstream.prices.changes_after(now))
        windows.append(upstream.context_window)
        outputs.append(upstream.max_output or min(upstream.context_window or MOST_OUTPUT, MOST_OUTPUT))
        if rates is None:
            unpriced = True
        else:
            worst.add((rates.dearest_input, rates.dearest_output))
            usual.add((rates.input, rates.output))
    known = [window for window in windows if window is not None]
    return Dearest(
        rates=_not_cheaper(worst),
        usual=_not_cheaper(usual),
        unpriced=unpriced,
        prompt_limit=max(known) if known and len(known) == len(windows) else None,
        output_limit=max(outputs, default=MOST_OUTPUT),
        until=until,
    )


def size_of(
    call: Call, *, prompt_bytes: int, output_limit: int, learned: int | None, thinks_beyond: bool
) -> Size:
    """Return a call's size. `prompt_bytes`: of its text, with images as so many; `learned`: usual output.

    `thinks_beyond`: may a target think more than the limit that the call names?
    """
    if call.wire == COUNT_TOKENS:
        return Size(0, 0, 0, 0)
    prompt = tokens_in(prompt_bytes)
    worst_prompt = prompt_bytes + _unseen(call)
    if call.wire == EMBEDDINGS:
        return Size(worst_prompt, 0, prompt, 0, prompts=0)
    if call.wire == UNREAD:
        worst_output = max(FORWARDED_OUTPUT, IMAGE_OUTPUT * call.choices)
        if not worst_prompt:  # a form
            return Size(FORWARDED_PROMPT, worst_output, prompt, 0)
        return Size(worst_prompt, worst_output, prompt, 0, prompts=0)
    body = call.body
    named = most_named(call) or None  # some servers take 0 for no limit
    most = output_limit if named is None else named
    if thinks_beyond and named is not None:
        most += _thinking(body)
    if body.get("prediction"):  # what of it is wrong is billed beside the answer
        most += prompt_bytes
    usual = learned if learned is not None else (USUAL_OUTPUT if named is None else named)
    prompts = call.choices if call.wire == COMPLETIONS else 1
    return Size(worst_prompt, most * call.choices, prompt, min(usual, most) * call.choices, prompts=prompts)


def asked_output(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens of answer a canonical request asks for at most; None: it does not say."""
    limit = body.get("max_completion_tokens")
    if limit is None:
        limit = body.get("max_tokens")
    return limit if type(limit) is int and limit >= 0 else None


def most_named(call: Call) -> int:
    """Return the highest limit that a call names: of two, each server knows another. 0: none that holds."""
    body, sent = call.body, call.sent
    named = [limit for name in _LIMITS if type(limit := body.get(name)) is int]
    if sent:
        named += [limit for name in _LIMITS if type(limit := sent.get(name)) is int]
    return max(named) if named and min(named) > 0 else 0


def thinks_beyond(upstreams: Sequence[Upstream]) -> bool:
    """Is there a target that may think more than a request's limit?"""
    return any(upstream.account.dialect == "anthropic" for upstream in upstreams)


def _thinking(body: Mapping[str, Any]) -> int:
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if type(budget) is int and budget > 0:
        return budget
    return THINKING_TOKENS if thinking or body.get("reasoning_effort") else 0


def _unseen(call: Call) -> int:
    """Return the tokens that a body's size says nothing of: images behind URLs, files, what tools bring."""
    raw, unseen = call.raw, 0
    if _reads_more(call.sent or call.body):
        unseen += MOST_PROMPT
    if b'"image' in raw:
        unseen += IMAGE_TOKENS * (
            raw.count(b'"image"') + raw.count(b'"image_url"') + raw.count(b'"input_image"')
        )
    return unseen + TOOLS_TOKENS if b'"tools"' in raw else unseen


def _most(rates: Sequence[tuple[int, int]], prompt: int, output: int) -> int:
    if len(rates) == 1:  # of nearly every route
        ((each, other),) = rates
        return prompt * each + output * other
    return max((prompt * each + output * other for each, other in rates), default=0)


def _reads_more(asked: Mapping[str, Any]) -> bool:
    """Does the model read what the request does not show?"""
    if any(asked.get(name) for name in _EARLIER):
        return True
    if isinstance(asked.get("prompt"), dict):  # OpenAI's, by its id
        return True
    tools = asked.get("tools")
    if isinstance(tools, list) and any(
        isinstance(tool, dict) and str(tool.get("type")).startswith(_READING_TOOLS) for tool in tools
    ):
        return True
    return _has_files(asked.get("messages")) or _has_files(asked.get("input"))


def _has_files(parts: Any) -> bool:
    return isinstance(parts, list) and any(
        isinstance(part, dict) and (str(part.get("type")) in _FILES or _has_files(part.get("content")))
        for part in parts
    )


def _not_cheaper(rates: set[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    return [
        (each, other)
        for each, other in rates
        if not any((more, much) != (each, other) and more >= each and much >= other for more, much in rates)
    ]
