"""The management API on both databases, through a served gateway of two workers: each resource, and races."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import eventually, postgres, redis
from tests.upstream import bearer

pytestmark = [pytest.mark.timeout(300), pytest.mark.broker]

AT_ONCE = 4


@dataclass(frozen=True)
class Api:
    """A served gateway, and an operator's token."""

    gateway: Gateway
    secret: str
    client: httpx.Client

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, path, json=body, headers=given)

    def read(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def at_once(
        self, *asked: tuple[str, str, Any], headers: Mapping[str, str] | None = None
    ) -> Sequence[httpx.Response]:
        """Send requests by connections of their own, all at the same moment."""
        start = Barrier(len(asked))

        def send(one: tuple[str, str, Any]) -> httpx.Response:
            method, path, body = one
            options: dict[str, Any] = {"headers": self.client.headers, "timeout": 60, "verify": False}
            with httpx.Client(base_url=self.client.base_url, **options) as own:
                own.get("whoami")  # the connection is made
                start.wait(60)
                return own.request(method, path, json=body, headers=dict(headers or {}))

        with ThreadPoolExecutor(len(asked)) as pool:
            return list(pool.map(send, asked))


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], name="api"
)
def _api(request: pytest.FixtureRequest) -> Iterator[Api]:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(redis())  # without it there is one worker
        env = {"CACHE_MODE": "none", "API_RPM": "0", "REDIS_URL": store.url()}
        if request.param == "postgres":
            env["DATABASE_URL"] = stack.enter_context(postgres()).create("gateway")
        gateway = stack.enter_context(running_gateway(env, workers=2))
        told = gateway.manage("create_api_token", "--user", "admin", "--name", "tests", "--all-scopes")
        secret = told.split()[-1]
        client = stack.enter_context(
            httpx.Client(base_url=f"{gateway.url}/api/v1/", headers=bearer(secret), timeout=60)
        )
        made = Api(gateway, secret, client)
        for path, body in (
            ("providers/echo", {"dialect": "openai", "base_url": "demo://"}),
            ("tenants/acme", {"timezone": "Europe/Berlin"}),
            ("keys/acme-ci", {"tenant": "acme"}),
        ):
            assert made("PUT", path, body).status_code == 201
        yield made


@dataclass(frozen=True)
class Resource:
    """What is made of it, changed of it, and how its list is narrowed to it alone.

    `path` is its address; those that are made by POST alone have "{id}" in it.
    """

    path: str
    made: Mapping[str, Any]
    change: Mapping[str, Any]
    narrowed: str

    @property
    def listed(self) -> str:
        """The address of its list."""
        return self.narrowed.partition("?")[0]


ECHO = [{"provider": "echo", "model": "echo"}, {"provider": "echo", "model": "lorem", "weight": 3}]
RATES = {"input_usd_per_mtok": "0.150000001", "output_usd_per_mtok": "0.6"}
RESOURCES = {
    "provider": Resource(
        "providers/vendor",
        {
            "dialect": "openai",
            "base_url": "https://vendor.test/v1",
            "api_key": "sk-vendor",
            "api_keys": [{"name": "b", "api_key": "sk-b"}],
            "extra_headers": {"x-b": "2", "x-a": "1"},
            "quirks": {"rename_params": {"max_tokens": "max_completion_tokens"}},
            "timeouts": {"connect": 2.5},
        },
        {"max_queue": 7},
        "providers?dialect=openai&enabled=true&name_begins=vendor",
    ),
    "price": Resource(
        "prices/echo/2026-01-01/a/b",
        {**RATES, "tiers": [{"above_prompt_tokens": 200000, "input_usd_per_mtok": "0.3"}]},
        {"output_usd_per_mtok": "0.8"},
        "prices?provider=echo&model=a/b&source=operator",
    ),
    "route": Resource(
        "routes/prefix/gpt-4o*",
        {"targets": ECHO, "sticky": {"header": "x-session"}, "timeouts": {"idle": 9.5}},
        {"note": "changed", "on_content_filter": [{"provider": "echo"}]},
        "routes?kind=prefix&enabled=true&provider=echo",
    ),
    "exclusion": Resource(
        "cache/exclusions/regex/.*-preview$", {"note": "why"}, {"note": ""}, "cache/exclusions?kind=regex"
    ),
    "tenant": Resource(
        "tenants/umlaut-ä",
        {"alert_emails": ["a@b.test"], "alert_webhook": "https://hook.test/x"},
        {"queue_weight": 2},
        "tenants?name_begins=umlaut",
    ),
    "member": Resource(
        "tenants/acme/members/admin", {"role": "viewer"}, {"role": "owner"}, "tenants/acme/members"
    ),
    "key": Resource(
        "keys/team/a",
        {
            "tenant": "acme",
            "tags": {"b": "2", "a": "1"},
            "allowed_models": ["gpt*"],
            "expires_at": "2100-01-31",
        },
        {"max_tokens": 5},
        "keys?tenant=acme&enabled=true&name_begins=team",
    ),
    "rate limit": Resource(
        "rate-limits/{id}",
        {"key": "acme-ci", "kind": "requests", "amount": 60, "per": "minute"},
        {"amount": 10**12},
        "rate-limits?tenant=acme&kind=requests&key=acme-ci",
    ),
    "budget": Resource(
        "budgets/{id}",
        {"tenant": "acme", "amount_usd": "12.000000001", "window": "month"},
        {"raised_usd": "50", "raised_until": "2100-01-01T00:00:00Z"},
        "budgets?tenant=acme&window=month",
    ),
}


@pytest.mark.parametrize("noun", RESOURCES)
def test_it_is_made_read_replaced_changed_found_and_deleted(api: Api, noun: str) -> None:
    one = RESOURCES[noun]
    if "{id}" in one.path:
        made = api("POST", one.listed, one.made)
        path = one.path.format(id=made.json().get("id"))
    else:
        made, path = api("PUT", one.path, one.made, if_none_match="*"), one.path
        assert api("PUT", path, one.made, if_none_match="*").status_code == 412
    assert made.status_code == 201, made.text
    read = api("GET", path)
    assert (read.json(), read.headers["etag"]) == (
        {name: value for name, value in made.json().items() if name != "secret"},
        made.headers["etag"],
    )
    assert api("GET", path, if_none_match=read.headers["etag"]).status_code == 304
    for body in (one.made, read.json()):
        again = api("PUT", path, body, if_match=read.headers["etag"])
        assert (again.status_code, again.json(), again.headers["etag"]) == (
            200,
            read.json(),
            read.headers["etag"],
        )
    changed = api("PATCH", path, one.change, if_match=read.headers["etag"])
    assert changed.status_code == 200, changed.text
    assert changed.json() == api.read(path)
    for method, body in (("PUT", one.made), ("PATCH", one.change), ("DELETE", None)):
        assert api(method, path, body, if_match=read.headers["etag"]).status_code == 412
    assert api.read(one.narrowed) == {"items": [changed.json()], "next_cursor": None}
    found: list[Any] = []
    cursor: Any = ""
    while cursor is not None:
        told = api.read(f"{one.listed}?limit=1{cursor and '&cursor=' + cursor}")
        found += told["items"]
        cursor = told["next_cursor"]
    assert found == api.read(one.listed)["items"]
    assert changed.json() in found
    assert api("DELETE", path, if_match=changed.headers["etag"]).status_code == 204
    assert api("GET", path).status_code == 404


def test_settings_export_and_apply(api: Api) -> None:
    assert api("PUT", "settings", {"default_provider": "echo", "cache_ttl_seconds": 60}).status_code == 200
    exported = api("GET", "config/export")
    assert exported.headers["content-type"] == "application/yaml"
    options: dict[str, Any] = {"content": exported.content, "headers": {"content-type": "application/yaml"}}
    told = api.client.post("config/apply?dry_run=true", **options).json()
    assert (told["changes"], told["diff"]) == ([], ""), "what is exported is what there is"
    body = {
        "version": 1,
        "tenants": [{"name": "applied"}],
        "keys": [{"name": "applied", "tenant": "applied"}],
    }
    assert api("POST", "config/apply?dry_run=true", body).json()["changes"]
    assert api("GET", "tenants/applied").status_code == 404
    assert api("POST", "config/apply", body).json()["secrets"]["applied"].startswith("sk-gw-")
    assert api("POST", "config/apply", body).json()["changes"] == []
    broken = {**body, "keys": [{"name": "late", "tenant": "applied"}, {"name": "x", "tenant": "nobody"}]}
    assert api("POST", "config/apply", broken).json()["error"]["param"] == "keys[1].tenant"
    assert api("GET", "keys/late").status_code == 404
    audit = api.read("audit?kind=tenant&action=create&name=applied&actor=admin")["items"]
    assert audit[0]["changes"]["name"]["after"] == "applied"
    assert api("PUT", "settings", {}).status_code == 200
    assert isinstance(api("POST", "cache/purge").json()["epoch"], int)


def test_usage_logs_and_ledger_tell_of_requests_alike(api: Api) -> None:
    secret = api("PUT", "keys/spender", {"tenant": "acme", "tags": {"team": "search"}}).json()["secret"]
    api("PUT", "prices/echo/1970-01-01/echo", {"input_usd_per_mtok": "2", "output_usd_per_mtok": "8"})
    api("PUT", "routes/exact/house", {"targets": [{"provider": "echo", "model": "echo"}]})
    chat = {"model": "house", "messages": [{"role": "user", "content": "Hello!"}]}

    def answered() -> Any:
        sent = httpx.post(f"{api.gateway.url}/v1/chat/completions", json=chat, headers=bearer(secret))
        return sent.status_code == 200

    for _ in range(3):
        eventually(answered, what="an answer by the new key")
    mine = "key=spender&tenant=acme&tag=team%3Dsearch&provider=echo&model=echo"
    logs: Any = eventually(
        lambda: (
            len(found := api.read(f"logs?{mine}&status=200&cost_min_usd=0.000000001")["items"]) == 3 and found
        ),
        what="three rows of the log",
    )
    assert api.read(f"logs/{logs[0]['completion_id']}")["attempts"][0]["outcome"] == "ok"
    first = api.read(f"logs?{mine}&limit=1")
    rest = api.read(f"logs?{mine}&cursor={first['next_cursor']}")
    assert [*first["items"], *rest["items"]] == logs
    ledger = api.read(f"ledger?{mine}")["items"]
    assert {row["completion_id"]: row["cost_usd"] for row in ledger} == {
        row["completion_id"]: row["cost_usd"] for row in logs
    }
    usage: Any = eventually(
        lambda: (
            (told := api.read(f"usage?by=tag:team&latency=true&{mine}"))["totals"]["requests"] == 3 and told
        ),
        what="the sums",
    )
    assert [(group["name"], group["requests"]) for group in usage["groups"]] == [("search", 3)]
    for by in ("hour", "day", "model", "provider", "tenant", "key"):
        assert api.read(f"usage?by={by}&{mine}")["totals"]["cost_usd"] == usage["totals"]["cost_usd"]
    budget = api("POST", "budgets", {"key": "spender", "amount_usd": "5", "window": "day"}).json()
    windows = api.read("budget-windows?key=spender")["items"]
    assert [(each["budget"], each["limit_usd"]) for each in windows] == [(budget["id"], "5")]
    question = {"body": chat, "key": "spender"}
    assert api("POST", "explain", question).status_code == 200
    for path in ("jobs", "providers/echo/models", "providers/echo/health", "keys/spender/state"):
        api.read(path)


Race = Callable[[int], Any]
ADDRESSES: Mapping[str, tuple[str, Race]] = {
    "key": ("keys/raced", lambda number: {"tenant": "acme", "max_tokens": number + 1}),
    "route": (
        "routes/exact/raced",
        lambda number: {"note": f"{number}", "targets": [{"provider": "echo", "model": f"{number}"}] * 2},
    ),
    "exclusion": ("cache/exclusions/exact/raced", lambda number: {"note": f"{number}"}),
}


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def shows(row: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Is all of it as the body says?"""
    names = [target["model"] for target in row.get("targets", ())]
    plain = {name: value for name, value in body.items() if name != "targets"}
    return {name: row[name] for name in plain} == plain and names == [
        target["model"] for target in body.get("targets", ())
    ]


@pytest.mark.parametrize("noun", ADDRESSES)
def test_of_writers_at_once_one_wins_where_it_must_and_nothing_is_half_done(api: Api, noun: str) -> None:
    path, body_of = ADDRESSES[noun]
    bodies = [body_of(number) for number in range(AT_ONCE)]
    puts = [("PUT", path, body) for body in bodies]

    made = api.at_once(*puts, headers={"If-None-Match": "*"})
    assert statuses(made) == [201] + [412] * (AT_ONCE - 1)
    (won,) = (body for body, answer in zip(bodies, made, strict=True) if answer.status_code == 201)
    seen = api("GET", path)
    assert shows(seen.json(), won)

    fresh = [body for body in bodies if not shows(seen.json(), body)]
    updated = api.at_once(
        *(("PUT", path, body) for body in fresh), headers={"If-Match": seen.headers["etag"]}
    )
    assert statuses(updated) == [200] + [412] * (len(fresh) - 1)
    (won,) = (body for body, answer in zip(fresh, updated, strict=True) if answer.status_code == 200)
    assert shows(api.read(path), won)

    assert statuses(api.at_once(*puts)) == [200] * AT_ONCE
    assert any(shows(api.read(path), body) for body in bodies)

    assert statuses(api.at_once(*[("DELETE", path, None)] * AT_ONCE)) == [204] + [404] * (AT_ONCE - 1)
    made = api.at_once(*puts)
    assert statuses(made) == [200] * (AT_ONCE - 1) + [201]
    assert sum("secret" in answer.json() for answer in made) == (noun == "key")
    assert any(shows(api.read(path), body) for body in bodies)

    mixed = api.at_once(*puts[:2], *[("DELETE", path, None)] * 2)
    assert set(statuses(mixed[:2])) <= {200, 201}
    assert set(statuses(mixed[2:])) <= {204, 404}
    api("DELETE", path)


def test_of_those_who_add_one_at_once_one_does(api: Api) -> None:
    body = {"name": "added", "tenant": "acme"}
    added = api.at_once(*[("POST", "keys", body)] * AT_ONCE)
    assert statuses(added) == [201] + [409] * (AT_ONCE - 1)
    assert api("DELETE", "keys/added").status_code == 204


def test_a_change_and_a_file_at_once_are_both_whole(api: Api) -> None:
    file = {"version": 1, "tenants": [{"name": "both", "queue_weight": 9, "payload_days": 9}]}
    put = {"queue_weight": 3, "payload_days": 3}
    answers = api.at_once(*[("PUT", "tenants/both", put), ("POST", "config/apply", file)] * 2)
    assert set(statuses(answers)) <= {200, 201}
    row = api.read("tenants/both")
    assert row["queue_weight"] == row["payload_days"]


def test_a_request_leaves_no_connection_to_the_database_behind(api: Api) -> None:
    def open_files() -> int:
        workers = api.gateway.children("web")
        assert len(workers) == 2
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in workers)

    api.read("whoami")
    before = open_files()
    for _ in range(20):
        api.read("whoami")
    assert open_files() < before + 10


def test_a_body_without_a_length_is_read(api: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"timezone": '
        yield b'"Asia/Tokyo"}'

    options: dict[str, Any] = {"headers": {"content-type": "application/json"}}
    put = api.client.put("tenants/chunked", content=pieces(), **options)
    assert (put.status_code, put.json()["timezone"]) == (201, "Asia/Tokyo")
    asked = httpx.post(
        f"{api.gateway.url}/api/v1/keys/report-leak", content=iter([b'{"key": ', b'"sk-gw-x"}']), **options
    )
    assert asked.json()["reported"][0]["status"] == "unknown"
