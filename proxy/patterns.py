"""Regexes of operators run on every request, so they are RE2: linear in the input, never exponential."""

import re2


class BadPattern(ValueError):
    """The regex does not compile; the message is RE2's own."""


def compile_regex(pattern: str) -> "re2._Regexp":
    """Return the compiled RE2 for unanchored search. Raises BadPattern with RE2's message."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except re2.error as problem:
        message = problem.args[0]
        raise BadPattern(message.decode() if isinstance(message, bytes) else str(message)) from None
