"""The tables of docs/providers.md say what the dialects do: each cell is tried on a request or an answer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from providers.call import Call
from providers.dialects import DIALECTS
from providers.errors import UnsupportedParameter
from providers.tests.samples import make_call, make_upstream
from providers.upstream import UpstreamRequest
from proxy import endpoints
from proxy.renderers.messages_whole import stop_reason_of
from proxy.renderers.responses_object import status_of
from tests.provider_samples import MESSAGES_OF, MODELS, PARAMETERS, answer_of
from tests.servers import CHECKOUT

PAGE = (CHECKOUT / "docs" / "providers.md").read_text()
_FIRST_FIELDS = re.compile(r"`[^`]+`(?:, `[^`]+`)*")
Body = Mapping[str, Any]
Row = tuple[str, Mapping[str, str]]


def rows(mark: str) -> list[Row]:
    """Return the rows of the tables after `<!-- mark -->`: the label, and the cells by column."""
    found: list[Row] = []
    for part in PAGE.split(f"<!-- {mark} -->\n")[1:]:
        head, _, *lines = part.split("\n\n")[0].splitlines()
        columns = [_column(name) for name in _cells(head)[1:]]
        found += [(label, dict(zip(columns, cells, strict=True))) for label, *cells in map(_cells, lines)]
    assert found
    return found


def _column(heading: str) -> str:
    dialect = heading.split(maxsplit=1)[0]
    return dialect if dialect in DIALECTS else heading.replace("`", "")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def cases(mark: str) -> list[Any]:
    return [
        pytest.param(label, dialect, cell, id=f"{dialect} {label}")
        for label, cells in rows(mark)
        for dialect, cell in cells.items()
    ]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def fields_of(cell: str) -> list[str]:
    """Return the fields that a cell begins with."""
    found = _FIRST_FIELDS.match(cell)
    return spans(found[0]) if found else []


def encode(dialect: str, body: Body, *, drop: bool = False) -> UpstreamRequest:
    upstream = make_upstream(dialect, MODELS[dialect], dialect=dialect, drop_unsupported_params=drop)
    return DIALECTS[dialect].encode(make_call(**body), upstream)


def refusal(dialect: str, body: Body, *, drop: bool = False) -> str:
    with pytest.raises(UnsupportedParameter) as refused:
        encode(dialect, body, drop=drop)
    return refused.value.param


def at(sent: Any, path: str) -> Any:
    """Return what stands at a path like `tools[].name`."""
    for step in path.split("."):
        sent = sent[step.removesuffix("[]")]
        if step.endswith("[]"):
            sent = sent[0]
    return sent


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(("label", "dialect", "cell"), cases("parameters"))
def test_it_does_with_a_parameter_what_the_page_says(label: str, dialect: str, cell: str) -> None:
    for label_of_one in label.split(", "):
        check_parameter(label_of_one.replace("`", ""), dialect, cell)


def check_parameter(label: str, dialect: str, cell: str) -> None:
    body = PARAMETERS[label]
    name = label.split(maxsplit=1)[0]
    told = "tools.function.strict" if label == "tools with strict" else name
    if cell.startswith("`400"):
        assert refusal(dialect, body) == name
        if cell.startswith("`400!`"):
            assert refusal(dialect, body, drop=True) == name
        else:
            request = encode(dialect, body, drop=True)
            assert name in request.dropped_params
            assert name not in orjson.loads(request.body)
        return
    request = encode(dialect, body)
    sent = orjson.loads(request.body)
    if cell.startswith("`hint`"):
        assert request.dropped_params == (told,)
        assert name not in sent or told != name
        return
    assert request.dropped_params == ()
    if cell.startswith("="):
        assert sent[name] == body[name]
    elif cell.startswith(("kept by the gateway", "not said")):
        assert not {name, "think"} & set(sent)
    elif cell.startswith("no "):
        assert spans(cell)[0] not in sent
    else:
        check_fields(sent, cell)


def check_fields(sent: Body, cell: str) -> None:
    fields = fields_of(cell)
    assert fields
    for field in fields:
        path, _, value = field.partition(": ")
        found = at(sent, path)
        assert str(found) == value if value else found not in (None, "", [], {})


def test_it_has_a_row_for_each_parameter_of_openai() -> None:
    named = {name for label, _ in rows("parameters") for name in spans(label)}
    assert set(CompletionCreateParamsBase.__annotations__) - named == {"messages", "model", "stream_options"}


def test_it_tries_every_row() -> None:
    labels = {one.replace("`", "") for label, _ in rows("parameters") for one in label.split(", ")}
    assert labels == set(PARAMETERS)
    assert {label for label, _ in rows("content")} == set(MESSAGES_OF)


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(("label", "dialect", "cell"), cases("content"))
def test_it_does_with_a_message_what_the_page_says(label: str, dialect: str, cell: str) -> None:
    body = {"messages": MESSAGES_OF[label]}
    if cell.startswith("`400!`"):
        for drop in (False, True):
            assert refusal(dialect, body, drop=drop).startswith("messages[")
        return
    request = encode(dialect, body)
    if cell.startswith("`hint`"):
        (told,) = request.dropped_params
        assert told.startswith("messages.")
        assert told.rpartition(".")[2] in label
        return
    assert request.dropped_params == ()
    assert "400" not in cell or fields_of(cell)
    for word in (*fields_of(cell), *re.findall(r"(?:role|in the|with) `([^`]+)`", cell)):
        assert f'"{word.rpartition(".")[2]}"'.encode() in request.body


# ---------------------------------------------------------------- endpoints

_SAID = [{"role": "user", "content": "Hello"}]
_ASKED: Mapping[str, tuple[Any, Body]] = {
    "`/v1/chat/completions`": (endpoints.parse_chat, {"messages": _SAID}),
    "`/v1/completions`": (endpoints.parse_completions, {"prompt": "Hello"}),
    "`/v1/completions` with `suffix`": (endpoints.parse_completions, {"prompt": "Hello", "suffix": "!"}),
    "`/v1/embeddings`": (endpoints.parse_embeddings, {"input": "Hello"}),
    "`/v1/messages`": (endpoints.parse_messages, {"messages": _SAID, "max_tokens": 9}),
    "`/v1/messages/count_tokens`": (endpoints.parse_count_tokens, {"messages": _SAID}),
    "`/v1/responses`": (endpoints.parse_responses, {"input": "Hello"}),
}


@pytest.mark.parametrize(("label", "dialect", "cell"), cases("endpoints"))
def test_it_asks_where_the_page_says(label: str, dialect: str, cell: str) -> None:
    parse, body = _ASKED[label]
    call: Call = parse(orjson.dumps({"model": "m", **body}))
    upstream = make_upstream(dialect, "m", dialect=dialect, base_url="https://vendor.test")
    if cell == "estimated":
        assert not DIALECTS[dialect].counts_tokens
    elif cell == "`400`":
        with pytest.raises(UnsupportedParameter):
            DIALECTS[dialect].encode(call, upstream)
    else:
        request = DIALECTS[dialect].encode(call, upstream)
        assert [request.path.replace("/m:", "/{model}:")] == spans(cell)
        assert (request.wire == call.wire) == cell.startswith("**")


# ---------------------------------------------------------------- answers


def finish_cases() -> Iterator[Any]:
    for label, cells in rows("finish reasons"):
        (reason,) = spans(label)
        for dialect in (name for name in MODELS if name in cells):
            words = spans(cells[dialect])
            if "any other" in cells[dialect] and "after" not in cells[dialect]:
                words.append("never_heard_of")
            for word in words:
                yield pytest.param(dialect, word, reason, id=f"{dialect} {word}")


@pytest.mark.parametrize(("dialect", "word", "reason"), list(finish_cases()))
def test_it_reads_a_finish_reason_as_the_page_says(dialect: str, word: str, reason: str) -> None:
    body = answer_of(dialect, word, calls=reason == "tool_calls")
    assert DIALECTS[dialect].decode(body, make_call()).finish_reasons in ([reason], (reason,))


@pytest.mark.parametrize("dialect", ["gemini", "ollama"])
def test_it_tells_of_calls_that_ended_like_any_answer(dialect: str) -> None:
    body = answer_of(dialect, {"gemini": "STOP", "ollama": "stop"}[dialect], calls=True)
    assert list(DIALECTS[dialect].decode(body, make_call()).finish_reasons) == ["tool_calls"]


def test_it_writes_finish_reasons_as_the_page_says() -> None:
    for label, cells in rows("finish reasons"):
        (reason,) = spans(label)
        assert spans(cells["to /v1/messages"]) == [stop_reason_of(reason, uses_tools=False)]
        assert spans(cells["to /v1/responses"]) == [status_of(reason)]


def usage_cases() -> Sequence[Any]:
    return [
        pytest.param(dialect, field, count, id=f"{dialect} {field} {count}")
        for count, cells in rows("usage")
        for dialect, cell in cells.items()
        for field in spans(cell)
    ]


@pytest.mark.parametrize(("dialect", "field", "count"), usage_cases())
def test_it_counts_what_the_page_says(dialect: str, field: str, count: str) -> None:
    answer = DIALECTS[dialect].decode(answer_of(dialect, usage={field: 5}), make_call())
    assert answer.usage is not None
    assert getattr(answer.usage, count) == 5
