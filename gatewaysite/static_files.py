"""Serves static files from where they are; a first start needs no collectstatic."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # whitenoise ships no types
    """whitenoise, with answers of one piece.

    Its own answers stream a file by a synchronous iterator, which Django cannot serve
    asynchronously: it would read it whole anyway, in one more thread, and warn.
    """

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        """Answer with the whole file; they are small."""
        streamed = WhiteNoiseMiddleware.serve(static_file, request)
        answer = HttpResponse(b"".join(streamed), status=streamed.status_code)
        answer.headers = streamed.headers
        streamed.close()
        return answer
