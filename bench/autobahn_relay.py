"""A relay of whole messages, as one writes it first with Autobahn.

``python -m bench.autobahn_relay SERVICE_PORT [CERTIFICATE KEY]`` answers a client when the
service has answered, forwards every message, pauses the side whose other side does not
keep up, and passes the close code on. It says its address on standard output.
"""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred


class _Side:
    """What both sides do with what arrives."""

    other: Any = None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.other.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.other is not None:
            self.other.sendClose(code if wasClean and code != 1005 else None)


class ToService(_Side, WebSocketClientProtocol):
    """The leg to the service."""

    def onOpen(self) -> None:
        self.factory.opened.callback(self)


class FromClient(_Side, WebSocketServerProtocol):
    """The leg to the client."""

    def onConnect(self, request: Any) -> Any:
        from twisted.internet import reactor

        if not request.path.endswith("/renderer"):
            raise ConnectionDeny(404)
        address = f"ws://127.0.0.1:{self.factory.service_port}{request.path}"
        factory = WebSocketClientFactory(address, reactor=reactor)
        factory.protocol = ToService
        factory.opened = Deferred()
        factory.setProtocolOptions(tcpNoDelay=True)
        reactor.connectTCP("127.0.0.1", self.factory.service_port, factory)
        return factory.opened.addCallback(self._join)

    def _join(self, service: ToService) -> None:
        self.other, service.other = service, self
        self.transport.registerProducer(service.transport, True)
        service.transport.registerProducer(self.transport, True)


def main() -> None:
    """Relay until killed."""
    from twisted.internet import reactor
    from twisted.internet.ssl import DefaultOpenSSLContextFactory

    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = FromClient
    factory.service_port = int(sys.argv[1])
    factory.setProtocolOptions(tcpNoDelay=True)
    if len(sys.argv) > 2:
        context = DefaultOpenSSLContextFactory(sys.argv[3], sys.argv[2])
        port = reactor.listenSSL(0, factory, context, backlog=4096, interface="127.0.0.1")
    else:
        port = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
    sys.stdout.write(f"http://127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
