"""The PROXY protocol, version 2: a front says in octets of its own who the client is.

See the specification of HAProxy, section 2.2. Where it is switched on, nothing is taken
from a connection that does not begin with its header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure

__all__ = ["HeaderError", "behind_proxy", "read_header"]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
#: Family and transport -> octets of an address.
_TCP = {0x11: 4, 0x21: 16}
#: The most that addresses and what follows them may be.
_LARGEST = 2048


class HeaderError(ValueError):
    """What arrived is no header of version 2."""


def read_header(data: bytes) -> tuple[tuple[str, int] | None, int] | None:
    """Return the client's address and port, and the octets of the header; None: more is needed.

    No address where the front speaks for itself, as in its health checks, or for a client
    that did not come by TCP. Raises `HeaderError`.
    """
    if not _SIGNATURE.startswith(data[:12]):
        raise HeaderError
    if len(data) < _HEAD.size:
        return None
    _, command, family, length = _HEAD.unpack_from(data)
    if command not in (_LOCAL, _PROXY) or length > _LARGEST:
        raise HeaderError
    end = _HEAD.size + length
    if len(data) < end:
        return None
    size = _TCP.get(family)
    if command == _LOCAL or size is None:
        return None, end
    if length < 2 * size + 4:
        raise HeaderError
    host = ip_address(data[_HEAD.size : _HEAD.size + size])
    (port,) = struct.unpack_from("!H", data, _HEAD.size + 2 * size)
    return (str(host), port), end


def behind_proxy(
    factory: ServerFactory, wanted: bool, seconds: float, clock: IReactorTime
) -> ServerFactory:
    """Return ``factory`` for a listener behind such a front, or itself where not ``wanted``.

    The header must be complete within ``seconds``.
    """
    return _Behind(factory, seconds, clock) if wanted else factory


class _Behind(ServerFactory):
    noisy = False

    def __init__(self, factory: ServerFactory, seconds: float, clock: IReactorTime) -> None:
        self._factory = factory
        self._later: Callable[[Callable[[], object]], IDelayedCall] = lambda call: clock.callLater(
            seconds, call
        )

    def doStart(self) -> None:
        super().doStart()
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()
        super().doStop()

    def buildProtocol(self, addr: Any) -> _Header:
        return _Header(self._factory, addr, self._later)


class _Header(Protocol):
    """Reads the header, and gives the whole transport to the real protocol then.

    It does not stay in between: who takes the socket away later finds it at its place.
    """

    def __init__(
        self,
        factory: ServerFactory,
        addr: Any,
        later: Callable[[Callable[[], object]], IDelayedCall],
    ) -> None:
        self._factory = factory
        self._addr = addr
        self._later = later
        self._data = b""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._timer = self._later(transport.abortConnection)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        if self._timer.active():
            self._timer.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Read on until the header is there."""
        transport: Any = self.transport
        self._data += data
        try:
            found = read_header(self._data)
        except HeaderError:
            transport.abortConnection()
            return
        if found is None:
            return
        client, end = found
        if client is not None:
            kind = IPv6Address if ":" in client[0] else IPv4Address
            self._addr = kind("TCP", *client)
        self._timer.cancel()
        protocol = self._factory.buildProtocol(self._addr)
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest := self._data[end:]:
            protocol.dataReceived(rest)
