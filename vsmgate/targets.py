"""Where services may be dialled: the rules against being sent to the wrong machine. Pure.

A job's engine, and so perhaps the job itself, tells where its services are. What it
tells may be wrong or malicious, so each address is judged after names are resolved, and
the very address that was judged is dialled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

__all__ = [
    "ANYWHERE",
    "REMOTE",
    "Address",
    "TargetRule",
    "read_host",
    "read_targets",
    "wrong_with_target",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
#: What some resolvers read as an address: 2130706433, 127.1, 0x7f.0.0.1.
_NUMBER = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)", re.ASCII)

#: Nobody's service is there (RFC 6890), or the cloud's metadata are.
_NEVER: tuple[tuple[str, tuple[Network, ...]], ...] = tuple(
    (why, tuple(map(ip_network, networks)))
    for why, networks in (
        (
            "it gives out a cloud's metadata",
            (
                "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16",
                "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
            ),
        ),
        ("it is link-local", ("169.254.0.0/16", "fe80::/10")),
        ("it is unspecified", ("0.0.0.0/8", "::/128")),
        ("it is no single machine's", ("224.0.0.0/4", "240.0.0.0/4", "ff00::/8")),
    )
)  # fmt: skip
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052


@dataclass(frozen=True)
class TargetRule:
    """What a launcher's services may be dialled at.

    ``names``: hosts, in lower case; ``*.example.org`` is every name below example.org.
    ``networks``: networks of their addresses. One of either must fit; without both, every
    address does. ``loopback``: whether a loopback address may be dialled that is in none
    of ``networks``. Some addresses are refused whatever the rule says.
    """

    names: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    loopback: bool = True

    def refusal(self, name: str, address: Address) -> str:
        """Return why ``address`` may not be dialled, or nothing.

        ``name``: what it was resolved from; the address itself where there was no name.
        """
        forms = tuple(_forms(address))
        for form in forms:
            for why, networks in _NEVER:
                if any(form in network for network in networks):
                    return why
        listed = any(_plain(address) in network for network in self.networks)
        if any(form.is_loopback for form in forms) and not listed and not self.loopback:
            return "it is a loopback address"
        if listed or not (self.names or self.networks):
            return ""
        name = name.lower().removesuffix(".")
        return "" if any(_fits(name, pattern) for pattern in self.names) else "it is not listed"


#: The rule that only refuses what is always refused.
ANYWHERE = TargetRule()

#: The rule where nothing is configured: the gateway's own machine is not a target.
REMOTE = TargetRule(loopback=False)


def read_host(host: str) -> Address | None:
    """Return the address that ``host`` is, or None for a name to be resolved.

    Raises `ValueError` where it is neither, or only looks like a name: what a resolver
    would read as a number is no name.
    """
    try:
        if "%" in host:
            raise ValueError("an address with a zone is no target")
        return _plain(ip_address(host))
    except ValueError:
        last = host.removesuffix(".").rpartition(".")[2]
        if len(host) > 253 or not _NAME.fullmatch(host) or _NUMBER.fullmatch(last):
            raise ValueError("it is neither a host's name nor an address") from None
    return None


def read_targets(entries: Iterable[str]) -> TargetRule:
    """Return the rule that allows ``entries``: networks, addresses, names, ``*.`` names."""
    names: list[str] = []
    networks: list[Network] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError:
            names.append(entry.lower())
    return TargetRule(tuple(names), tuple(networks), loopback=False)


def wrong_with_target(entry: str) -> str:
    """Return what is wrong with an entry of ``targets`` (the end of a sentence), or nothing."""
    try:
        ip_network(entry)
    except ValueError:
        number = _NUMBER.fullmatch(entry.rpartition(".")[2])
        if number or not _PATTERN.fullmatch(entry):
            return "is no target: a network '10.0.0.0/8', a name, or '*.nodes.example.org'"
    return ""


def _fits(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv4-mapped one is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _forms(address: Address) -> Iterator[Address]:
    """Yield the address, and those that a gateway of the network makes of it."""
    yield (address := _plain(address))
    if isinstance(address, IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        if address in _NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)
