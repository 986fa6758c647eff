"""Which processes know the admin's screens, and that a wrong screen is told before it is shown."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.checks import Tags, run_checks

from tests.servers import gateway_env, manage

HAS_SCREENS = "import sys; print({'keys.admin', 'unfold.admin', 'proxy.gateway'} & {*sys.modules})"


def test_a_process_that_shows_no_page_does_without_screens_and_data_plane(tmp_path):
    assert manage("shell", "--no-imports", "-c", HAS_SCREENS, env=gateway_env(tmp_path)).strip() == "set()"


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
