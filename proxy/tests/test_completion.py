import orjson

from providers.usage import Usage
from proxy.completion import Attempt
from proxy.tests.fakes import make_completion


def test_it_writes_all_that_the_log_and_the_ledger_need():
    completion = make_completion(
        key_id=1,
        tenant_id=2,
        requested_model="fast",
        route="exact:fast",
        provider="openai",
        model="gpt-4o",
        status=200,
        outcome="ok",
        cache="miss",
        attempts=[Attempt("openai", "gpt-4o", 1.23456, 7.0, 200, "ok")],
        usage=Usage(3, 4),
        price_id=9,
        cost_nanousd=11,
        latency_ms=1.23456,
        ttft_ms=0.5,
        overhead_ms=0.25,
    )
    line = completion.done_line(completion.record())
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    record = orjson.loads(line)
    assert (record["kind"], record["id"], record["request_id"]) == ("done", "boot-0-1", "req-1")
    assert record["usage"] == {
        "prompt": 3,
        "completion": 4,
        "cached": 0,
        "cache_write": 0,
        "reasoning": 0,
        "estimated": False,
    }
    assert record["attempts"][0]["started_ms"] == 1.235
    assert (record["latency_ms"], record["ttft_ms"], record["overhead_ms"]) == (1.235, 0.5, 0.25)
    assert (record["cost_nanousd"], record["price_id"]) == (11, 9)


def test_it_writes_nothing_for_what_is_unknown():
    completion = make_completion()
    record = orjson.loads(completion.done_line(completion.record()))
    assert [record[name] for name in ("usage", "cost_nanousd", "price_id", "ttft_ms", "overhead_ms")] == [
        None
    ] * 5


def test_it_says_that_an_upstream_call_has_started():
    completion = make_completion(key_id=1, requested_model="fast", stream=True)
    line = completion.open_line(provider="openai", model="gpt-4o", prompt_estimate=3)
    record = orjson.loads(line)
    assert line.endswith(b"}\n")
    assert (record["kind"], record["provider"], record["model"], record["stream"]) == (
        "open",
        "openai",
        "gpt-4o",
        True,
    )
    assert record["estimate"] == Usage(3, estimated=True).to_json()


def test_it_keeps_one_line_a_line_whatever_is_in_it():
    completion = make_completion(requested_model="a\nb\u2028c", request_id='"x"')
    completion.attempts.append(Attempt("p", "m", 0.0, error="two\nlines\r\n"))
    line = completion.done_line(completion.record())
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["requested_model"] == "a\nb\u2028c"
