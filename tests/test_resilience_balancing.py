"""Who is asked first: by weight, by load, by speed, by session, and by a canary's percentage."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.resilience import CALM, ask, client_of, configuration, provider, route, told, treat
from tests.servers import eventually
from tests.upstream import FakeVendor, unique

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    heavy, light, none = (
        {"provider": name, "weight": weight} for name, weight in zip(NAMES, (7, 3, 0), strict=True)
    )
    routes = [
        route("weighted*", heavy, light, none, strategy="weighted"),
        route("busy*", *NAMES, strategy="least_busy"),
        route("fast*", *NAMES, strategy="least_latency"),
        route("session*", *NAMES, strategy="weighted", sticky={"header": "x-chat"}),
        route("user*", *NAMES, sticky="user"),
        route("canary*", "one", "two", {"provider": "three", "canary": 20}),
        route("plain*", *NAMES),
    ]
    providers = [provider(vendor, name) for name in NAMES]
    with running_gateway(CALM, files=configuration(providers, routes)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


def shares(client: httpx.Client, model: str, count: int, **more: object) -> Counter[str]:
    """Return how many of so many requests each provider has answered, at the first attempt."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: told(ask(client, model, **more)), range(count)))
    assert {(status, attempts) for status, _, attempts in answers} == {(200, "1")}
    return Counter(name for _, name, _ in answers)


def test_without_a_strategy_the_first_is_asked(client: httpx.Client) -> None:
    assert shares(client, unique("plain"), 20) == {"one": 20}


def test_weights_are_shares(client: httpx.Client) -> None:
    """Exactly, for the turns are taken smoothly; weight 0 has none."""
    assert shares(client, unique("weighted"), 200) == {"one": 140, "two": 60}


def test_weight_0_is_there_when_the_others_fail(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("weighted")
    for name in ("one", "two"):
        treat(vendor, model, name, fail="99x503")
    assert told(ask(client, model)) == (200, "three", "3")


def test_the_least_busy_is_asked(client: httpx.Client, vendor: FakeVendor) -> None:
    """Who is slow keeps its calls for longer, and gets fewer."""
    model = unique("busy")
    treat(vendor, model, "one", first=1500)
    counted = shares(client, model, 60)
    assert counted["one"] <= 16  # it has as many as there are others at most, in turns of 1.5 s
    assert min(counted["two"], counted["three"]) >= 15


def test_least_latency_avoids_the_slow_one(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("fast")
    treat(vendor, model, "two", first=400)
    shares(client, model, 12)
    counted = shares(client, model, 60)
    assert counted["two"] <= 6
    assert min(counted["one"], counted["three"]) >= 5


@pytest.mark.parametrize("by", ["session", "user", "metadata"])
def test_a_session_stays_with_its_target(client: httpx.Client, by: str) -> None:
    """Different ones are spread, each has one, and it is the same in other orders of asking."""
    model = unique("session" if by == "session" else "user")
    homes: dict[str, set[str]] = {}
    for _ in range(3):
        for number in range(30):
            name = f"chat-{number}"
            headers = {"x-chat": name} if by == "session" else {}
            body = {"user": name} if by == "user" else {}
            if by == "metadata":
                body = {"safety_identifier": name}
            answer = client.post(
                "/v1/chat/completions",
                json={"model": model, "messages": [{"role": "user", "content": "Hello"}], **body},
                headers=headers,
            )
            homes.setdefault(name, set()).add(told(answer)[1])
    assert all(len(each) == 1 for each in homes.values())
    counted = Counter(each.copy().pop() for each in homes.values())
    assert set(counted) == set(NAMES)


def test_a_session_whose_target_fails_goes_to_one_other(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("user")
    home = told(ask(client, model, user="me"))[1]
    treat(vendor, model, home, fail="99x503")
    others = {told(ask(client, model, user="me"))[1:] for _ in range(10)}
    assert len(others) == 1
    assert others.pop()[0] != home


def test_a_canary_gets_its_percentage(client: httpx.Client) -> None:
    counted = shares(client, unique("canary"), 200)
    assert set(counted) == {"one", "three"}
    assert 15 <= counted["three"] <= 70  # 40 are expected; so far off is one time in a million


def test_a_failing_canary_costs_nobody_an_answer(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("canary")
    treat(vendor, model, "three", fail="999x500")
    answers = [told(ask(client, model)) for _ in range(40)]
    assert {each[:2] for each in answers} == {(200, "one")}
    assert "2" in {each[2] for each in answers}


def test_an_operator_changes_the_strategy(client: httpx.Client, served: Gateway) -> None:
    """In the admin, in force within a second, without a restart."""
    operator = AdminSession(served)
    path = operator.change_path("proxy/route", "plain*")
    operator.save(path, strategy="weighted")
    model = unique("plain")
    eventually(lambda: told(ask(client, model))[1] != "one", what="the turn of another")
    assert set(shares(client, model, 9)) == set(NAMES)
    operator.save(path, strategy="ordered")
    eventually(lambda: set(shares(client, model, 3)) == {"one"}, what="the old order")
    operator.close()
