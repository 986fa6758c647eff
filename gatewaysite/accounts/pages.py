"""Pages that only say something: why one is not let in, and what to do about it."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

# The longest window of ACCOUNT_RATE_LIMITS.
RETRY_AFTER_S = 300


def notice(request: HttpRequest, title: str, *sentences: str, status: int = 403) -> HttpResponse:
    """Return a page that says something."""
    context = {"title": title, "sentences": sentences}
    return render(request, "account/notice.html", context, status=status)


def too_many_attempts(request: HttpRequest) -> HttpResponse:
    """Return 429 with a page that says when to try again."""
    answer = render(request, "429.html", {"minutes": RETRY_AFTER_S // 60}, status=429)
    answer["Retry-After"] = str(RETRY_AFTER_S)
    return answer
