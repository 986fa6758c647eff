"""The management API's paths, under /api/v1/."""

from django.urls import path, re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from proxy.api.explain import ExplainView
from proxy.api.leaks import ReportLeakView
from proxy.errors import NotFound


class Nothing(APIView):
    """Whatever is not there."""

    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *_: object, **__: object) -> None:
        """Answer any method alike."""
        raise NotFound(f"There is nothing at {request.path}.", code="unknown_path")

    def get(self, request: Request) -> Response:
        """Never come here."""
        raise NotImplementedError


urlpatterns = [
    path("explain", ExplainView.as_view(), name="explain"),
    path("keys/report-leak", ReportLeakView.as_view(), name="report-leak"),
    re_path("", Nothing.as_view()),
]
