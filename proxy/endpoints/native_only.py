"""What of a request has no other form: noted while it is read, told where it matters."""

from providers.call import Untranslatable
from proxy.errors import BadRequest


class NativeOnly:
    """The first thing that only a vendor of the request's own format can answer, if there is one."""

    def __init__(self, sentence: str = "{why}") -> None:
        """Begin with a request that everyone can answer. `sentence` frames what is noted."""
        self._sentence = sentence
        self._needed: Untranslatable | None = None
        self._extra: list[Untranslatable] = []

    @property
    def found(self) -> Untranslatable | None:
        """Return what the client is told of: the first thing that cannot be left out, else the first."""
        if self._needed is not None or not self._extra:
            return self._needed
        return self._extra[0]._replace(extras=tuple(each.param for each in self._extra))

    def note(self, param: str, why: str) -> None:
        """Note what the request makes no sense without; `param` names it."""
        if self._needed is None:
            self._needed = self._told(param, why)

    def note_extra(self, param: str, why: str) -> None:
        """Note what a provider's row may say to leave out."""
        self._extra.append(self._told(param, why))

    def _told(self, param: str, why: str) -> Untranslatable:
        return Untranslatable(param, self._sentence.format(param=param, why=why))


def wrong(param: str, rule: str) -> BadRequest:
    """Return the refusal of a field that breaks a rule ("must be a string")."""
    return BadRequest(f"'{param}' {rule}.", param=param)
