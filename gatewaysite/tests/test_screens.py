"""Which processes know the admin's screens, and that a wrong screen is told before it is shown."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.checks import Tags, run_checks

from tests.servers import gateway_env, manage

AS_A_SHIPPER = """
import sys
import gatewaysite.celery
import analytics.management.commands.ship
gatewaysite.celery.app.loader.import_default_modules()
print(gatewaysite.celery.app.tasks.keys() >= {"analytics.tasks.write_request_logs"})
print({"gatewaysite.urls", "keys.admin", "unfold.admin", "proxy.gateway"} & {*sys.modules})
"""


def test_who_ships_records_does_without_screens_and_data_plane(tmp_path):
    told = manage("shell", "--no-imports", "-c", AS_A_SHIPPER, env=gateway_env(tmp_path))
    assert told.split() == ["True", "set()"]


AS_A_WORKER = """
import asyncio, sys
import gatewaysite.asgi
before = "gatewaysite.urls" in sys.modules

async def get(path):
    asked, said = [], []
    async def receive():
        asked.append(path)
        return {"type": "http.request"} if len(asked) == 1 else await asyncio.Event().wait()
    async def send(message):
        said.append(message)
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await gatewaysite.asgi.application(scope, receive, send)
    return said[0]["status"]

async def both():
    return await asyncio.gather(get("/admin/"), get("/no-such-page"))

print(before, asyncio.run(both()))
"""


def test_a_worker_reads_its_pages_when_the_first_is_asked_for(tmp_path):
    told = manage("shell", "--no-imports", "-c", AS_A_WORKER, env=gateway_env(tmp_path))
    assert "False [302, 404]" in told.splitlines()


@pytest.fixture
def wrong_screen():
    screen = type("Wrong", (admin.ModelAdmin,), {"list_display": ("no_such_column",)})
    admin.site.register(Permission, screen)
    yield
    admin.site.unregister(Permission)


@pytest.mark.usefixtures("wrong_screen")
def test_the_checks_look_at_every_screen():
    found = run_checks(tags=[Tags.admin])
    assert [(each.id, each.obj.__name__) for each in found] == [("admin.E108", "Wrong")]
