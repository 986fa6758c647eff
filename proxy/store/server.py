"""Redis, as the parts of its store reach it."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from proxy.store.batch import Command
from proxy.store.scripts import Script


class Server(Protocol):
    """One connection, and whether there is any use in asking."""

    def usable(self) -> bool:
        """Is it up? If it is not, and the time has come, it is looked at again."""

    def failed(self, problem: BaseException) -> None:
        """Take note that it is away."""

    def send(self, *command: Any) -> "asyncio.Future[Any]":
        """Send a command behind those sent before; the answer raises CONNECTION_ERRORS."""

    async def call(self, script: Script, *arguments: Any) -> Any:
        """Return a script's answer, known to Redis or not. Raises CONNECTION_ERRORS."""

    async def ask(self, *commands: Command) -> Sequence[Any] | None:
        """Return the answers to commands that go out together. None: Redis is away."""

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """Return a script's answer. None: Redis is away."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something soon, and before the store is closed."""
