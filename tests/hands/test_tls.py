"""TLS to services: always verified, against a private authority too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from tests.certificates import Authority
from vsmgate.config import TlsConfig
from vsmgate.errors import BadHandshake, ServiceTlsFailed
from vsmgate.hands.certificates import Certificates
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.probes import probe
from vsmgate.hands.tls import tls_layer
from vsmgate.model import Endpoint, Health, Service, ServiceTls
from vsmgate.targets import ANYWHERE


class Server(Protocol):
    """Answers one line, and tells that it got one."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.connected = 0
        gone: Deferred[None] = self.factory.gone
        if not gone.called:
            gone.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@asynccontextmanager
async def serving(folder: Path, authority: Authority | None, *names: str) -> AsyncIterator[Any]:
    from twisted.internet import reactor

    factory: Any = Factory.forProtocol(Server)
    factory.received, factory.gone, factory.connections = b"", Deferred(), []
    if authority is None:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        certificate, key = authority.issue(*names)
        loaded = Certificates(TlsConfig(str(certificate), str(key)), "tls")
        layer = tls_layer(factory, loaded, reactor)
        port = reactor.listenTCP(0, layer, interface="127.0.0.1")
    factory.endpoint = Endpoint("127.0.0.1", port.getHost().port)
    try:
        yield factory
    finally:
        for connection in factory.connections:
            if connection.connected:
                connection.transport.abortConnection()
        await port.stopListening()


class Reader(Protocol):
    def __init__(self) -> None:
        self.line: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.line.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


def connect(server: Any, tls: ServiceTls) -> Deferred[Any]:
    from twisted.internet import reactor

    dialler = Dialler(reactor)
    reader: Callable[[], Reader] = Reader
    asked = dialler.connect(Factory.forProtocol(reader), server.endpoint, ANYWHERE, 5.0, tls)
    return Deferred.fromCoroutine(asked)


@pytest.mark.criterion("C-29")
@pytest_twisted.ensureDeferred
async def test_a_private_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(tmp_path, authority, "127.0.0.1", "node.example.org") as server:
        for name in (None, "node.example.org"):
            tls = ServiceTls(ca=str(authority.ca), server_name=name)
            reader = await connect(server, tls)
            reader.transport.write(b"hello")
            assert (await reader.line).startswith(b"HTTP/1.1 204")
            reader.transport.abortConnection()
            await reader.gone
    assert server.received == b"hello" * 2


@pytest.mark.criterion("C-29")
@pytest_twisted.ensureDeferred
async def test_who_is_not_trusted_is_sent_nothing(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with serving(tmp_path, authority, "node.example.org") as server:
        for tls, words in (
            (ServiceTls(ca=str(other.ca), server_name="node.example.org"), "certificate verify"),
            (ServiceTls(server_name="node.example.org"), "certificate verify failed"),
            (ServiceTls(ca=str(authority.ca)), "the certificate is for another name"),
            (ServiceTls(ca=str(authority.ca), server_name="x.example.org"), "for another name"),
            (ServiceTls(ca=str(tmp_path / "none.pem")), "cannot be read"),
            (ServiceTls(ca=str(tmp_path / "server.key")), "cannot be read"),
        ):
            with pytest.raises(ServiceTlsFailed, match=words) as caught:
                await connect(server, tls)
            assert (caught.value.status, caught.value.code) == (502, "service_tls")
    assert server.received == b""


@pytest_twisted.ensureDeferred
async def test_a_changed_authority_is_read_again(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    tls = ServiceTls(ca=str(tmp_path / "trusted.pem"), server_name="n.example.org")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(other.ca.read_bytes())
    async with serving(tmp_path, authority, "n.example.org") as server:
        with pytest.raises(ServiceTlsFailed):
            await connect(server, tls)
        trusted.write_bytes(other.ca.read_bytes() + authority.ca.read_bytes())
        reader = await connect(server, tls)
        reader.transport.abortConnection()
        await reader.gone


@pytest_twisted.ensureDeferred
async def test_a_service_that_speaks_no_tls(tmp_path: Path) -> None:
    async with serving(tmp_path, None) as server:
        with pytest.raises(ServiceTlsFailed, match=r"wrong version number|record layer failure"):
            await connect(server, ServiceTls())


@pytest_twisted.ensureDeferred
async def test_a_cancel_ends_the_handshake(tmp_path: Path) -> None:
    async with serving(tmp_path, None) as server:
        server.protocol = Silent
        connecting = connect(server, ServiceTls())
        server.begun = Deferred()
        await server.begun
        connecting.cancel()
        with pytest.raises(CancelledError):
            await connecting
        await server.gone


class Silent(Server):
    def dataReceived(self, data: bytes) -> None:
        self.factory.begun.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_probe_verifies_too(tmp_path: Path) -> None:
    from twisted.internet import reactor

    authority = Authority(tmp_path)
    async with serving(tmp_path, authority, "127.0.0.1") as server:
        dialler, health = Dialler(reactor), Health(http="/healthz")
        good = ServiceTls(ca=str(authority.ca))
        await probe(dialler, server.endpoint, ANYWHERE, Service(health=health, tls=good))
        await probe(dialler, server.endpoint, ANYWHERE, Service(tls=good))
        for kind in (health, Health()):
            unknown = Service(health=kind, tls=ServiceTls())
            with pytest.raises(ServiceTlsFailed):
                await probe(dialler, server.endpoint, ANYWHERE, unknown)
        websocket = Service(health=Health(kind="websocket"), tls=good)
        with pytest.raises(BadHandshake):
            await probe(dialler, server.endpoint, ANYWHERE, websocket)
