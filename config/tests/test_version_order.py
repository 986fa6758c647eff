"""Writers commit in version order on a real database, so whoever sees a version has missed nothing."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.servers import child, gateway_env, manage, postgres

WRITE = """
import sys, django; django.setup()
from django.db import transaction
from keys.models import Tenant
for turn in range(20):
    with transaction.atomic():
        Tenant.objects.create(name=f"{sys.argv[1]}-{turn}")
        Tenant.objects.create(name=f"{sys.argv[1]}-{turn}-too")
print("written")
"""
READ = """
import sys, django; django.setup()
from config.models import ConfigChange, current_version
print("reading", flush=True)
while True:
    version = current_version()
    seen = ConfigChange.objects.filter(version__lte=version).count()
    assert seen == version, f"saw version {version} but {seen} changes"
    if version == int(sys.argv[1]):
        print("complete")
        break
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def env(request: pytest.FixtureRequest, tmp_path) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        url = stack.enter_context(postgres()).create("versions") if request.param == "postgres" else ""
        env = gateway_env(tmp_path, DATABASE_URL=url)
        manage("migrate", "-v0", env=env)
        yield env


def test_whoever_sees_a_version_sees_all_changes_up_to_it(env: dict[str, str]) -> None:
    with ExitStack() as stack:
        reader = stack.enter_context(child("reader", [sys.executable, "-c", READ, "120"], env=env))
        reader.wait_for("reading")
        writers = [
            stack.enter_context(child(f"writer {n}", [sys.executable, "-c", WRITE, f"writer {n}"], env=env))
            for n in range(3)
        ]
        for writer in writers:
            writer.wait_for("written")
        reader.wait_for("complete")
