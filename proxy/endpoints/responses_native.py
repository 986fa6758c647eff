"""What of a Responses request has no other form: noted while it is read, told where it matters."""

from providers.call import Untranslatable
from proxy.errors import BadRequest


class NativeOnly:
    """The first thing that only a vendor of the Responses format can answer, if there is one."""

    def __init__(self) -> None:
        """Begin with a request that everyone can answer."""
        self.found: Untranslatable | None = None

    def note(self, param: str, why: str) -> None:
        """Note a parameter; the first one is the one that the client is told of."""
        if self.found is None:
            asked = "Only a provider with OpenAI's own Responses API can answer that."
            self.found = Untranslatable(param, f"{param!r} cannot be translated. {why} {asked}")


def wrong(param: str, rule: str) -> BadRequest:
    """Return the refusal of a field: `rule` goes on from its name."""
    return BadRequest(f"{param!r} {rule}.", param=param)
