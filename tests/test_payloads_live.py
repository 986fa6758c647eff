"""Payloads of a served gateway: stored where that was chosen, blacked out, looked at on record, deleted."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import logged, rows
from tests.servers import eventually

pytestmark = pytest.mark.timeout(300)

VENDOR_KEY = "sk-proj-" + "Ab3dE5" * 7
KEYS = {name: f"own-{name}-key-of-the-payloads" for name in ("plain", "silent", "always")}
# Keys of two tenants: of one that will store what is said, and of one that will not.
MADE = f"""
from keys.models import ApiKey, Tenant
for tenant, names in (("keeps", ("plain", "silent")), ("forgets", ("always",))):
    owner = Tenant.objects.create(name=tenant)
    for name in names:
        ApiKey.issue(tenant=owner, name=name, secret={KEYS!r}[name])[0].save()
"""
ACCESS = 3  # auditlog's word for a look


@pytest.fixture(scope="module")
def served() -> Iterator[Gateway]:
    with running_gateway({"CACHE_MODE": "none"}) as gateway:
        gateway.shell(MADE)
        yield gateway


@pytest.fixture(scope="module")
def admin(served: Gateway) -> Iterator[AdminSession]:
    with contextlib.closing(AdminSession(served)) as session:
        yield session


def ask(gateway: Gateway, name: str, text: str) -> dict[str, Any]:
    """Send a request, and return its row of the log."""
    headers = {"authorization": f"Bearer {KEYS[name]}"}
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": text}]}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return logged(gateway, answer.headers["x-request-id"])


def stored(gateway: Gateway, row: dict[str, Any]) -> list[dict[str, Any]]:
    sql = "SELECT * FROM analytics_storedpayload WHERE completion_id = ?"
    return rows(gateway, sql, row["completion_id"])


def stored_of(gateway: Gateway, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is stored of a request once a later one's payload is: they come in their order."""
    later = ask(gateway, "always", "behind it")
    eventually(lambda: stored(gateway, later), what="the later payload")
    return stored(gateway, row)


@pytest.fixture(scope="module")
def chosen(served: Gateway, admin: AdminSession) -> list[dict[str, Any]]:
    """Have what one key says stored; return requests from before that."""
    before = [ask(served, name, "not yet") for name in KEYS]
    admin.save(admin.change_path("keys/apikey", "always"), payload_days="2")
    eventually(lambda: stored(served, ask(served, "always", "by now")), what="the first payload")
    return before


def test_what_is_said_is_stored_for_whom_an_operator_says_so(
    served: Gateway, admin: AdminSession, chosen: list[dict[str, Any]]
) -> None:
    admin.save(admin.change_path("keys/apikey", "silent"), payload_days="0")
    tenant = admin.change_path("keys/tenant", "keeps")
    admin.save(tenant, payload_days="7")
    (of_tenant,) = eventually(lambda: stored_of(served, ask(served, "plain", "keep it")), what="the change")
    (of_key,) = stored_of(served, ask(served, "always", "keep it"))
    assert (_days(of_tenant), _days(of_key)) == (7, 2)
    assert stored_of(served, ask(served, "silent", "keep nothing")) == []
    admin.save(tenant, payload_days="0")
    eventually(lambda: not stored_of(served, ask(served, "plain", "no more")), what="the change")
    assert [stored(served, row) for row in chosen] == [[], [], []]


def test_secrets_are_black_and_looks_are_on_record_until_it_is_deleted(
    served: Gateway, admin: AdminSession, chosen: list[dict[str, Any]]
) -> None:
    text = f"Write to lena.hoffmann@example.com that {VENDOR_KEY} and {KEYS['always']} leaked"
    row = ask(served, "always", text)
    (payload,) = stored_of(served, row)
    assert payload["redactions"] >= 6  # three in what was asked, and in the echo of it
    on_disk = (served.data_dir / "gateway.sqlite3").read_bytes()
    assert b"lena.hoffmann@" not in on_disk
    assert VENDOR_KEY.encode() not in on_disk

    page = f"/analytics/requestlog/{row['id']}/change/"
    assert "[SECRET]" not in admin.get(page)
    looks = "SELECT actor_id FROM auditlog_logentry WHERE action = ? AND object_repr = ?"
    assert rows(served, looks, ACCESS, row["completion_id"]) == []
    shown = admin.get(f"{page}?payload=1")
    assert "Write to [EMAIL] that [SECRET] and [SECRET] leaked" in shown
    assert VENDOR_KEY not in shown
    (look,) = rows(served, looks, ACCESS, row["completion_id"])
    (who,) = rows(served, "SELECT username FROM auth_user WHERE id = ?", look["actor_id"])
    assert who["username"] == "admin"

    sql = "UPDATE analytics_storedpayload SET expires_at = ? WHERE completion_id = ?"
    rows(served, sql, "2020-01-01 00:00:00", row["completion_id"])
    assert "What was asked and answered" not in admin.get(page)
    answer = admin.act("config/jobrun", "run_selected", "Purge payloads")
    assert "1 payload purged" in answer.text
    assert stored(served, row) == []


def _days(payload: dict[str, Any]) -> int:
    """Return for how many days it is kept."""
    at, expires_at = (datetime.fromisoformat(payload[name]) for name in ("at", "expires_at"))
    return (expires_at - at).days
