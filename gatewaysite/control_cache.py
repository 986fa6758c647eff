"""The control plane's cache on Redis, which lets people sign in while Redis is down."""

from typing import Any

from django_redis.cache import RedisCache


class ControlCache(RedisCache):  # type: ignore[misc]  # django-redis ships no types
    """django-redis, with errors ignored (IGNORE_EXCEPTIONS) in the one place where that would refuse.

    The throttle of sign-ins takes a lock by `add` and refuses who does not get it. Without Redis nobody
    gets it: the operator who must look at the outage would stand before the door.
    """

    def add(self, *arguments: Any, **options: Any) -> bool:
        """Store a value if there is none. In an outage there is none."""
        added = super().add(*arguments, **options)
        return True if added is None else bool(added)
