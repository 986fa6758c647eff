"""Routes, tenants' weights and what operators ask of upstreams, compiled."""

import pytest

from proxy.compiling import compile_parts
from proxy.models import Target
from proxy.snapshot import ConfigurationError, Control, Role
from proxy.tests.fakes import environment, make_parts, make_snapshot, route_row, target_row


def route_of(*targets, **fields):
    return make_snapshot("openai", routes=[route_row("a", *targets, **fields)]).exact_routes["a"]


def target_of(**fields):
    return route_of(target_row("openai/x", **fields)).targets[0]


def test_it_knows_every_role_that_a_row_may_have():
    assert [str(role) for role in Role] == Target.Role.values


def test_it_refuses_a_role_that_it_does_not_know():
    with pytest.raises(ConfigurationError, match="unknown role 'understudy'"):
        target_of(role="understudy")


@pytest.mark.parametrize(
    ("role", "percent", "expected"),
    [("normal", None, 0.0), ("canary", 2.5, 2.5), ("shadow", None, 100.0), ("shadow", 0.0, 0.0)],
)
def test_it_compiles_a_targets_percentage(role, percent, expected):
    assert target_of(role=role, percent=percent).percent == expected


@pytest.mark.parametrize(("budget", "each"), [(None, None), (0, 0), (10**9, 25 * 10**7)])
def test_it_shares_a_shadows_budget_among_the_workers(settings, budget, each):
    settings.GATEWAY = environment(workers=4)
    assert target_of(role="shadow", shadow_budget_nanousd_per_day=budget).budget_nanousd == each


def test_it_compiles_how_a_route_treats_its_targets():
    plain = route_of("openai")
    assert (plain.timeouts, plain.sticky, plain.hedges, plain.continues) == ((), "", False, False)
    route = route_of("openai", sticky="user", hedge=True, continue_streams=True, connect_timeout_s=2.0)
    assert (route.sticky, route.hedges, route.continues) == ("user", True, True)
    assert route.timeouts == (("connect_s", 2.0),)


@pytest.mark.parametrize(
    ("header", "name"), [("X-Session-Id", "x-session-id"), ("", "x-session-id"), ("X", "x")]
)
def test_it_reads_a_sticky_header_in_lower_case(header, name):
    assert route_of("openai", sticky="header", sticky_header=header).sticky == name


CANARY = target_row("openai/x", role="canary", percent=5.0)
SHAPING = {
    "another model": ("openai/y", {}),
    "another strategy": ("openai/x", {"strategy": "weighted"}),
    "another kind": ("openai/x", {"kind": "prefix"}),
    "continued streams": ("openai/x", {"continue_streams": True}),
    "another role": (CANARY, {}),
}
NOT_SHAPING = {
    "its row": ("openai/x", {"id": 7}),
    "its priority": ("openai/x", {"priority": 5}),
    "its timeouts": ("openai/x", {"total_timeout_s": 3.0}),
    "hedging": ("openai/x", {"hedge": True}),
    "stickiness": ("openai/x", {"sticky": "user"}),
    "a weight": (target_row("openai/x", weight=9), {}),
    "a context window": (target_row("openai/x", context_window=9), {}),
}


def fingerprint(*targets, **fields):
    snapshot = make_snapshot("openai", routes=[route_row("a", *targets, **fields)])
    return [*snapshot.exact_routes.values(), *snapshot.searched_routes][0].fingerprint


@pytest.mark.parametrize("what", SHAPING)
def test_it_changes_a_routes_fingerprint_with_what_shapes_answers(what):
    target, fields = SHAPING[what]
    assert fingerprint(target, **fields) != fingerprint("openai/x")


@pytest.mark.parametrize("what", NOT_SHAPING)
def test_it_keeps_a_routes_fingerprint_when_answers_stay_as_good(what):
    target, fields = NOT_SHAPING[what]
    assert fingerprint(target, **fields) == fingerprint("openai/x")


@pytest.mark.parametrize("role", ["on_context_overflow", "on_content_filter"])
def test_it_counts_the_targets_of_chains_among_what_shapes_answers(role):
    assert fingerprint("openai/x", target_row("openai/y", role=role)) != fingerprint("openai/x")


def test_it_keeps_the_fingerprint_when_only_a_shadow_comes_or_a_percentage_changes():
    assert fingerprint("openai/x", target_row("openai/y", role="shadow")) == fingerprint("openai/x")
    assert fingerprint({**CANARY, "percent": 50.0}) == fingerprint(CANARY)


def test_it_holds_tenants_weights_and_what_operators_ask():
    snapshot = make_snapshot(
        tenants=[{"id": 3, "queue_weight": 5}],
        upstreams=[{"upstream": "openai/x", "held_open": True, "reset_at": 7.0}],
    )
    assert snapshot.tenant_weights == {3: 5}
    assert snapshot.controls == {"openai/x": Control(held_open=True, reset_at=7.0)}


def test_it_compiles_parts_that_an_older_version_has_kept():
    parts = make_parts("openai", routes=[route_row("a", "openai/x")])
    del parts["tenants"], parts["upstreams"]
    kept = {"id", "match", "kind", "priority", "strategy", "targets"}
    parts["routes"] = [{name: row[name] for name in kept} for row in parts["routes"]]
    parts["routes"][0]["targets"] = [{"route_id": 1, "provider__name": "openai", "model": "x", "weight": 2}]
    snapshot = compile_parts(1, parts, {})
    assert (snapshot.tenant_weights, snapshot.controls) == ({}, {})
    (target,) = snapshot.exact_routes["a"].targets
    assert (target.role, target.weight) == (Role.NORMAL, 2)
