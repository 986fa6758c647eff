"""What a continuation says again of a text that the client has already."""

from typing import NamedTuple


class Known(NamedTuple):
    """What a continuation may begin with though it has been said: a text, and then `blanks`.

    `repeated`: as much of the text as it has said again.
    """

    text: str
    blanks: bool
    repeated: str = ""

    def __bool__(self) -> bool:
        """Is there anything to look out for?"""
        return bool(self.text) or self.blanks

    def left_out_of(self, content: str) -> tuple[str, "Known"]:
        """Return what is new in the next piece, and what may be repeated after it."""
        if self.text:
            said = self.repeated + content
            if self.text.startswith(said) and said != self.text:
                return "", self._replace(repeated=said)
            # What only began alike was no repetition.
            content = said.removeprefix(self.text)
        if self.blanks:
            content = content.lstrip()
        return content, NOTHING_KNOWN if content else Known("", self.blanks)


NOTHING_KNOWN = Known("", blanks=False)
