"""Forwarding headers: believed from the right, as far as trusted proxies wrote them."""

from __future__ import annotations

import pytest

from vsmgate.forwarding import client_of, read_networks
from vsmgate.heads import RequestHead

TRUSTED = read_networks(["10.0.0.0/8", "::1"])


def head(*forwarded: str, proto: str | None = None) -> RequestHead:
    pairs = [("X-Forwarded-For", value) for value in forwarded]
    if proto is not None:
        pairs.append(("X-Forwarded-Proto", proto))
    return RequestHead(method="GET", target="/", headers=tuple(pairs))


@pytest.mark.criterion("S-21")
@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ("203.0.113.9",), "192.0.2.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("::1", ("2001:db8::9",), "2001:db8::9"),
        ("::ffff:10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("127.0.0.1, 203.0.113.9, 10.9.9.9",), "203.0.113.9"),
        ("10.0.0.1", ("1.1.1.1", "203.0.113.9 ,10.9.9.9"), "203.0.113.9"),
        ("10.0.0.1", ("203.0.113.9:5123",), "203.0.113.9"),
        ("10.0.0.1", ("[2001:db8::9]:5123",), "2001:db8::9"),
        ("10.0.0.1", ("203.0.113.9, unknown, 10.2.2.2",), "10.2.2.2"),
        ("10.0.0.1", ("10.3.3.3, 10.2.2.2",), "10.3.3.3"),
        ("10.0.0.1", ("evil\x7f",), "10.0.0.1"),
        ("10.0.0.1", (",",), "10.0.0.1"),
        ("-", ("203.0.113.9",), "-"),
    ],
)
def test_the_right_most_stranger(peer: str, forwarded: tuple[str, ...], client: str) -> None:
    assert client_of(head(*forwarded), peer, TRUSTED) == (client, None)
    assert client_of(head(*forwarded), peer, ()) == (peer, None)


def test_the_scheme() -> None:
    for proto, tls in (("https", True), ("http", False), ("HTTP, wss", True), ("x", False)):
        assert client_of(head(proto=proto), "10.0.0.1", TRUSTED) == ("10.0.0.1", tls)
        assert client_of(head(proto=proto), "192.0.2.1", TRUSTED) == ("192.0.2.1", None)
