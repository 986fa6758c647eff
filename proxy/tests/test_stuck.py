"""What dead workers hold in Redis where no worker is left to free it."""

import pytest

from gatewaysite.environment import read_environment
from keys.models import Budget, BudgetWindow
from proxy.store import stuck
from proxy.tasks import sweep_holds
from proxy.tests.redis_stores import demand, log, purse, server, settled, slot, stores, take  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


def test_in_one_process_there_is_nothing_to_do(settings):
    settings.GATEWAY = read_environment({})
    assert sweep_holds() == "nothing to do: holds are in the processes themselves"


async def test_it_frees_what_a_dead_worker_holds_when_no_other_does(stores, server, settings):  # noqa: F811
    from asgiref.sync import sync_to_async

    settings.GATEWAY = read_environment({"REDIS_URL": server.url()})
    budget = await sync_to_async(Budget.objects.create)(amount_nanousd=100, window="total")
    from keys.calendar import FIRST

    await sync_to_async(BudgetWindow.objects.create)(budget=budget, starts_at=FIRST, spent_nanousd=25)
    key = f"{budget.pk}@{int(FIRST.timestamp())}"
    dying = stores(owner="gone")
    held = await take(dying, purses=(purse(100, key=key),), slots=(slot(1),), worst=40, expected=4)
    assert held.hold is not None
    await settled(dying)
    dying.counts.presence._beats.cancel()
    assert await sync_to_async(sweep_holds)() == "nothing to do: no dead process holds anything"
    with server.client() as client:
        client.zadd("gw:workers", {"gone": client.zscore("gw:workers", "gone") - (stuck.GRACE_S + 20) * 1e6})
    assert await sync_to_async(sweep_holds)() == "freed what 1 dead worker held"
    with server.client() as client:
        assert client.zrange("gw:workers", 0, -1) == []
        assert client.hget(f"gw:purse:{key}", "s") == b"25"
        assert not client.exists("gw:holds:gone")
    assert await sync_to_async(sweep_holds)() == "nothing to do: no dead process holds anything"
