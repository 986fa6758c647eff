import pytest

from providers.tests.samples import make_account, make_upstream
from providers.upstream import UpstreamRequest


def test_it_shows_no_secret():
    account = make_account(headers={"authorization": "Bearer vendor-secret"})
    upstream = make_upstream(headers={"api-key": "vendor-secret"})
    assert repr(account) == "Account('openai', 'openai', 'http://127.0.0.1:9/v1')"
    assert "vendor-secret" not in f"{account} {upstream!r} {upstream}"


def test_it_never_changes():
    with pytest.raises(AttributeError):
        make_account().headers = {}  # type: ignore[misc]  # that it is refused is the test
    request = UpstreamRequest(path="/x", body=b"", headers={})
    assert request.dropped_params == ()
