"""The admin's live screen: requests as they finish; and the way from one of them to its page."""

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from analytics.live.people import PERMISSION
from analytics.models import RequestLog


def live_view(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    """Show the screen. `context`: what each admin page has."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    # The page of a request is at its row's number, which is not known yet when it is shown here.
    request_url = reverse("admin:analytics_requestlog_of", args=["COMPLETION"])
    page = {**context, "title": "Live", "hears_of_few": hears_of_few(), "request_url": request_url}
    return render(request, "admin/analytics/requestlog/live.html", page)


def request_of(request: HttpRequest, completion_id: str) -> HttpResponse:
    """Go to a request's page; where it is not in the log yet, or is no more, to the list, and say so."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    row = RequestLog.objects.filter(completion_id=completion_id).values_list("pk", flat=True).first()
    if row is not None:
        return redirect("admin:analytics_requestlog_change", row)
    text = (
        "This request is not in the log. It takes a second or two until one is; a request without a valid "
        "key never is, and old ones are deleted."
    )
    messages.warning(request, text)
    return redirect(f"{reverse('admin:analytics_requestlog_changelist')}?q={completion_id}")


def hears_of_few() -> str:
    """Say why the feed does not hear of every request; "": it does."""
    env = settings.GATEWAY
    if env.redis_url:
        return ""
    if os.environ.get("GATEWAY_PLANE") == "control":
        return "The gateway's processes that serve requests are apart from this one, and tell it nothing."
    if env.workers > 1:
        return f"There are {env.workers} workers, and only the one that serves this page is heard."
    return ""
