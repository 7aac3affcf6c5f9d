"""A tunnel between two scripted peers: in memory, over loopback sockets, and over TLS.

The rigs have the same face, so that the rules are tested with each engine. The
tunnel's clock is always in the test's hand.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from vsmgate.config import EngineName
from vsmgate.frames import Octets
from vsmgate.model import Service
from vsmgate.relay.engines import wire_maker
from vsmgate.relay.leg import Leg
from vsmgate.relay.tunnel import Ending, Tunnel, TunnelLimits
from vsmgate.relay.wire import Reader, Wire

LIMITS = TunnelLimits(stall_timeout=120.0, dead_peer_timeout=60.0, linger=10.0)


def the_reactor() -> Any:
    """The reactor that pytest-twisted runs."""
    from twisted.internet import reactor

    return reactor


class Peer:
    """The far side of a leg: what came, and what became of the connection."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.ended = False  # a FIN came
        self.lost = False  # the connection is gone, in whatever way
        self.aborted = False  # by a reset

    @property
    def stream(self) -> bytes:
        return bytes(self.octets)

    def send(self, data: bytes) -> None: ...

    def fin(self) -> None:
        """Send a FIN, and read on."""

    def close(self) -> None:
        """Close in an orderly way."""

    def drop(self) -> None:
        """Reset the connection."""

    def stall(self) -> None:
        """Read nothing."""

    def read(self) -> None:
        """Read on."""

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait until something is seen at this peer."""


class MemoryWire(Peer):
    """A wire and its peer in one: what the peer does not read waits here."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = bytearray()
        self.inbox: list[bytes] = []
        self.stalled = self.paused = self.full = self.gone = False
        self.finishing = self.leaving = self.finish_sent = False
        self.sent_fin = self.read_all = False
        self.acked = True
        self.source: Wire | None = None
        self.reader: Reader | None = None

    # -- as a peer

    def send(self, data: bytes) -> None:
        self.inbox.append(data)
        self._deliver()

    def fin(self) -> None:
        self.sent_fin = True
        self._deliver()

    def close(self) -> None:
        self.fin()

    def drop(self) -> None:
        self._lose(ConnectionAborted())

    def stall(self) -> None:
        self.stalled = True

    def read(self) -> None:
        self.stalled = False
        self._flush()

    async def until(self, seen: Callable[[], bool]) -> None:
        assert seen()

    # -- as a wire

    def write(self, data: Octets) -> None:
        if not (self.gone or self.finish_sent):
            self.waits += data
            self._flush()

    def start(self, reader: Reader) -> None:
        self.reader = reader

    def throttle(self, source: Wire) -> None:
        self.source = source

    def unthrottle(self) -> None:
        source, self.source = self.source, None
        self.full = False
        if source is not None:
            source.resume()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._deliver()

    def waiting(self) -> int:
        return len(self.waits)

    def acknowledged(self) -> bool:
        return self.acked

    def finish(self) -> None:
        self.finishing = True
        self._flush()

    def leave(self) -> None:
        self.leaving = True
        self._flush()

    def abort(self) -> None:
        self.aborted = True
        self._lose(ConnectionAborted())

    def release(self) -> None:
        assert self.gone
        self.reader = None

    # -- inside

    def _deliver(self) -> None:
        while self.inbox and not (self.paused or self.gone or self.leaving):
            assert self.reader is not None
            self.reader.received(self.inbox.pop(0))
        if self.sent_fin and not (self.inbox or self.paused or self.gone or self.read_all):
            self.read_all = True
            assert self.reader is not None
            self.reader.finished()
            self._flush()

    def _flush(self) -> None:
        if self.gone:
            return
        if not self.stalled:
            self.octets += self.waits
            self.waits.clear()
            if self.full:
                self.full = False
                if self.source is not None:
                    self.source.resume()
                assert self.reader is not None
                self.reader.room()
        elif len(self.waits) > 65536 and self.source is not None:
            self.full = True
            self.source.pause()
        if not self.waits and (self.leaving or self.finishing):
            self.ended = self.finish_sent = True
            if self.leaving or self.read_all:
                self._lose(ConnectionDone())

    def _lose(self, why: Exception) -> None:
        if not self.gone:
            self.gone = self.lost = True
            assert self.reader is not None
            self.reader.lost(Failure(why))


@implementer(IHalfCloseableProtocol)
class SocketPeer(Peer, Protocol):
    """A peer at the other end of a loopback connection."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: tuple[Callable[[], bool], Deferred[None]] | None = None

    def send(self, data: bytes) -> None:
        self.tcp.write(data)

    def fin(self) -> None:
        if ISSLTransport.providedBy(self.transport):
            self.close()
        else:
            self.tcp.loseWriteConnection()

    def close(self) -> None:
        self.tcp.loseConnection()

    def drop(self) -> None:
        self.tcp.abortConnection()

    def stall(self) -> None:
        self.tcp.pauseProducing()

    def read(self) -> None:
        self.tcp.resumeProducing()

    async def until(self, seen: Callable[[], bool]) -> None:
        if not seen():
            waiting: Deferred[None] = Deferred()
            self._waiting = (seen, waiting)
            await waiting.addTimeout(10, the_reactor())

    @property
    def tcp(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self.tcp.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.octets += data
        self._look()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._look()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = True
        self.aborted = reason.check(ConnectionDone) is None
        self._look()

    def _look(self) -> None:
        if self._waiting is not None and self._waiting[0]():
            (_, waiting), self._waiting = self._waiting, None
            waiting.callback(None)


class Rig:
    """A tunnel, its two peers, its clock, and what it told."""

    def __init__(self, client: Peer, service: Peer) -> None:
        self.client = client
        self.service = service
        self.clock = Clock()
        self.activity: list[float] = []
        self.endings: list[Ending] = []
        self._over: Deferred[None] = Deferred()
        self.tunnel: Tunnel

    def build(
        self, client: Leg, service: Leg, make_wire: Callable[..., Wire], options: dict[str, Any]
    ) -> None:
        self.tunnel = Tunnel(
            client,
            service,
            spec=options.pop("spec", Service()),
            extensions=options.pop("extensions", False),
            limits=options.pop("limits", LIMITS),
            clock=cast(Any, self.clock),
            on_activity=lambda: self.activity.append(self.clock.seconds()),
            on_end=self._ended,
            make_wire=make_wire,
            view_only=options.pop("view_only", False),
        )
        self.tunnel.start(options.pop("early_client", b""), options.pop("early_service", b""))
        assert not options

    def _ended(self, ending: Ending) -> None:
        self.endings.append(ending)
        if len(self.endings) == 1:
            self._over.callback(None)

    def pass_time(self, seconds: float) -> None:
        """Let the tunnel's clock go, in steps of half a second."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)

    async def over(self, close: bool = True) -> Ending:
        """Wait for the end; peers that saw a FIN close, as peers do."""
        if close:
            await gatherResults(
                [Deferred.fromCoroutine(_hang_up(peer)) for peer in (self.client, self.service)]
            )
        if not self.endings:
            await self._over.addTimeout(10, the_reactor())
        for peer in (self.client, self.service):
            peer.close()  # one that has seen a FIN does not notice more by itself
            await peer.until(lambda peer=peer: peer.lost)  # type: ignore[misc]
        assert not self.clock.getDelayedCalls()
        (ending,) = self.endings
        return ending


async def _hang_up(peer: Peer) -> None:
    await peer.until(lambda: peer.ended or peer.lost)
    peer.close()


async def in_memory(**options: Any) -> Rig:
    """A rig that needs no reactor."""
    client, service = MemoryWire(), MemoryWire()
    rig = Rig(client, service)
    rig.build(Leg(), Leg(), lambda _, __, to_client: client if to_client else service, options)
    return rig


async def on_loopback(**options: Any) -> Rig:
    """A rig over real sockets and Twisted's transports."""
    return await _on_sockets(False, "transports", options)


async def on_tls(**options: Any) -> Rig:
    """The same, with TLS between client and gateway."""
    return await _on_sockets(True, "transports", options)


async def on_engine(**options: Any) -> Rig:
    """A rig over real sockets and the direct-socket engine."""
    return await _on_sockets(False, "sockets", options)


async def on_mixed(**options: Any) -> Rig:
    """TLS to the client by transports, and to the service the direct-socket engine."""
    return await _on_sockets(True, "sockets", options)


async def _on_sockets(tls: bool, engine: EngineName, options: dict[str, Any]) -> Rig:
    client, service = SocketPeer(), SocketPeer()
    rig = Rig(client, service)
    legs = [await connected(client, tls), await connected(service)]
    rig.build(legs[0], legs[1], wire_maker(engine, the_reactor()), options)
    return rig


async def connected(peer: SocketPeer, tls: bool = False) -> Leg:
    """The gateway's side of a new connection to ``peer``, paused until the tunnel starts."""
    arrived: Deferred[Leg] = Deferred()

    class Arriving(Leg):
        def connectionMade(self) -> None:
            cast(Any, self.transport).pauseProducing()
            arrived.callback(self)

    reactor = the_reactor()
    factory: Any = Factory.forProtocol(Arriving)
    if tls:
        factory = TLSMemoryBIOFactory(_certificate().options(), False, factory, reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    if tls:
        endpoint = wrapClientTLS(optionsForClientTLS("localhost", _certificate()), endpoint)
    try:
        dialling = Factory.forProtocol(lambda: peer)
        dialling.noisy = False
        await endpoint.connect(dialling)
        return await arrived.addTimeout(10, reactor)
    finally:
        await port.stopListening()


@functools.cache
def _certificate() -> PrivateCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return PrivateCertificate.loadPEM(pem + certificate.public_bytes(Encoding.PEM))
