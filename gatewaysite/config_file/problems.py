"""What is wrong with a configuration file: every problem, each by its path, or nothing."""

import difflib
from collections.abc import Iterable, Sequence


class ConfigFileError(Exception):
    """The file is not applied; `problems` are sentences such as `keys[2].tenant: required`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Problems:
    """Collects problems while the reading goes on, so that one run shows them all."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def add(self, path: str, message: str) -> None:
        """Note what is wrong at `path` (empty: the file as a whole)."""
        self._found[f"{path}: {message}" if path else message] = None

    def raise_if_any(self) -> None:
        """Raise ConfigFileError with everything found so far."""
        if self._found:
            raise ConfigFileError(tuple(self._found))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean x?" for the nearest known word, or what is known, or nothing."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1) or [
        name for name in names if len(word) > 2 and word in name
    ]
    if near:
        return f", did you mean {near[0]}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 25 else ""
