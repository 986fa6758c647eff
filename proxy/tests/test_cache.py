import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.caller import ANONYMOUS, Caller
from providers.tests.samples import make_call
from providers.usage import Usage
from providers.wires import RESPONSES
from proxy.cache import BYPASS, EVENTS, JSON, NOT_SHAPING, Entry, policy, storable
from proxy.routing import resolve
from proxy.tests.fakes import make_snapshot, provider_row, route_row, settings_row

CALLER = Caller(key_id=1, tenant_id=1, name="ci", prefix="sk-gw-abcdef")
EXCLUSIONS = [{"kind": "exact", "pattern": "gpt-4o"}, {"kind": "regex", "pattern": "-preview$"}]


def decide(call=None, snapshot=None, *, control="", caller=CALLER, endpoint="chat", namespace="v1"):
    call, snapshot = call or make_call(), snapshot or make_snapshot("openai", "vllm")
    return policy(
        snapshot,
        call=call,
        caller=caller,
        resolved=resolve(snapshot, call.model),
        endpoint=endpoint,
        namespace=namespace,
        cache_control=control,
    )


def entry(**fields):
    values = {"form": JSON, "body": b"{}", "provider": "openai", "model": "gpt-4o", "stored_at": 1000.0}
    return Entry(**{**values, "usage": Usage(3, 4), **fields})


# ---------------------------------------------------------------- the key


PLAIN = decide().key


@pytest.mark.parametrize("name", sorted(NOT_SHAPING - {"stream", "stream_options"}))
def test_it_shares_an_answer_between_calls_that_differ_in_hints(name):
    assert decide(make_call(**{name: "anything"})).key == PLAIN


def test_it_shares_an_answer_between_streams_and_json():
    assert decide(make_call(stream=True)).key == PLAIN
    assert decide(make_call(stream=True, stream_options={"include_usage": True})).key == PLAIN


def test_it_shares_an_answer_whatever_the_order_of_the_keys():
    call = make_call(temperature=1, seed=2)
    turned = dict(reversed(list(call.body.items())))
    assert list(turned) != list(call.body)
    assert decide(make_call(seed=2, temperature=1)).key == decide(call).key
    nested = [{"b": 1, "a": {"d": 1, "c": 2}}]
    turned_nested = [{"a": {"c": 2, "d": 1}, "b": 1}]
    assert decide(make_call(tools=nested)).key == decide(make_call(tools=turned_nested)).key


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0},
        {"messages": [{"role": "user", "content": "Hello"}]},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "user", "content": "hello"}]},
        {"model": "openai/gpt-4o"},
        {"model": "vllm/gpt-4o"},
        {"n": 2},
        {"n": 1},
        {"tools": []},
        {"unknown_parameter": None},
        {"seed": 1},
        {"seed": 1.0},
        {"seed": True},
        {"seed": "1"},
    ],
)
def test_it_splits_on_everything_else_in_the_body(changed):
    assert decide(make_call(**changed)).key != PLAIN


def test_it_splits_between_values_that_python_calls_equal():
    keys = {decide(make_call(seed=value)).key for value in (1, 1.0, True, "1", [1])}
    assert len(keys) == 5


@pytest.mark.parametrize(
    "changed",
    [
        {"endpoint": "embeddings"},
        {"namespace": "v2"},
        {"caller": Caller(key_id=1, tenant_id=2, name="ci", prefix="")},
        {"caller": ANONYMOUS},
        {"snapshot": make_snapshot("openai", settings=[settings_row(cache_epoch=1)])},
        {"snapshot": make_snapshot(provider_row("openai", base_url="http://elsewhere"))},
        {"snapshot": make_snapshot("openai", routes=[route_row("gpt-4o", "openai")])},
    ],
)
def test_it_splits_between_tenants_places_and_epochs(changed):
    assert decide(**changed).key != PLAIN


def test_it_shares_an_answer_between_the_keys_of_a_tenant():
    assert decide(caller=Caller(key_id=2, tenant_id=1, name="other", prefix="")).key == PLAIN


@given(st.text(), st.text(), st.text(), st.text())
def test_it_never_confuses_two_bodies(key, value, other_key, other_value):
    one = {"metadata_": {key: value}}
    two = {"metadata_": {other_key: other_value}}
    same = decide(make_call(**one)).key == decide(make_call(**two)).key
    assert same is (one == two)


def test_it_takes_the_key_from_a_body_that_it_leaves_alone():
    call = make_call(user="me")
    before = orjson.dumps(call.body)
    decide(call)
    assert orjson.dumps(call.body) == before


# ---------------------------------------------------------------- the policy


@pytest.mark.parametrize(
    ("control", "read", "write", "max_age"),
    [
        ("", True, True, 3600.0),
        ("no-store", False, False, 0.0),
        ("No-Store, max-age=5", False, False, 0.0),
        ("no-cache", False, True, 3600.0),
        ("max-age=60", True, True, 60.0),
        ("MAX-AGE = 60", True, True, 60.0),
        ("max-age=0", False, True, 0.0),
        ("max-age=999999", True, True, 3600.0),
        ("private, max-age=60", True, True, 60.0),
        ("max-age=soon", True, True, 3600.0),
        ("max-age=" + "9" * 400, True, True, 3600.0),
        ("only-if-cached", True, True, 3600.0),
    ],
)
def test_it_obeys_the_clients_cache_control(control, read, write, max_age):
    decided = decide(control=control)
    assert (decided.read, decided.write, decided.max_age_s) == (read, write, max_age)
    assert bool(decided.key) is write


@pytest.mark.parametrize(
    ("model", "excluded"),
    [
        ("gpt-4o", True),
        ("gpt-4o-mini", False),
        ("gpt-5-preview", True),
        ("openai/gpt-4o", True),
        ("vllm/gpt-5-preview", True),
        ("fast", True),
        ("slow", False),
    ],
)
def test_it_excludes_a_model_under_each_of_its_names(model, excluded):
    routes = [route_row("fast", "vllm/m", "openai/gpt-4o"), route_row("slow", "vllm/m")]
    snapshot = make_snapshot("openai", "vllm", exclusions=EXCLUSIONS, routes=routes)
    decided = decide(make_call(model=model), snapshot)
    assert (decided.key == b"") is excluded


def test_it_accepts_what_is_young_enough():
    decided = decide(control="max-age=60")
    assert decided.accepts(entry(), 1059.9)
    assert not decided.accepts(entry(), 1060.0)


@pytest.mark.parametrize(
    ("reasons", "fits"),
    [
        (["stop"], True),
        (["length"], True),
        (["tool_calls"], True),
        (["function_call"], True),
        (("stop", "stop"), True),
        (["content_filter"], False),
        (["stop", "content_filter"], False),
        (["error"], False),
        ([], False),
    ],
)
def test_it_stores_only_clean_finishes(reasons, fits):
    assert storable(reasons) is fits


# ---------------------------------------------------------------- the entry


@given(
    st.binary(),
    st.text(),
    st.none()
    | st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()).map(
        lambda it: Usage(it[0], it[1], estimated=it[2])
    ),
)
def test_it_unpacks_what_it_packed(body, model, usage):
    for form in (JSON, EVENTS):
        packed = entry(form=form, body=body, model=model, usage=usage)
        assert Entry.unpack(packed.pack()) == packed


@pytest.mark.parametrize("packed", [b"", b"garbage", b"{", b"\n", b"\xff\n"])
def test_it_refuses_what_it_did_not_pack(packed):
    with pytest.raises(ValueError):
        Entry.unpack(packed)


def test_it_counts_an_entrys_overhead():
    assert entry(body=b"x" * 100).size > 100


# ---------------------------------------------------------------- responses


def response_call(**sent):
    return make_call(wire=RESPONSES)._replace(sent={"model": "gpt-4o", "input": "hi", **sent})


@pytest.mark.parametrize("name", sorted(NOT_SHAPING))
def test_it_shares_no_response_that_repeats_another_request_or_is_stored_otherwise(name):
    same = name in ("stream", "stream_options")
    assert (decide(response_call(**{name: "anything"})).key == decide(response_call()).key) == same


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "background"])
def test_it_keeps_no_response_that_goes_on_with_stored_state(name):
    assert decide(response_call(**{name: "it"})) == BYPASS
    assert decide(response_call(**{name: None})).write
