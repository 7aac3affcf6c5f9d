"""Reaching a service: the connection, and its answer to the opening handshake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
)
from twisted.internet.error import ConnectError, DNSLookupError, UnsupportedAddressFamily
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IReactorTCP, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from vsmgate.errors import BadHandshake, GatewayError, ServiceRefused, ServiceTimeout
from vsmgate.heads import ResponseHead, response_reader
from vsmgate.model import Endpoint
from vsmgate.relay.leg import Leg

__all__ = ["Reply", "dial", "within"]

T = TypeVar("T")


class IDialReactor(IReactorTCP, IReactorTime):
    """What dialling needs of a reactor."""
