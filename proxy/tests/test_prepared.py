from keys.caller import Caller
from proxy import prepared as module
from proxy import serving as serving_module
from proxy.cache import BYPASS
from proxy.endpoints import CHAT_COMPLETIONS, EMBEDDING, parse_chat, simple_chat
from proxy.prepared import Prepared, Repeats, repeat_key
from proxy.routing import resolve
from proxy.tests.fakes import make_snapshot, says
from proxy.tests.test_gateway import ask

BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'
CALLER = Caller(1, 2, "ci", "test")


def prepared(snapshot, body=BODY):
    call = parse_chat(body)
    return Prepared(call, resolve(snapshot, call.model), BYPASS)


def test_it_remembers_a_body_under_one_configuration():
    snapshot, other = make_snapshot("openai"), make_snapshot("openai")
    repeats, key = Repeats(), repeat_key(CHAT_COMPLETIONS, CALLER, BODY)
    assert repeats.get(snapshot, key) is None
    known = prepared(snapshot)
    repeats.remember(snapshot, key, known)
    assert repeats.get(snapshot, key) is known
    assert repeats.get(other, key) is None
    repeats.remember(other, repeat_key(CHAT_COMPLETIONS, CALLER, BODY + b" "), known)
    assert repeats.get(other, key) is None


def test_it_takes_nothing_for_the_same_that_could_be_read_in_another_way():
    keys = [
        repeat_key(CHAT_COMPLETIONS, CALLER, BODY),
        repeat_key(EMBEDDING, CALLER, BODY),
        repeat_key(CHAT_COMPLETIONS, CALLER, BODY, cache_control=b"no-cache"),
        repeat_key(CHAT_COMPLETIONS, CALLER, BODY + b"\n"),
        repeat_key(CHAT_COMPLETIONS, Caller(1, 3, "ci", "test"), BODY),
        repeat_key(CHAT_COMPLETIONS, Caller(1, 2, "ci", "test", allowed=("gpt-4o",)), BODY),
        repeat_key(simple_chat("a", model="m", stream=False), CALLER, b""),
        repeat_key(simple_chat("b", model="m", stream=False), CALLER, b""),
    ]
    assert len(set(keys)) == len(keys)
    assert repeat_key(CHAT_COMPLETIONS, Caller(9, 2, "other key", "test"), BODY) == keys[0]


def test_it_remembers_few_and_small_ones(monkeypatch):
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    snapshot, repeats = make_snapshot("openai"), Repeats()
    known = prepared(snapshot)
    keys = [repeat_key(CHAT_COMPLETIONS, CALLER, b"%d" % number) for number in range(5)]
    for key in keys:
        repeats.remember(snapshot, key, known)
    assert [repeats.get(snapshot, key) is known for key in keys] == [False, False, True, True, True]
    large = repeat_key(CHAT_COMPLETIONS, CALLER, b"x" * (module.MAX_BODY_BYTES + 1))
    repeats.remember(snapshot, large, known)
    assert repeats.get(snapshot, large) is None
    beta = {"anthropic-beta": "x" * (module.MAX_BODY_BYTES + 1)}
    assert repeat_key(CHAT_COMPLETIONS, CALLER, BODY, headers=beta) == ()


async def test_it_reads_a_repeated_request_once_and_answers_it_alike(serving, monkeypatch):
    read = []

    def counting(snapshot, model):
        read.append(model)
        return resolve(snapshot, model)

    monkeypatch.setattr(serving_module, "resolve", counting)
    gateway = serving(says("Hi."))
    answers = [await ask(gateway) for _ in range(4)]
    assert [each.headers["x-gateway-cache"] for each in answers] == ["miss", "hit", "hit", "hit"]
    assert len({each.body for each in answers}) == 1
    assert read == ["gpt-4o"] * 2  # the miss, and the first hit


async def test_it_forgets_when_the_key_may_no_longer_use_the_model(serving):
    gateway = serving(says("Hi."))
    for _ in range(3):
        await ask(gateway)
    known = {digest: Caller(1, 2, "ci", "test", allowed=("other",)) for digest in gateway.snapshot.callers}
    gateway.snapshot = make_snapshot("openai", "vllm", callers=known)
    assert (await ask(gateway)).status == 403


async def test_a_repeated_request_is_held_to_the_limits_too(serving):
    gateway = serving(says("Hi."), rpm_limit=3)
    assert [(await ask(gateway)).status for _ in range(5)] == [200, 200, 200, 429, 429]


def test_it_may_know_a_body_as_long_as_one_request_with_it_is_remembered(monkeypatch):
    monkeypatch.setattr(module, "MAX_KNOWN", 2)
    snapshot, other, repeats = make_snapshot("openai"), make_snapshot("openai"), Repeats()
    assert not repeats.may_know(None, BODY)
    for key in ((BODY, "a"), (BODY, "b"), (BODY, "b")):
        repeats.remember(snapshot, key, "known")
    assert repeats.may_know(snapshot, BODY)
    assert not repeats.may_know(snapshot, BODY + b" ")
    assert not repeats.may_know(other, BODY)
    repeats.remember(snapshot, (b"1", "a"), "known")
    assert repeats.may_know(snapshot, BODY)
    repeats.remember(snapshot, (b"2", "a"), "known")
    assert not repeats.may_know(snapshot, BODY)
    repeats.remember(other, (BODY, "a"), "known")
    assert not repeats.may_know(other, b"2")
    assert repeats.may_know(other, BODY)
