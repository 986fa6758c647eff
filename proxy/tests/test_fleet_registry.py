"""What one process knows of its upstreams, and the order that it asks them in."""

import asyncio
import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Owner, UpstreamError
from providers.tests.samples import make_upstream
from proxy.fleet import registry
from proxy.fleet.registry import Fleet
from proxy.routing import Resolved
from proxy.tests.virtual_time import run

A, B, C = make_upstream("a"), make_upstream("b"), make_upstream("c")
LIMITED = make_upstream("a", max_concurrency=1, max_queue=5)
DOWN = UpstreamError("no", owner=Owner.HEALTH, status=503)


def make_fleet(**fields):
    settings = {
        "threshold": 1,
        "window_s": 60.0,
        "half_open_after_s": 30.0,
        "rng": random.Random(1),
        **fields,
    }
    return Fleet(**settings)


def resolved(*upstreams, weights=None, plain=False, **fields):
    values = {"route": "r", "fingerprint": "", "strategy": "ordered", **fields}
    return Resolved(
        upstreams=upstreams, weights=weights or tuple([1] * len(upstreams)), plain=plain, **values
    )


def limited_to(count, *, max_queue=5):
    return replace(LIMITED.account, max_concurrency=count, max_queue=max_queue)


async def test_it_knows_each_upstream_once():
    fleet = make_fleet()
    assert fleet.standing(A) is fleet.standing(A)
    assert fleet.standing(A) is not fleet.standing(B)
    assert [each.id for each in fleet.known()] == [A.id, B.id]


async def test_it_tells_whose_breaker_has_turned():
    fleet, turned = make_fleet(), []
    fleet.changed = turned.append
    fleet.begin(A, A).failed(DOWN)
    assert turned == [fleet.standing(A)]


async def test_it_lets_go_of_those_without_trouble_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(registry, "MAX_STANDINGS", 4)
    fleet = make_fleet()
    fleet.begin(A, A).failed(DOWN)
    visit = fleet.begin(B, B)
    held = fleet.standing(C)
    held.breaker.hold_open()
    healthy = fleet.standing(make_upstream("d"))
    fleet.standing(make_upstream("e"))
    assert {each.id for each in fleet.known()} == {A.id, B.id, C.id, "e/gpt-4o"}
    assert healthy not in fleet.known()
    visit.ended()
    assert fleet.standing(B).busy == 0


async def test_it_has_a_gate_for_an_account_with_a_limit():
    fleet = make_fleet()
    assert fleet.gate(A.account) is None
    gate = fleet.gate(LIMITED.account)
    assert gate is fleet.gate(LIMITED.account)
    assert gate.bounds == (1, 5)
    assert fleet.depths() == {"a": 0}


def test_it_learns_how_long_a_turn_takes_however_often_it_is_asked_for_the_gate():
    """A gate that took its bounds over from each request would forget its pace with each."""

    async def story():
        fleet = make_fleet()
        gate = fleet.gate(LIMITED.account)
        assert gate.enter_now()
        loop = asyncio.get_running_loop()
        lines = [
            loop.create_task(gate.enter(tenant=1, weight=1, deadline=loop.time() + 1e6)) for _ in range(5)
        ]
        for _ in range(5):
            await asyncio.sleep(3.0)
            fleet.gate(LIMITED.account)
            gate.leave()
        await asyncio.gather(*lines)
        assert gate._gaps >= 3

    run(story())


async def test_it_takes_over_the_bounds_of_a_new_configuration():
    fleet = make_fleet()
    gate = fleet.gate(LIMITED.account)
    fleet.configure({"a": limited_to(3, max_queue=7)})
    assert gate.bounds == (3, 7)
    assert gate.free == 3
    # A request that began with the old one takes nothing back.
    assert fleet.gate(LIMITED.account) is gate
    assert gate.bounds == (3, 7)


async def test_it_lets_everyone_in_whose_account_is_limited_no_more():
    for accounts in ({"a": A.account}, {}):
        fleet = make_fleet()
        gate = fleet.gate(LIMITED.account)
        assert gate.enter_now()
        waiting = asyncio.create_task(gate.enter(tenant=1, weight=1, deadline=fleet.loop.time() + 60))
        await asyncio.sleep(0)
        fleet.configure(accounts)
        await waiting
        assert fleet.depths() == {}


async def test_it_makes_no_gate_by_an_old_configuration():
    fleet = make_fleet()
    fleet.configure({"a": A.account})
    assert fleet.gate(LIMITED.account) is None
    fleet.configure({"a": limited_to(4)})
    assert fleet.gate(LIMITED.account).bounds == (4, 5)


async def test_it_keeps_the_order_of_a_plain_route_whatever_is_down():
    fleet = make_fleet()
    fleet.begin(A, A).failed(DOWN)
    assert fleet.order(resolved(A, B, plain=True), b"") == (A, B)


async def test_it_puts_those_last_that_cannot_answer_now():
    fleet = make_fleet()
    fleet.begin(A, A).failed(DOWN)
    for strategy in ("weighted", "least_latency", "least_busy", "ordered"):
        assert fleet.order(resolved(A, B, C, strategy=strategy), b"")[-1] is A


async def test_it_puts_those_last_whose_credential_is_refused():
    fleet = make_fleet()
    fleet.begin(A, A).failed(UpstreamError("no", owner=Owner.CREDENTIAL, status=401))
    assert fleet.order(resolved(A, B, strategy="least_busy"), b"") == [B, A]


async def test_it_takes_one_for_usable_that_has_another_credential():
    second = replace(A, account=replace(A.account, credential="second"))
    both = replace(A, spares=(second,))
    fleet = make_fleet()
    limited = UpstreamError("no", owner=Owner.CAPACITY, status=429, retry_after_s=60)
    fleet.begin(both, both).failed(limited)
    turns = [fleet.order(resolved(both, B, strategy="weighted"), b"")[0].id for _ in range(4)]
    assert sorted(turns) == sorted([A.id, B.id] * 2)
    fleet.begin(both, second).failed(limited)
    turns = [fleet.order(resolved(both, B, strategy="weighted"), b"")[0].id for _ in range(4)]
    assert turns == [B.id] * 4


async def test_it_takes_turns_by_weight():
    fleet = make_fleet()
    route = resolved(A, B, strategy="weighted", weights=(3, 1))
    turns = [fleet.order(route, b"")[0].id for _ in range(8)]
    assert turns.count(A.id) == 6


async def test_it_bounds_the_turns_that_it_remembers(monkeypatch):
    monkeypatch.setattr(registry, "MAX_ROTATIONS", 3)
    fleet = make_fleet()
    for number in range(10):
        fleet.order(resolved(A, B, strategy="weighted", route=f"r{number}"), b"")
        assert len(fleet._rotations) <= 3


async def test_it_prefers_the_less_busy():
    fleet = make_fleet()
    visits = [fleet.begin(A, A), fleet.begin(A, A), fleet.begin(B, B)]
    assert [each.id for each in fleet.order(resolved(A, B, C, strategy="least_busy"), b"")] == [
        C.id,
        B.id,
        A.id,
    ]
    for visit in visits:
        visit.left()


@given(st.binary(min_size=1, max_size=8))
def test_it_keeps_a_session_together(key):
    async def story():
        fleet = make_fleet()
        route = resolved(A, B, C, strategy="weighted", sticky="user")
        orders = {tuple(each.id for each in fleet.order(route, key)) for _ in range(5)}
        assert len(orders) == 1
        (order,) = orders
        first = next(each for each in (A, B, C) if each.id == order[0])
        fleet.begin(first, first).failed(DOWN)
        assert [each.id for each in fleet.order(route, key)] == [*order[1:], order[0]]

    run(story())


async def test_it_sends_a_share_to_the_canary_and_the_others_elsewhere():
    fleet = make_fleet()
    route = resolved(A, B, C, canaries=(0.0, 0.0, 25.0))
    firsts = [fleet.order(route, b"")[0].id for _ in range(400)]
    assert 60 < firsts.count(C.id) < 140
    assert firsts.count(A.id) == 400 - firsts.count(C.id)


async def test_it_keeps_a_session_on_its_side_of_the_canary():
    fleet = make_fleet()
    route = resolved(A, B, C, canaries=(0.0, 0.0, 50.0), sticky="user")
    sides = {
        key: {fleet.order(route, key)[0].id for _ in range(5)} for key in (b"1", b"2", b"3", b"4", b"5", b"6")
    }
    assert all(len(side) == 1 for side in sides.values())
    assert {C.id} in sides.values()
    assert any(side != {C.id} for side in sides.values())


async def test_it_never_begins_with_a_canary_that_is_down():
    fleet = make_fleet()
    fleet.begin(C, C).failed(DOWN)
    route = resolved(A, B, C, canaries=(0.0, 0.0, 100.0))
    assert [each.id for each in fleet.order(route, b"")] == [A.id, B.id, C.id]
