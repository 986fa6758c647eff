import pytest

from proxy.clients import client_ip
from proxy.http import LaneRequest
from proxy.tests.fakes import Client


def request(address="203.0.113.9", forwarded=None):
    headers = {} if forwarded is None else {"x_forwarded_for": forwarded}
    return LaneRequest(Client("GET", "/", address=address, **headers).scope, b"")


@pytest.mark.parametrize(
    ("address", "forwarded", "trusted", "client"),
    [
        # Nobody is trusted: the header is anybody's claim.
        ("203.0.113.9", None, (), "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", (), "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", ("10.0.0.0/8",), "203.0.113.9"),
        # The nearest address that is not a proxy of ours.
        ("10.0.0.1", "198.51.100.1", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", " 198.51.100.1 ,,", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", ("10.0.0.0/8",), "10.0.0.1"),
        ("10.0.0.1", None, ("10.0.0.0/8",), "10.0.0.1"),
        ("10.0.0.1", "", ("10.0.0.0/8",), "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", ("10.0.0.1",), "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1", ("192.0.2.1", "10.0.0.1/24"), "198.51.100.1"),
        ("fd00::1", "2001:db8::5", ("fd00::/8",), "2001:db8::5"),
        ("", "198.51.100.1", ("10.0.0.0/8",), ""),
        ("unix", "198.51.100.1", ("10.0.0.0/8",), "unix"),
    ],
)
def test_it_believes_only_trusted_proxies(address, forwarded, trusted, client):
    assert client_ip(request(address, forwarded), trusted) == client


def test_it_does_without_a_peer():
    scope = {**Client("GET", "/").scope, "client": None}
    assert client_ip(LaneRequest(scope, b""), ()) == ""
