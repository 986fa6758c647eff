"""All texts that an object holds, however deep: what must be kept nowhere is looked for among them."""

import gc
import types
from collections.abc import Iterator

_PASSED_BY = (type, types.ModuleType, types.FunctionType, types.FrameType, types.CodeType)
# A running task holds the frames of the test itself.
_PACKAGES = {"_asyncio", "asyncio", "uvloop", "_pytest"}


def texts(root: object) -> Iterator[bytes]:
    """Yield every text and byte string that can be reached, but for those of code and of running tasks."""
    seen, todo = {id(root)}, [root]
    while todo:
        each = todo.pop()
        if isinstance(each, str):
            yield each.encode("utf-8", "replace")
        elif isinstance(each, bytes | bytearray):
            yield bytes(each)
        for following in gc.get_referents(each):
            foreign = type(following).__module__.partition(".")[0] in _PACKAGES
            if id(following) not in seen and not foreign and not isinstance(following, _PASSED_BY):
                seen.add(id(following))
                todo.append(following)
