"""A sample for each row of the tables in docs/providers.md, and vendors' answers made to measure."""

from collections.abc import Mapping
from typing import Any

import orjson

MODELS: Mapping[str, str] = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "mistral": "mistral-medium-latest",
    "ollama": "qwen3",
}
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_FUNCTION = {"name": "weather", "description": "Tells the weather.", "parameters": _SCHEMA}
_TOOLS = [{"type": "function", "function": _FUNCTION}]
_NAMED = {"type": "function", "function": {"name": "weather"}}
_ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [_NAMED]}}
_FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA, "strict": True}}
_SIMPLE: Mapping[str, Any] = {
    "max_tokens": 50,
    "max_completion_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.5,
    "stop": ["END"],
    "n": 2,
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "reasoning_effort": "high",
    "verbosity": "low",
    "tools": _TOOLS,
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "Hello"},
    "web_search_options": {"search_context_size": "low"},
    "moderation": {"model": "omni-moderation-latest"},
    "functions": [_FUNCTION],
    "function_call": "auto",
    "user": "u-1",
    "safety_identifier": "u-1",
    "metadata": {"team": "blue"},
    "store": True,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "top_k": 5,
    "cache_control": {"type": "ephemeral"},
    "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "cached_content": "cachedContents/1",
    "safe_prompt": True,
    "prompt_mode": "reasoning",
    "guardrails": [],
    "repetition_penalty": 1.1,
    "keep_alive": "5m",
    "think": True,
    "options": {"num_ctx": 8192},
}
# The body of a request by the label of a row in the tables of parameters.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    **{name: {name: value} for name, value in _SIMPLE.items()},
    "top_logprobs": {"top_logprobs": 3, "logprobs": True},
    "tools with strict": {"tools": [{"type": "function", "function": {**_FUNCTION, "strict": True}}]},
    "tool_choice none": {"tool_choice": "none", "tools": _TOOLS},
    "tool_choice required": {"tool_choice": "required", "tools": _TOOLS},
    "tool_choice a function": {"tool_choice": _NAMED, "tools": _TOOLS},
    "tool_choice allowed_tools": {"tool_choice": _ALLOWED, "tools": _TOOLS},
    "parallel_tool_calls false": {"parallel_tool_calls": False, "tools": _TOOLS},
    "response_format json_object": {"response_format": {"type": "json_object"}},
    "response_format json_schema": {"response_format": _FORM},
    "modalities audio": {"modalities": ["text", "audio"]},
    "modalities image": {"modalities": ["text", "image"]},
    **{f"service_tier {tier}": {"service_tier": tier} for tier in ("auto", "default", "flex")},
}

_PNG = "data:image/png;base64,iVBORw0KGgo="
_PDF = "data:application/pdf;base64,JVBERi0="


def _user(*parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "Look"}, *parts]}]


def _image(**fields: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": fields}


def _file(**fields: str) -> dict[str, Any]:
    return {"type": "file", "file": fields}


def _thread(*, call: Mapping[str, Any] = {}, result: Any = "sunny", **fields: Any) -> list[dict[str, Any]]:
    """Return a conversation with a tool's call and result; `fields` are the assistant's message's."""
    asked = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}, **call}
    answered = result if isinstance(result, dict) else {"content": result}
    return [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": None, "tool_calls": [asked], **fields},
        {"role": "tool", "tool_call_id": "call_1", **answered},
    ]


_SIGNED = [
    {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
    {"type": "thinking", "thinking": "Hm.", "signature": "gemini:c2lnbmVk"},
]
_GOOGLES = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
_CACHED = {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}}
_TEXT = {"type": "text", "text": "Here"}
# The messages of a request by the label of a row in the table of messages.
MESSAGES_OF: Mapping[str, list[Any]] = {
    "`system`, `developer`, anywhere": [*_user(), {"role": "developer", "content": "Be brief."}],
    "`user`": _user(),
    "`assistant`": [*_user(), {"role": "assistant", "content": "Yes?"}, *_user()],
    "a last `assistant` message": [*_user(), {"role": "assistant", "content": "It is"}],
    "`tool`": _thread(),
    "other roles, `function_call`": [*_user(), {"role": "function", "name": "weather", "content": "sunny"}],
    "`name` of a speaker": [{"role": "user", "name": "ada", "content": "Hello"}],
    "text": _user(),
    "image, data URL": _user(_image(url=_PNG)),
    "image, http URL": _user(_image(url="https://example.com/a.png")),
    "`detail` of an image": _user(_image(url=_PNG, detail="low")),
    "file, data": _user(_file(filename="a.pdf", file_data=_PDF)),
    "file, `file_url`": _user(_file(file_url="https://example.com/a.pdf")),
    "file, `file_id`": _user(_file(file_id="file-1")),
    "audio": _user({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
    "`video_url`": _user({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}),
    "tool call": _thread(),
    "image in a tool's result": _thread(result=[_TEXT, _image(url=_PNG)]),
    "`is_error` of a tool": _thread(result={"content": "no", "is_error": True}),
    "`reasoning_content`": _thread(reasoning_content="Hm."),
    "`thinking_blocks`": _thread(thinking_blocks=_SIGNED),
    "`extra_content` of a call": _thread(call=_GOOGLES),
    "`cache_control`": [{"role": "user", "content": [_CACHED]}],
}


def answer_of(
    dialect: str, word: str = "", *, calls: bool = False, usage: Mapping[str, int] | None = None
) -> bytes:
    """Return a vendor's whole answer that ended for the reason `word`; a dot in a count is a level."""
    counts: dict[str, Any] = {}
    for path, count in (usage or {}).items():
        *outer, name = path.split(".")
        holder = counts
        for step in outer:
            holder = holder.setdefault(step, {})
        holder[name] = count
    return orjson.dumps(_ANSWERS[dialect](word, counts, calls))


def _openai(word: str, counts: Mapping[str, Any], calls: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "Hi"}
    if calls:
        message["tool_calls"] = [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ]
    choice = {"index": 0, "message": message, "finish_reason": word or "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 0, **counts}}


def _anthropic(word: str, counts: Mapping[str, Any], calls: bool) -> dict[str, Any]:
    block = (
        {"type": "tool_use", "id": "c", "name": "f", "input": {}} if calls else {"type": "text", "text": "Hi"}
    )
    usage = {"input_tokens": 0, "output_tokens": 0, **counts}
    return {"type": "message", "content": [block], "stop_reason": word or "end_turn", "usage": usage}


def _gemini(word: str, counts: Mapping[str, Any], calls: bool) -> dict[str, Any]:
    part = {"functionCall": {"name": "f", "args": {}}} if calls else {"text": "Hi"}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": word or "STOP"}
    return {"candidates": [candidate], "usageMetadata": {"totalTokenCount": 9, **counts}}


def _ollama(word: str, counts: Mapping[str, Any], calls: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "Hi"}
    if calls:
        message["tool_calls"] = [{"function": {"name": "f", "arguments": {}}}]
    return {"message": message, "done": True, "done_reason": word or "stop", **counts}


_ANSWERS = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "mistral": _openai,
    "ollama": _ollama,
}
