"""Makes keys, and changes them on command: `python -m bench.soak.changes make N | listen`.

`listen` reads one command a line and answers with one line of JSON: when the change began, when its
transaction was committed. It is a process of its own, as the control plane of an installation is.
"""

import json
import os
import sys
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

ADMIN, PASSWORD = "soak", "soak-password-of-no-account"
BATCH = 5_000


def name_of(number: int) -> str:
    """Return the name of the n-th key."""
    return f"soak-{number:06d}"


def secret_of(number: int) -> str:
    """Return the secret of the n-th key."""
    return f"soak-key-number-{number:06d}-no-secret"


def make(count: int) -> None:
    """Make `count` keys in a hundred tenants, and an administrator."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - Django must be set up first

    from keys.models import ApiKey, Tenant  # noqa: PLC0415

    get_user_model().objects.create_superuser(ADMIN, password=PASSWORD)
    tenants = Tenant.objects.bulk_create([Tenant(name=f"soak-{number}") for number in range(100)])
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        ApiKey.objects.bulk_create(
            ApiKey.issue(
                tenant=tenants[number % 100],
                name=name_of(number),
                secret=secret_of(number),
                allowed_models=["bench-*", "demo/*"] if number % 2 else [],
            )[0]
            for number in numbers
        )


def listen() -> None:
    """Carry out commands until standard input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        words = line.split()
        began = time.monotonic()
        rows = _change(words)
        print(json.dumps({"began": began, "committed": time.monotonic(), "rows": rows}), flush=True)


def _change(words: list[str]) -> int:
    from keys.models import ApiKey  # noqa: PLC0415 - Django must be set up first

    command, enabled = words[0], words[-1] == "on"
    if command == "one":
        key = ApiKey.objects.get(name=words[1])
        key.enabled = enabled
        key.save()
        return 1
    if command == "all":
        return ApiKey.objects.filter(name__startswith="soak-").update(enabled=enabled)
    if command == "id":
        return ApiKey.objects.get(name=words[1]).pk
    raise ValueError(f"unknown command {command!r}")


if __name__ == "__main__":
    import django

    django.setup()
    if sys.argv[1] == "make":
        make(int(sys.argv[2]))
    else:
        listen()
