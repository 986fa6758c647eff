"""Fixtures of the admin's tests; property tests judge answers, never speed (a busy machine)."""

import pytest
from django.test import Client
from hypothesis import settings

from config.tests.admin_kit import operator
from keys.models import Tenant

settings.register_profile("gateway", deadline=None)
settings.load_profile("gateway")


@pytest.fixture
def client() -> Client:
    """Return a browser of somebody who may do everything."""
    return operator()


@pytest.fixture
def tenant() -> Tenant:
    """Return a team."""
    return Tenant.objects.create(name="acme")
