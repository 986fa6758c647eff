"""A client of the management API for tests: a token of a user, and JSON both ways."""

from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from gatewaysite.api import tokens
from keys.models import Member

V1 = "/api/v1/"


class Api:
    """Sends JSON with a token, or with a signed-in client's session."""

    def __init__(self, secret: str = "", client: Client | None = None) -> None:
        self.client = client or Client()
        self.secret = secret

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.secret:
            given["authorization"] = f"Bearer {self.secret}"
        options: dict[str, Any] = {"headers": given}
        if body is not None:
            options |= {"data": body, "content_type": "application/json"}
        return self.client.generic(method, V1 + path, **_encoded(options))

    def get(self, path: str, **headers: str) -> Any:
        return self("GET", path, **headers)

    def read(self, path: str) -> Any:
        """Return what a GET answers, which must be 200."""
        response = self.get(path)
        assert response.status_code == 200, response.content
        return response.json()


def _encoded(options: dict[str, Any]) -> dict[str, Any]:
    import json

    if "data" in options and not isinstance(options["data"], str | bytes):
        options["data"] = json.dumps(options["data"])
    return options


def person(*permissions: str, superuser: bool = False, staff: bool = True, name: str = "") -> User:
    user = User.objects.create_user(
        name or f"user-{User.objects.count()}", is_staff=staff, is_superuser=superuser
    )
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def api_of(user: User, *scopes: str) -> Api:
    """Return a client with a token of this user; without `scopes`, with all."""
    name = f"token-{user.pk}-{len(scopes)}-{'-'.join(scopes)}"[:80]
    return Api(tokens.issue(name=name, user=user, scopes=scopes or list(tokens.SCOPES)))


def operator_api() -> Api:
    return api_of(person(superuser=True))


def member_of(tenant: Any, role: str, *, name: str = "") -> User:
    user = person(staff=False, name=name)
    Member.objects.create(tenant=tenant, user=user, role=role)
    return user
