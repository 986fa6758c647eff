"""The live feed's WebSocket, before the whole stack of sockets: who may, whose requests, what is said."""

import contextlib

import orjson
import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.test import Client

from analytics.live import consumer as module
from analytics.live.events import event_of
from analytics.live.feed import VIEWERS
from analytics.tests.live_kit import finished
from gatewaysite.sockets import sockets
from keys.models import ApiKey, Member, Tenant

pytestmark = pytest.mark.django_db(transaction=True)


def person(name, *, staff=False, allowed=False):
    user = User.objects.create_user(name, is_staff=staff)
    if allowed:
        user.user_permissions.add(Permission.objects.get(codename="view_requestlog"))
    return user


def cookie_of(user):
    client = Client()
    client.force_login(user)
    return "; ".join(f"{name}={each.value}" for name, each in client.cookies.items())


@contextlib.asynccontextmanager
async def socket(user=None, *, path="/ws/live/", **headers):
    cookie = await sync_to_async(cookie_of)(user) if user else ""
    sent = {"host": "gateway.test", "cookie": cookie, **headers}
    asked = WebsocketCommunicator(sockets, path, [(k.encode(), v.encode()) for k, v in sent.items()])
    accepted, _ = await asked.connect(timeout=10)
    asked.accepted = accepted
    yield asked
    await asked.disconnect(timeout=10)


async def code_of(asked):
    message = await asked.receive_output(timeout=10)
    assert message["type"] == "websocket.close"
    return message["code"]


async def tell(*completions):
    seen = {str(each.tenant_id or 0): 1 for each in completions}
    body = {"seen": seen, "failed": {}, "unsent": 0, "events": [event_of(each) for each in completions]}
    await get_channel_layer().group_send(VIEWERS, {"type": "live.news", "body": orjson.dumps(body)})


async def test_who_is_not_signed_in_is_told_so():
    async with socket() as asked:
        assert await code_of(asked) == 4401


async def test_who_has_no_right_to_it_is_told_so():
    async with socket(await sync_to_async(person)("clerk", staff=True)) as asked:
        assert await code_of(asked) == 4403


async def test_a_page_of_another_origin_is_refused():
    user = await sync_to_async(person)("op", staff=True, allowed=True)
    async with socket(user, origin="https://evil.test") as asked:
        assert not asked.accepted
    async with socket(user, origin="http://gateway.test") as asked:
        assert asked.accepted
        assert (await asked.receive_json_from(10))["type"] == "hello"


async def test_a_path_that_nobody_serves_is_refused():
    async with socket(path="/ws/other/") as asked:
        assert not asked.accepted


async def test_an_operator_sees_names_and_gets_errors_in_words():
    user = await sync_to_async(person)("op", staff=True, allowed=True)
    tenant = await Tenant.objects.acreate(name="acme")
    key = ApiKey(tenant=tenant, name="ci")
    key.set_secret("a-secret-of-the-live-feeds-test")
    await sync_to_async(key.save)()
    async with socket(user) as asked:
        assert await asked.receive_json_from(10) == {"type": "hello", "scope": "all", "shared": False}
        await asked.send_to(text_data="{")
        assert await asked.receive_json_from(10) == {"type": "error", "message": "a message must be JSON"}
        await asked.send_json_to({"filter": {"colour": "red"}})
        assert "filter.colour: unknown" in (await asked.receive_json_from(10))["message"]
        await tell(finished(tenant_id=tenant.pk, key_id=key.pk), finished(tenant_id=999_999, key_id=999_999))
        batch = await asked.receive_json_from(10)
        names = [(each["tenant_name"], each["key_name"]) for each in batch["events"]]
        assert names == [("acme", "ci"), ("", "")]


async def test_a_member_sees_their_own_tenants_requests_alone():
    user = await sync_to_async(person)("member")
    own, other = await Tenant.objects.acreate(name="own"), await Tenant.objects.acreate(name="other")
    await Member.objects.acreate(tenant=own, user=user)
    async with socket(user) as asked:
        assert (await asked.receive_json_from(10))["scope"] == "tenants"
        await tell(finished(id="theirs", tenant_id=other.pk), finished(id="mine", tenant_id=own.pk))
        batch = await asked.receive_json_from(10)
        assert [each["id"] for each in batch["events"]] == ["mine"]
        assert batch["seen"] == 1
        assert "other" not in orjson.dumps(batch).decode()


async def test_it_closes_when_the_right_is_taken_away(monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_EVERY_S", 0.0)
    user = await sync_to_async(person)("op", staff=True, allowed=True)
    async with socket(user) as asked:
        assert (await asked.receive_json_from(10))["type"] == "hello"
        await User.objects.filter(pk=user.pk).aupdate(is_active=False)
        assert await code_of(asked) == 4401
