"""Bodies of unknown length: REST framework takes a request without Content-Length for one without a body."""

import os
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.views import APIView


class ChunkedBodies(APIView):
    """Says how long a chunked body was, which has come whole by now: Django reads it before any view."""

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Measure it."""
        if "CONTENT_LENGTH" not in request.META and "HTTP_TRANSFER_ENCODING" in request.META:
            body: Any = request._stream  # noqa: SLF001 - the file that Django has written
            request.META["CONTENT_LENGTH"] = str(body.seek(0, os.SEEK_END))
            body.seek(0)
        return super().initialize_request(request, *args, **kwargs)
