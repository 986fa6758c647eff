"""Gives the tests an environment of their own, before Django reads it.

Every variable that the gateway knows is emptied (so that neither the developer's shell nor a
`.env` in the checkout reaches a test), the data directory is temporary, and the secret key is fixed.
GATEWAY_TEST_DATABASE_URL runs the suite on another database than in-memory SQLite.
GATEWAY_REQUIRE_ALL=1 (the checks on a clean machine) turns every skip into a failure.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from dataclasses import fields
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import connection

from gatewaysite import logs
from gatewaysite.environment import ALIASES, Environment

# A password is hashed for half a second; who knows one in a test has not to be kept out.
FAST_HASH = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATA_DIR = Path(tempfile.mkdtemp(prefix="gateway-tests-"))
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)

# An empty variable means its default, and `.env` never overrides a variable that is set.
os.environ.update(dict.fromkeys([spec.metadata["name"] for spec in fields(Environment)], ""))
os.environ.update(dict.fromkeys(ALIASES, ""))
os.environ.update(
    DJANGO_SETTINGS_MODULE="gatewaysite.settings",
    GATEWAY_DATA_DIR=str(DATA_DIR),
    GATEWAY_SECRET_KEYS="test-secret-key-that-is-long-enough-for-djangos-own-check-of-it-0123456789",
    DATABASE_URL=os.environ.get("GATEWAY_TEST_DATABASE_URL", ""),
)
# Hundreds of processes are started from this checkout: each would compile it all over again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
django.setup()  # here, because pytest-django sets Django up only for settings named in an ini file
settings.PASSWORD_HASHERS = FAST_HASH


def _print(line: str | bytes) -> None:
    """Write a log line now and through sys.stdout, where pytest shows it beside the test it belongs to."""
    print(line if isinstance(line, str) else line.decode("utf-8", "replace"))  # noqa: T201 - a test's output


for method in ("msg", "log", "debug", "info", "warning", "error", "critical", "exception"):
    setattr(logs.OUTPUT, method, _print)

WHOLE_SYSTEM = Path(__file__).parent / "tests"
REQUIRE_ALL = os.environ.get("GATEWAY_REQUIRE_ALL") == "1"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:  # noqa: ARG001 - comes first
    """Let rows of ledger and audit log be deleted between tests: Django empties SQLite's tables by DELETE.

    On PostgreSQL it truncates them, which no trigger of rows prevents. keys/tests/test_append_only.py and
    gatewaysite/tests/test_audit_chain.py have the triggers.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for table in ("keys_ledgerentry", "auditlog_logentry", "gatewaysite_auditseal"):
                for name in ("no_update", "no_delete", "no_other_actor"):
                    cursor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}")


@pytest.hookimpl(trylast=True)  # after pytest-django has put those without a database last
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the whole-system tests, whose files are the longest: processes that share all end together.

    The order inside a file stays.
    """
    items.sort(key=lambda item: not item.path.is_relative_to(WHOLE_SYSTEM))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped for something missing, where everything must be there."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and not _is_optional(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"GATEWAY_REQUIRE_ALL=1 allows no skip, but: {reason}"
    return report


def _is_optional(item: pytest.Item) -> bool:
    return item.get_closest_marker("optional") is not None
