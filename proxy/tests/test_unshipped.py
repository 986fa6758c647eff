"""What the spool adds to budgets, told from segments as the spool has written them."""

import os

import orjson
import pytest

from keys.caller import Caller, KeyTerms
from keys.limits import Ceiling, Rules
from providers.usage import Usage
from proxy.charges import Budgets
from proxy.completion import Attempt
from proxy.segment import CLOSED, OPEN, Position
from proxy.spool import Spool
from proxy.tests.fakes import make_completion, make_snapshot, price_row
from proxy.unshipped import unshipped

EVERYONE, TENANTS, KEYS = "1@0", "2@0", "3@0"


def snapshot():
    rules = [Rules(ceilings=(Ceiling(number, 10**9, "total"),)) for number in (1, 2, 3)]
    key = Caller(7, 5, "ci", "", terms=KeyTerms(rules=rules[2]))
    made = make_snapshot("openai", callers={b"": key}, prices=[price_row("openai", "m*")])
    object.__setattr__(made, "rules", rules[0])
    object.__setattr__(made, "tenant_rules", {5: rules[1]})
    return made


@pytest.fixture
def budgets():
    return Budgets(snapshot())


@pytest.fixture
def still(monkeypatch):
    """The spool's thread does nothing: the test turns its segments."""
    monkeypatch.setattr(Spool, "_run", lambda _: None)


@pytest.fixture
def spool(tmp_path, still):
    made = Spool(tmp_path, boot="boot", worker=0, reserve_bytes=0)
    yield made
    made.close()


def completion(number, *, cost=100, key=7, tenant=5, **fields):
    return make_completion(
        id=f"boot-0-{number}",
        key_id=key,
        tenant_id=tenant,
        requested_model="m1",
        provider="openai",
        model="m1",
        usage=Usage(prompt=1, completion=1),
        cost_nanousd=cost,
        **fields,
    )


def begin(spool, number, **fields):
    call = completion(number, **fields)
    spool.append_open(call.id, call.open_line(provider="openai", model="m1", prompt_estimate=50))
    return call


def end(spool, call):
    spool.append_done(call.id, call.done_line())


def total(found):
    sums = {}
    for added in found.values():
        for key, cost in added.items():
            sums[key] = sums.get(key, 0) + cost
    return sums


def test_it_counts_what_has_ended_for_whom_it_counts(spool, budgets, tmp_path):
    end(spool, begin(spool, 1))
    end(spool, begin(spool, 2, key=8))
    end(spool, begin(spool, 3, key=None, tenant=None))
    found = unshipped(tmp_path, budgets)
    assert found == {"boot-0-00000001": {EVERYONE: 300, TENANTS: 200, KEYS: 100}}


def test_it_counts_closed_segments_and_the_open_one(spool, budgets, tmp_path):
    end(spool, begin(spool, 1))
    spool._rotate()
    end(spool, begin(spool, 2))
    assert {path.suffix for path in tmp_path.iterdir()} == {OPEN, CLOSED}
    assert total(unshipped(tmp_path, budgets))[KEYS] == 200


def test_it_counts_no_call_under_way(spool, budgets, tmp_path):
    begin(spool, 1)
    spool._rotate()
    assert total(unshipped(tmp_path, budgets)) == {}


def test_it_counts_what_a_dead_writer_left_open_at_the_estimate(tmp_path, budgets, spool):
    """50 tokens at a dollar per million; the call that ended in a later segment at what it has cost."""
    first, _ = begin(spool, 1), begin(spool, 2)
    spool._rotate()
    end(spool, first)
    spool.close()  # with a call in flight, as if it had died
    assert total(unshipped(tmp_path, budgets)) == dict.fromkeys((EVERYONE, TENANTS, KEYS), 100 + 50000)


def test_it_counts_a_call_left_open_in_two_segments_once(tmp_path, budgets, spool):
    """Killed between the writing of what is carried over and the old segment's new name."""
    begin(spool, 1)
    spool.close()
    (left,) = tmp_path.glob("*.open")
    (tmp_path / "boot-0-00000002.open").write_bytes(left.read_bytes())
    assert total(unshipped(tmp_path, budgets))[KEYS] == 50_000


def test_it_passes_over_what_the_ledger_counts_for_no_budget(spool, budgets, tmp_path):
    end(spool, begin(spool, 1, route="shadow:exact:m1"))
    end(spool, begin(spool, 2, cache="hit"))
    call = begin(spool, 3, cost=None)
    call.usage = None
    end(spool, call)
    line = orjson.loads(begin(spool, 4).done_line())
    spool.append_done("boot-0-4", orjson.dumps({**line, "own_credential": True}) + b"\n")
    assert total(unshipped(tmp_path, budgets)) == {}


def test_it_counts_each_attempt_by_its_own_model(tmp_path, spool):
    made = snapshot()
    ceilings = (Ceiling(11, 10**9, "total", model="openai/m1"), Ceiling(12, 10**9, "total", model="m1"))
    object.__setattr__(made, "rules", Rules(ceilings=ceilings))
    call = begin(spool, 1, cost=30)
    for model, cost in (("m1", 10), ("m2", 20)):
        spent = Attempt("openai", model, 0.0, usage=Usage(prompt=1), cost_nanousd=cost)
        call.attempts.append(spent)
    end(spool, call)
    found = total(unshipped(tmp_path, Budgets(made)))
    assert (found["11@0"], found["12@0"]) == (10, 30)


def test_it_survives_torn_and_senseless_lines(tmp_path, budgets, spool):
    end(spool, begin(spool, 1))
    spool.append(b"[1]\nnonsense\n")
    end(spool, begin(spool, 2))
    spool.append(b'{"kind":"done","id":"boot-0-3","at":1')
    assert total(unshipped(tmp_path, budgets))[KEYS] == 200


def test_it_counts_only_what_lies_beyond_a_position(tmp_path, budgets, spool):
    end(spool, begin(spool, 1))
    position = spool.position
    end(spool, begin(spool, 2))
    spool._rotate()
    end(spool, begin(spool, 3))
    assert position == Position(1, position.size)
    assert total(unshipped(tmp_path, budgets, beyond={"boot-0": position}))[KEYS] == 200
    assert total(unshipped(tmp_path, budgets, beyond={"boot-0": spool.position})) == {}


def test_it_reads_a_segment_that_is_closed_or_shipped_meanwhile(tmp_path, budgets, spool, monkeypatch):
    end(spool, begin(spool, 1))
    spool._rotate()
    end(spool, begin(spool, 2))
    listed = list(os.scandir(tmp_path))
    monkeypatch.setattr(os, "scandir", lambda _: listed)
    spool._rotate()
    (tmp_path / "boot-0-00000001.seg").unlink()
    assert total(unshipped(tmp_path, budgets))[KEYS] == 100


def test_it_knows_a_forced_request_by_the_model_that_its_key_makes_of_it(tmp_path, spool):
    """As the ledger does: what the client had asked for was not what it got."""
    made = snapshot()
    ceilings = (Ceiling(11, 10**9, "total", model="best"), Ceiling(12, 10**9, "total", model="wish"))
    object.__setattr__(made, "rules", Rules(ceilings=ceilings))
    call = completion(1, cost=30, key=8, tenant=6, forced_model="best")
    call.requested_model = "wish"
    spool.append_open(call.id, call.open_line(provider="openai", model="m1", prompt_estimate=50))
    end(spool, call)
    assert total(unshipped(tmp_path, Budgets(made))) == {"11@0": 30}
