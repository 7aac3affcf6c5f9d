"""Who a client is when proxies that we trust stand in front. Pure.

Everybody can write forwarding headers, so only what trusted proxies added is believed:
they add to the right, and the first address from there that is no proxy of ours is the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

from vsmgate.targets import Address, read_host

__all__ = ["Headers", "Networks", "client_of", "read_networks", "wrong_with_network"]

Networks = tuple[IPv4Network | IPv6Network, ...]


class Headers(Protocol):
    """A request's headers."""

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of the header ``name``."""


def read_networks(entries: Iterable[str]) -> Networks:
    """Return the networks that ``entries`` are; they were judged before."""
    return tuple(map(ip_network, entries))


def wrong_with_network(entry: str) -> str:
    """Return what is wrong with an entry of ``trusted_proxies``, or nothing."""
    try:
        ip_network(entry)
    except ValueError:
        return "is no network or address, such as '10.0.0.0/8' or '::1'"
    return ""


def client_of(head: Headers, peer: str, trusted: Networks) -> tuple[str, bool | None]:
    """Return the client's address, and whether it came by TLS (None: nobody said).

    ``peer``: the address at the other end of the connection.
    """
    if not trusted or not _is_in(_address(peer), trusted):
        return peer, None
    hops = [hop for line in head.all("X-Forwarded-For") for hop in line.split(",")]
    client = peer
    for hop in reversed(hops):
        address = _address(hop.strip())
        if address is None:
            break  # what is left of it was written by somebody who cannot be trusted
        client = str(address)
        if not _is_in(address, trusted):
            break
    schemes = [s.strip().lower() for v in head.all("X-Forwarded-Proto") for s in v.split(",")]
    return client, schemes[-1] in ("https", "wss") if schemes else None


def _is_in(address: Address | None, networks: Networks) -> bool:
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """Return the address in a hop: bare, with a port, or in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return read_host(text)
    except ValueError:
        return None
