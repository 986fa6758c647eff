"""Static response headers."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from proxy.middleware.headers import ResponseHeaders
from proxy.tests.fakes import environment
from proxy.tests.middlewares import context


def test_it_sets_its_headers_in_the_place_of_others(settings):
    settings.GATEWAY = environment(response_headers=(("X-Served-By", "gateway"), ("x-frame", "ä")))
    headers = [(b"x-served-by", b"vendor"), (b"x-request-id", b"1")]
    ResponseHeaders().begin(context()).head(headers)
    assert headers == [
        (b"x-request-id", b"1"),
        (b"x-served-by", b"gateway"),
        (b"x-frame", "ä".encode("latin-1")),
    ]


@pytest.mark.parametrize(
    "name", ["Connection", "Content-Length", "transfer-encoding", "upgrade", "a b", "", "x:y"]
)
def test_it_refuses_names_that_would_break_an_answer(settings, name):
    settings.GATEWAY = environment(response_headers=((name, "x"),))
    with pytest.raises(ImproperlyConfigured, match=r"^RESPONSE_HEADERS: ") as problem:
        ResponseHeaders()
    assert repr(name) in str(problem.value)


@pytest.mark.parametrize("value", ["a\r\nb: c", "日本", "\0"])
def test_it_refuses_values_that_are_none(settings, value):
    settings.GATEWAY = environment(response_headers=(("x-a", value),))
    with pytest.raises(ImproperlyConfigured, match="RESPONSE_HEADERS: the value of"):
        ResponseHeaders()
