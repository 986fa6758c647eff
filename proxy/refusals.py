"""Where errors become responses, in the envelope that the client reads, with the middlewares' headers."""

from django.http import HttpResponse

from proxy import lifecycle
from proxy.errors import GatewayError
from proxy.http import LaneRequest, error_response


def refused(request: LaneRequest, error: GatewayError) -> HttpResponse:
    """Return the response that tells `error`."""
    running = lifecycle.running()
    if running is not None and running.middleware.response:
        running.middleware.response.error(error.headers)
    return error_response(request, error)
