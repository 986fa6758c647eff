"""What the tests of all admin screens need: someone signed in, and a count of queries."""

import re
from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def signed_in(*permissions: str, superuser: bool = False) -> Client:
    """Return a client of a staff member with these permissions ("providers.view_provider")."""
    user = User.objects.create_user(f"user-{User.objects.count()}", is_staff=True, is_superuser=superuser)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client


def operator() -> Client:
    """Return a client that may do everything."""
    return signed_in(superuser=True)


def statements(client: Client, url: str) -> list[str]:
    """Return the SQL of a page, which must open, at its second visit: the first one fills caches."""
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    assert response.status_code == 200, (url, response.status_code)
    return [query["sql"] for query in captured.captured_queries]


def page(client: Client, url: str, **query: Any) -> str:
    """Return a page's HTML."""
    response = client.get(url, query)
    assert response.status_code == 200, (url, response.status_code)
    return response.content.decode()


def inlines(prefix: str, rows: Sequence[dict[str, Any]] = (), *, initial: int = 0) -> dict[str, Any]:
    """Return the form fields of one inline formset."""
    fields: dict[str, Any] = {
        f"{prefix}-TOTAL_FORMS": len(rows),
        f"{prefix}-INITIAL_FORMS": initial,
        f"{prefix}-MIN_NUM_FORMS": 0,
        f"{prefix}-MAX_NUM_FORMS": 1000,
    }
    for number, row in enumerate(rows):
        fields |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
    return fields


def messages_in(html: str) -> str:
    """Return the text of a page, without tags and spare blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
