"""The scripts that Redis runs (proxy/store/lua): each is one step that nobody can come between."""

import hashlib
from pathlib import Path
from typing import NamedTuple

_LUA = Path(__file__).parent / "lua"


class Script(NamedTuple):
    """A script, and the name that Redis knows it by."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> "Script":
        """Name it."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def read(cls, *names: str) -> "Script":
        """Read it from its files: what it uses comes first."""
        return cls.of("\n".join((_LUA / f"{name}.lua").read_text() for name in names))


ADMIT = Script.read("base", "window", "purse", "admit")
SETTLE = Script.read("base", "window", "record", "settle")
RAISE = Script.read("base", "purse", "record", "raise")
ADOPT = Script.read("base", "purse", "record", "adopt")
SPENT = Script.read("base", "spent")
USED = Script.read("base", "window", "used")
COUNT = Script.read("base", "window", "count")
BEAT = Script.read("base", "beat")
OPEN = Script.read("base", "open")
SWEEP = Script.read("base", "record", "sweep")
PACKED = (ADMIT, SETTLE, RAISE)  # what is called by its name
