"""What is at no other path under /api/v1/; the paths themselves are in `gatewaysite.api.urls`."""

from django.urls import re_path
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from proxy.errors import NotFound


@extend_schema(exclude=True)
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


urlpatterns = [re_path("", Nothing.as_view())]
