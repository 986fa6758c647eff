"""The badge on top of each admin page: do the rows make a configuration?"""

from collections.abc import Sequence

import structlog
from django.http import HttpRequest

from config.models import current_version
from proxy import compiling

MAX_LENGTH = 120

log = structlog.get_logger()
# The last verdict, and the version of the rows it is about.
_judged: tuple[int, str] = (-1, "")


def configuration_badge(request: HttpRequest) -> Sequence[str] | None:
    """Return unfold's [text, colour]; nothing for visitors who are not signed in."""
    if not request.user.is_authenticated:
        return None
    problem = _problem()
    if problem:
        return [f"Configuration refused, the last good one serves: {problem}"[:MAX_LENGTH], "danger"]
    return ["Configuration in force", "success"]


def _problem() -> str:
    global _judged  # noqa: PLW0603 - one verdict a process, replaced whole
    version = current_version()
    judged, problem = _judged
    if judged != version:
        problem = _checked()
        _judged = (version, problem)
    return problem


def _checked() -> str:
    try:
        return compiling.check()
    except Exception as problem:  # the page that repairs the rows must open whatever is wrong with them
        log.exception("configuration_check_failed")
        return str(problem) or type(problem).__name__
