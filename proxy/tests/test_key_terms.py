"""A key's own terms, from the request that a client sends to the one that a vendor gets."""

import ipaddress

import orjson
import pytest

from keys.caller import USUAL, Caller, KeyTerms
from keys.secret import digest
from providers.dialects import DIALECTS
from providers.quirks import read_quirks
from providers.tests.samples import make_upstream
from proxy import model_list
from proxy.asgi import at_once, lane
from proxy.endpoints import (
    parse_chat,
    parse_completions,
    parse_count_tokens,
    parse_embeddings,
    parse_messages,
    parse_responses,
)
from proxy.errors import BadRequest
from proxy.key_terms import on_terms
from proxy.tests.fakes import SECRET, Client, chat_request, make_snapshot, refuses, route_row, says
from proxy.tests.test_encore import hit, request
from proxy.tests.test_gateway import ask, records, routed

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "gpt-4o", "messages": HELLO}
COMPLETIONS = {"model": "gpt-4o", "prompt": "hello"}
MESSAGES = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 50}
RESPONSES = {"model": "gpt-4o", "input": "hello"}


def under(parse, body, **terms):
    return on_terms(parse(orjson.dumps(body)), KeyTerms(**terms))


def sent_to(dialect, call, **account):
    upstream = make_upstream(dialect, call.model, dialect=dialect, **account)
    return orjson.loads(DIALECTS[dialect].encode(call, upstream).body)


def caller(**fields):
    terms = {name: fields.pop(name) for name in list(fields) if name != "allowed"}
    return Caller(1, 2, "ci", "test", terms=KeyTerms(**terms), **fields)


# ---------------------------------------------------------------- the most of an answer


@pytest.mark.parametrize(
    ("parse", "body", "dialect", "found"),
    [
        (parse_chat, CHAT, "openai", lambda sent: sent["max_completion_tokens"]),
        (parse_completions, COMPLETIONS, "openai", lambda sent: sent["max_tokens"]),
        (parse_responses, RESPONSES, "openai", lambda sent: sent["max_output_tokens"]),
        (parse_chat, CHAT, "anthropic", lambda sent: sent["max_tokens"]),
        (parse_chat, CHAT, "gemini", lambda sent: sent["generationConfig"]["maxOutputTokens"]),
        (parse_chat, CHAT, "mistral", lambda sent: sent["max_tokens"]),
        (parse_chat, CHAT, "ollama", lambda sent: sent["options"]["num_predict"]),
        (parse_completions, COMPLETIONS, "ollama", lambda sent: sent["options"]["num_predict"]),
        (parse_completions, {**COMPLETIONS, "suffix": "!"}, "mistral", lambda sent: sent["max_tokens"]),
        (parse_responses, RESPONSES, "anthropic", lambda sent: sent["max_tokens"]),
        (parse_responses, RESPONSES, "gemini", lambda sent: sent["generationConfig"]["maxOutputTokens"]),
    ],
)
def test_a_request_without_a_limit_gets_the_keys(parse, body, dialect, found):
    for given in (body, {**body, "max_tokens": None} if parse is not parse_responses else body):
        assert found(sent_to(dialect, under(parse, given, max_tokens=77))) == 77


def test_the_limit_goes_out_under_the_name_that_the_server_has_for_it():
    quirks = read_quirks({"rename_params": {"max_completion_tokens": "max_tokens"}})
    sent = sent_to("openai", under(parse_chat, CHAT, max_tokens=77), quirks=quirks)
    assert (sent["max_tokens"], "max_completion_tokens" in sent) == (77, False)


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (parse_chat, {**CHAT, "max_tokens": 77}),
        (parse_chat, {**CHAT, "max_completion_tokens": 5}),
        (parse_completions, {**COMPLETIONS, "max_tokens": 0}),
        (parse_responses, {**RESPONSES, "max_output_tokens": 77}),
        (parse_messages, MESSAGES),
        (parse_embeddings, {"model": "e", "input": "hello"}),
        (parse_count_tokens, {"model": "m", "messages": HELLO}),
    ],
)
def test_a_request_within_the_limit_goes_out_as_it_came(parse, body):
    call = parse(orjson.dumps(body))
    assert on_terms(call, KeyTerms(max_tokens=77)) is call
    assert on_terms(call, USUAL) is call


@pytest.mark.parametrize(
    ("parse", "body", "param"),
    [
        (parse_chat, {**CHAT, "max_tokens": 78}, "max_tokens"),
        (parse_chat, {**CHAT, "max_completion_tokens": 78}, "max_completion_tokens"),
        (parse_chat, {**CHAT, "max_completion_tokens": 5, "max_tokens": 78}, "max_tokens"),
        (parse_chat, {**CHAT, "max_tokens": -1}, "max_tokens"),
        (parse_chat, {**CHAT, "max_tokens": "78"}, "max_tokens"),
        (parse_chat, {**CHAT, "max_tokens": 78.0}, "max_tokens"),
        (parse_chat, {**CHAT, "max_tokens": True}, "max_tokens"),
        (parse_chat, {**CHAT, "max_tokens": 5, "n_predict": -1}, "n_predict"),
        (parse_chat, {**CHAT, "options": {"num_predict": 78}}, "options.num_predict"),
        (
            parse_chat,
            {**CHAT, "thinking": {"type": "enabled", "budget_tokens": 77}},
            "thinking.budget_tokens",
        ),
        (parse_completions, {**COMPLETIONS, "max_tokens": 78}, "max_tokens"),
        (parse_completions, {**COMPLETIONS, "n_predict": 78}, "n_predict"),
        (parse_messages, {**MESSAGES, "max_tokens": 78}, "max_tokens"),
        (parse_responses, {**RESPONSES, "max_output_tokens": 78}, "max_output_tokens"),
    ],
)
def test_a_request_for_more_is_refused_by_the_clients_own_name(parse, body, param):
    with pytest.raises(BadRequest) as refused:
        under(parse, body, max_tokens=77)
    assert (refused.value.status, refused.value.type) == (400, "invalid_request_error")
    assert (refused.value.code, refused.value.param) == ("max_tokens_exceeds_key_limit", param)
    assert "at most 77 tokens" in refused.value.message


async def test_the_vendor_really_gets_the_limit_of_a_body_that_was_sent_on_as_it_came(serving):
    gateway = serving(says("Hi."), caller=caller(max_tokens=77))
    assert (await ask(gateway)).status == 200
    refused = await ask(gateway, max_tokens=78)
    assert (refused.status, refused.json["error"]["code"]) == (400, "max_tokens_exceeds_key_limit")
    ((_, sent),) = gateway.transport.requests
    assert orjson.loads(sent.body) == {**CHAT, "max_completion_tokens": 77}


async def test_keys_of_one_tenant_with_other_limits_share_no_cached_answer(serving):
    other = "another-key-of-24-characters"

    def snapshot(known):
        return make_snapshot("openai", callers={**known, digest(other): caller(max_tokens=5)})

    gateway = serving(says("One."), says("Two."), caller=caller(max_tokens=77), snapshot=snapshot)
    answers = [await ask(gateway, key=key) for key in (SECRET, SECRET, other, other, other, SECRET)]
    assert [each.headers["x-gateway-cache"] for each in answers] == [
        "miss",
        "hit",
        "miss",
        "hit",
        "hit",
        "hit",
    ]
    asked = [orjson.loads(sent.body)["max_completion_tokens"] for _, sent in gateway.transport.requests]
    assert asked == [77, 5]


# ---------------------------------------------------------------- the forced route


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", COMPLETIONS),
        ("/v1/messages", MESSAGES),
        ("/v1/responses", RESPONSES),
        ("/v1/embeddings", {"model": "gpt-4o", "input": "hello"}),
    ],
)
async def test_whatever_is_asked_for_the_forced_model_is_asked(serving, path, body):
    forced = caller(forced_route="vllm/cheap", allowed=("vllm/*",))
    gateway = serving(refuses(400), caller=forced, cache_mode="none")
    for model in ("gpt-4o", "openai/gpt-4o", "there-is-no-such-model", "vllm/cheap", "cheap"):
        raw = orjson.dumps({**body, "model": model})
        await Client("POST", path, raw, authorization=f"Bearer {SECRET}").run(lane)
        assert [records(gateway)[-1][name] for name in ("requested_model", "model")] == [model, "cheap"]
    assert {each.id for each, _ in gateway.transport.requests} == {"vllm/cheap"}
    assert {orjson.loads(sent.body)["model"] for _, sent in gateway.transport.requests} == {"cheap"}


async def test_a_forced_answer_is_cached_for_whatever_is_asked_and_recorded_as_it_was(serving):
    gateway = serving(
        says("Hi."), caller=caller(forced_route="cheap"), snapshot=routed(route_row("cheap", "vllm/c"))
    )
    models = ("gpt-4o", "anything", "cheap", "gpt-4o", "gpt-4o", "anything")
    answers = [await ask(gateway, model=model) for model in models]
    assert [each.headers["x-gateway-cache"] for each in answers] == ["miss", *["hit"] * 5]
    assert {each.headers["x-gateway-model"] for each in answers} == {"c"}
    found = records(gateway)
    assert [each["requested_model"] for each in found] == list(models)
    assert [each.get("forced_model") for each in found] == [
        "cheap" if model != "cheap" else None for model in models
    ]
    assert {(each["route"], each["model"]) for each in found} == {("exact:cheap", "c")}


async def test_a_request_without_a_model_is_refused_as_ever(serving):
    gateway = serving(says("Hi."), caller=caller(forced_route="gpt-4o"))
    assert (await ask(gateway, model=None)).json["error"]["param"] == "model"


async def test_the_forced_model_is_judged_not_the_one_asked_for(serving):
    gateway = serving(says("Hi."), caller=caller(forced_route="gpt-4o", allowed=("vllm/*",)))
    refused = await ask(gateway, model="vllm/a")
    assert (refused.status, refused.json["error"]["code"]) == (403, "model_not_allowed")
    assert "'gpt-4o'" in refused.json["error"]["message"]


# ---------------------------------------------------------------- what /v1/models shows

LISTED = [
    {"provider__name": "openai", "name": "gpt-4o", "created": 7, "owned_by": "o"},
    {"provider__name": "openai", "name": "gpt-4o-mini", "created": 7, "owned_by": "o"},
    {"provider__name": "vllm", "name": "llama", "created": 7, "owned_by": "v"},
]


def listed(**fields):
    routes = [route_row("smart", "openai/gpt-4o"), route_row("small", "vllm/llama")]
    configured = make_snapshot("openai", "vllm", models=LISTED, routes=routes)
    return [each.id for each in model_list.usable(configured, caller(**fields))]


@pytest.mark.parametrize(
    ("denied", "left"),
    [
        (("gpt-4o",), ["small", "openai/gpt-4o-mini", "vllm/llama"]),
        (("gpt-4o*",), ["small", "vllm/llama"]),
        (("openai/*",), ["small", "vllm/llama"]),
        (("smart",), ["small", "openai/gpt-4o", "openai/gpt-4o-mini", "vllm/llama"]),
        (("*",), []),
        (("nothing-here",), ["smart", "small", "openai/gpt-4o", "openai/gpt-4o-mini", "vllm/llama"]),
    ],
)
def test_it_lists_no_model_that_is_denied(denied, left):
    assert listed(denied=denied) == left


def test_it_lists_to_a_key_with_both_what_is_allowed_and_not_denied():
    assert listed(allowed=("openai/*",), denied=("gpt-4o",)) == ["openai/gpt-4o-mini"]


def test_it_lists_the_forced_model_alone_if_the_key_may_use_it():
    assert listed(forced_route="smart") == ["smart"]
    assert listed(forced_route="openai/gpt-4o") == ["openai/gpt-4o"]
    assert listed(forced_route="gpt-5-of-no-list") == ["gpt-5-of-no-list"]
    assert listed(forced_route="smart", denied=("gpt-4o",)) == []
    assert listed(forced_route="smart", allowed=("vllm/*",)) == []
    assert listed(forced_route="nobody-serves-this") == []


# ---------------------------------------------------------------- where a key is accepted from

OFFICE = (ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8::/32"))
BEHIND = {"trusted_proxies": ("10.0.0.0/8",)}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/gpt-4o"),
        ("POST", "/v1/moderations"),
        ("GET", "/v1/files"),
    ],
)
async def test_no_endpoint_takes_a_key_from_elsewhere(serving, method, path):
    gateway = serving(says("Hi."), caller=caller(networks=OFFICE), **BEHIND)
    raw = orjson.dumps(CHAT) if method == "POST" else b""
    headers = {"authorization": f"Bearer {SECRET}", "idempotency_key": "k"}
    for address, forwarded in (("198.51.100.1", None), ("10.0.0.1", "203.0.113.9, 198.51.100.1")):
        sent = headers if forwarded is None else {**headers, "x_forwarded_for": forwarded}
        refused = await Client(method, path, raw, address=address, **sent).run(lane)
        error = refused.json["error"]
        assert (refused.status, error["type"], error["code"]) == (403, "permission_error", "ip_not_allowed")
        assert "198.51.100.1" in error["message"]
        assert "203.0.113" not in error["message"]
    assert not gateway.transport.requests
    assert not gateway.transport.forwarded


@pytest.mark.parametrize(
    ("address", "forwarded"),
    [
        ("203.0.113.9", None),
        ("203.0.113.9", "198.51.100.1"),  # not from a proxy of ours: anybody's claim
        ("::ffff:203.0.113.9", None),
        ("::ffff:10.0.0.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9"),
        ("2001:db8::7", None),
    ],
)
async def test_it_takes_a_key_from_where_it_is_accepted(serving, address, forwarded):
    serving(says("Hi."), caller=caller(networks=OFFICE), **BEHIND)
    headers = {} if forwarded is None else {"x_forwarded_for": forwarded}
    client = chat_request(headers=headers)
    client.scope["client"] = (address, 4711)
    assert (await client.run(lane)).status == 200


async def test_an_answer_is_not_given_again_to_another_address(serving):
    """What is answered before the application starts is the same request, from the same address."""
    gateway = serving(says("Hi."), caller=caller(networks=OFFICE), **BEHIND)
    inside = {"address": "10.0.0.1", "x_forwarded_for": "203.0.113.9"}
    await hit(gateway, **inside)

    def at_once_of(**fields):
        client = request(**fields)
        return at_once(client.scope, client._pieces[0]["body"])

    assert at_once_of(**inside) is not None
    outside = ({**inside, "x_forwarded_for": "198.51.100.1"}, {**inside, "address": "198.51.100.1"})
    for elsewhere in outside:
        assert at_once_of(**elsewhere) is None
        assert (await request(**elsewhere).run(lane)).status == 403


async def test_a_kept_answer_is_not_replayed_to_another_address(serving):
    serving(says("Hi."), caller=caller(networks=OFFICE))
    asked = []
    for address in ("203.0.113.9", "198.51.100.1", "203.0.113.9"):
        client = chat_request(headers={"idempotency-key": "k"})
        client.scope["client"] = (address, 4711)
        asked.append(await client.run(lane))
    assert [each.status for each in asked] == [200, 403, 200]
    assert asked[2].headers["idempotency-replayed"] == "true"
