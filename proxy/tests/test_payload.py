"""What a request asked and was answered, taken down for those who have it stored, and for nobody else."""

import orjson
import pytest
from django.conf import settings

from config.vault import Vault
from keys.caller import KeyTerms
from keys.limits import RateRule, Rules
from providers.tests.samples import TEXT_STREAM
from proxy.tests.fakes import make_snapshot, refuses, says, spool_lines, streams
from proxy.tests.test_exchange import Running, answered
from proxy.tests.test_gateway import ask

SAID = [{"role": "user", "content": "I am jane@example.com"}]


def storing(days=3, *, tenant_days=0):
    def make(callers):
        terms = KeyTerms(payload_days=days)
        callers = {digest: caller._replace(terms=terms) for digest, caller in callers.items()}
        tenants = [{"id": 2, "queue_weight": 1, "payload_days": tenant_days}]
        return make_snapshot("openai", "vllm", callers=callers, tenants=tenants)

    return make


def payloads(gateway):
    gateway.payloads.close()
    lines = spool_lines(gateway.env.data_dir / "spool")
    return [line for line in lines if line["kind"] == "payload"]


def opened(token):
    return orjson.loads(Vault(settings.SECRET_KEYS).open_bytes(token.encode()))


async def test_it_keeps_request_and_answer_redacted_and_encrypted(serving):
    gateway = serving(says("Hello, sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"), snapshot=storing())
    client = await ask(gateway, messages=SAID)
    (line,) = payloads(gateway)
    assert opened(line["request"])["messages"] == [{"role": "user", "content": "I am [EMAIL]"}]
    assert opened(line["answer"])["choices"][0]["message"]["content"] == "Hello, [SECRET]"
    assert (line["days"], line["key_id"], line["tenant_id"], line["redactions"]) == (3, 1, 2, 2)
    assert line["answer_bytes"] == len(client.body)
    spool = b"".join(path.read_bytes() for path in (gateway.env.data_dir / "spool").glob("*-*"))
    assert b"jane" not in spool
    assert b"Hello" not in spool


@pytest.mark.parametrize(
    ("own", "tenants", "kept"), [(None, 0, 0), (0, 5, 0), (None, 5, 5), (2, 5, 2), (2, 0, 2)]
)
async def test_a_key_says_for_itself_what_its_tenant_says_for_all(serving, own, tenants, kept):
    gateway = serving(snapshot=storing(own, tenant_days=tenants))
    await ask(gateway)
    assert [line["days"] for line in payloads(gateway)] == ([kept] if kept else [])
    assert (gateway.payloads._thread is not None) == bool(kept)


async def test_a_stream_is_what_it_adds_up_to(serving):
    gateway = serving(streams(TEXT_STREAM), snapshot=storing(), cache_mode="none")
    await ask(gateway, stream=True)
    (line,) = payloads(gateway)
    (choice,) = opened(line["answer"])["choices"]
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_each_hit_is_kept_too_however_often_it_comes(serving, stream):
    gateway = serving(streams(TEXT_STREAM) if stream else says("Hi."), snapshot=storing())
    for _ in range(4):
        await ask(gateway, stream=stream)
    lines = payloads(gateway)
    assert len(lines) == 4
    said = [opened(line["answer"])["choices"][0]["message"]["content"] for line in lines]
    assert len(set(said)) == 1
    assert said[0]


async def test_an_error_is_kept_as_the_client_got_it(serving):
    gateway = serving(refuses(503, "down"), snapshot=storing(), max_retries=1)
    client = await ask(gateway)
    (line,) = payloads(gateway)
    assert opened(line["answer"]) == client.json


async def test_what_waits_has_a_bound(serving, monkeypatch):
    monkeypatch.setattr("proxy.payload_writer.MOST_WAITING", 0)
    gateway = serving(snapshot=storing())
    client = await ask(gateway)
    assert client.status == 200
    assert payloads(gateway) == []


# ---------------------------------------------------------------- what records say besides


def limited(*rates):
    def make(callers):
        terms = KeyTerms(rules=Rules(rates=rates))
        callers = {digest: caller._replace(terms=terms) for digest, caller in callers.items()}
        return make_snapshot("openai", callers=callers)

    return make


async def test_a_record_names_the_limits_that_measured_it_and_the_one_that_refused(serving):
    rules = (
        RateRule("rate:1", "requests", 2, per="hour", holds_for="key ci"),
        RateRule("rate:2", "tokens", 10_000, per="hour", holds_for="key ci"),
    )
    gateway = serving(says("Hi."), snapshot=limited(*rules))
    for _ in range(3):  # a miss, a hit, and one too many
        await ask(gateway)
    requests, tokens = (
        {"limit": "2 requests per hour for key ci"},
        {"limit": "10,000 tokens per hour for key ci"},
    )
    lines = [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"]
    assert [line.get("limits") for line in lines] == [
        [requests, tokens],
        [requests],
        [{**requests, "refused": True}, tokens],
    ]


async def test_a_record_without_limits_says_nothing_of_them(serving):
    gateway = serving(says("Hi."))
    await ask(gateway)
    (line,) = [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"]
    assert not {"limits", "queue_ms"} & line.keys()


def test_time_in_line_is_on_record_and_no_overhead_of_ours():
    running = Running()
    answered(running)
    running.queued(0.5)
    running.queued(0.25)
    running.end_ok()
    completion = running.completion
    assert completion.queue_ms == 750
    assert completion.overhead_ms == 0
    assert orjson.loads(completion.record())["queue_ms"] == 750
