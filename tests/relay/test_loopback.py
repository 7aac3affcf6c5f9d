"""The relay over real sockets, with peers that nobody here wrote."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.relay.rig import (
    JOB,
    KEY_ACCEPTED,
    TOKEN,
    FakeDesk,
    Watcher,
    answer_in,
    head_in,
    request,
    welcome,
)
from vsmgate.config import RelayConfig
from vsmgate.frames import frame_head
from vsmgate.hands.certificates import Certificates
from vsmgate.model import Endpoint, Service
from vsmgate.relay.service import RelayService
from vsmgate.relay.tunnel import Ending


class Echo(WebSocketServerProtocol):
    """Autobahn's server: echoes, picks the last subprotocol, compresses if asked."""

    def onConnect(self, asked: Any) -> str | None:
        self.factory.asked.append(asked)
        return asked.protocols[-1] if asked.protocols else None

    def onMessage(self, payload: bytes, is_binary: bool) -> None:
        if payload == b"bye":
            self.sendClose(4321, "so long")
        else:
            self.sendMessage(payload, is_binary)


def accept_deflate(offers: list[Any]) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


def echo_factory() -> Any:
    from twisted.internet import reactor

    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Echo
    factory.asked = []
    factory.setProtocolOptions(
        openHandshakeTimeout=0, perMessageCompressionAccept=accept_deflate, echoCloseCodeReason=True
    )
    return factory


class Watch(Watcher):
    """Tells when the first relay is over."""

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[None] = Deferred()

    def closed(self, service: str, ending: Ending) -> None:
        super().closed(service, ending)
        if not self.over.called:
            self.over.callback(None)


@asynccontextmanager
async def served(
    factory: Any,
    *,
    host: str = "127.0.0.1",
    certificates: Certificates | None = None,
    spec: Service | None = None,
    **config: Any,
) -> AsyncIterator[tuple[RelayService, Watch]]:
    """A relay in front of ``factory``; everything is gone afterwards."""
    from twisted.internet import reactor

    far: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    desk = FakeDesk(Endpoint(host, far.getHost().port), renderer=spec or Service())
    settings = {"port": 0, "drain": 0.0, "drain_spread": 0.0, "linger": 2.0, **config}
    watch = Watch()
    relay = RelayService(reactor, RelayConfig(**settings), desk, watch, certificates=certificates)
    relay.startService()
    try:
        yield relay, watch
    finally:
        await relay.stopService()
        await far.stopListening()


def client_of(relay: RelayService, **options: Any) -> Callable[[], ClientConnection]:
    uri = f"ws://127.0.0.1:{relay.port}/{JOB}/renderer?token={TOKEN}"
    return lambda: connect(uri, **{"close_timeout": 5, "open_timeout": 5, **options})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest_twisted.ensureDeferred
async def test_compression_and_subprotocol_end_to_end(host: str) -> None:
    factory = echo_factory()
    text = "so much of the same, " * 5000
    async with served(factory, host=host) as (relay, watch):
        offered = [Subprotocol("a"), Subprotocol("b")]
        dial = client_of(relay, subprotocols=offered, max_size=None)

        def talk() -> tuple[Any, Any, str, bytes, str]:
            with dial() as client:
                assert client.response is not None
                chosen = client.response.headers["Sec-WebSocket-Extensions"]
                client.send(text)
                back = client.recv(timeout=10)
                client.send(bytes(range(256)))
                octets = client.recv(timeout=10)
                pong = client.ping(b"payload of a ping")
                assert pong.wait(10)
                client.send("bye")
                with pytest.raises(ConnectionClosed) as caught:
                    client.recv(timeout=10)
                closed = caught.value.rcvd
                assert closed is not None
                assert isinstance(back, str)
                assert isinstance(octets, bytes)
                return client.subprotocol, chosen, back, octets, f"{closed.code} {closed.reason}"

        subprotocol, chosen, back, octets, closed = await deferToThread(talk)
        assert subprotocol == "b"
        assert chosen.startswith("permessage-deflate")
        assert back == text
        assert octets == bytes(range(256))
        assert closed == "4321 so long"
        (asked,) = factory.asked
        assert asked.protocols == ["a", "b"]
        assert asked.path == "/"
        assert asked.params == {}
        assert [name for name, _ in asked.extensions] == ["permessage-deflate"]
        await within(watch.over)
        assert relay.relays == 0


def within(waiting: Deferred[None]) -> Deferred[None]:
    from twisted.internet import reactor

    return waiting.addTimeout(20, reactor)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_refusals_reach_the_client_as_statuses() -> None:
    class Refusing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")

    async with served(Factory.forProtocol(Refusing)) as (relay, _):

        def talk(options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            with pytest.raises(InvalidStatus) as caught:
                client_of(relay, **options)()
            response = caught.value.response
            assert response.headers["Connection"] == "close"
            return response.status_code, json.loads(response.body or b"")

        status, body = await deferToThread(talk, {})
        assert (status, body["code"]) == (502, "bad_handshake")
        status, body = await deferToThread(talk, {"origin": "https://evil.example"})
        assert (status, body["code"]) == (403, "origin_refused")


@pytest.mark.criterion("C-2")
@pytest_twisted.ensureDeferred
async def test_nothing_listens() -> None:
    async with served(Factory.forProtocol(Protocol)) as (relay, _):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        desk: Any = relay.desk
        desk.endpoint = Endpoint("127.0.0.1", port)

        def talk() -> int:
            with pytest.raises(InvalidStatus) as caught:
                client_of(relay)()
            return caught.value.response.status_code

        assert await deferToThread(talk) == 502


class Peer(Protocol):
    """Collects octets; ``until`` waits for a number of them, or for the end."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.over = False
        self._wanted: tuple[Callable[[], bool], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.octets += data
        self._look()

    def connectionLost(self, reason: Failure | None = None) -> None:  # type: ignore[override]
        self.over = True
        self._look()

    def until(self, enough: Callable[[], bool]) -> Deferred[None]:
        self._wanted = (enough, Deferred())
        waiting = self._wanted[1]
        self._look()
        return within(waiting)

    def _look(self) -> None:
        if self._wanted is not None and self._wanted[0]():
            wanted, self._wanted = self._wanted, None
            wanted[1].callback(None)


class FarFactory(Factory):
    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.dialled: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Peer:
        self.peers.append(Peer())
        if not self.dialled.called:
            self.dialled.callback(None)
        return self.peers[-1]


async def near(relay: RelayService) -> Peer:
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint

    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", relay.port)
    peer: Peer = await endpoint.connect(Factory.forProtocol(Peer))
    return peer


def frames(seed: int, masked: bool) -> bytes:
    """About 2 MiB of frames of all lengths and kinds."""
    dice = random.Random(seed)
    made = bytearray()
    for size in (0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 300_000, 77):
        key = dice.randbytes(4) if masked else b""
        payload = dice.randbytes(size)
        half = size // 2
        made += frame_head(0x02, half, key) + payload[:half]  # the first of two fragments
        made += frame_head(0x89, 4, key) + b"ping"  # a Ping between them
        made += frame_head(0x80, size - half, key) + payload[half:]
    return bytes(made)


async def trickle(write: Callable[[bytes], None], octets: bytes) -> None:
    """Write in pieces of all sizes, some of them a turn apart."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    dice = random.Random(7)
    at = 0
    while at < len(octets):
        size = dice.choice((1, 3, 100, 5000, 70000))
        write(octets[at : at + size])
        at += size
        if dice.random() < 0.1:
            await deferLater(reactor, 0)  # type: ignore[arg-type]


@pytest.mark.criterion("C-1", "C-16")
@pytest_twisted.ensureDeferred
async def test_every_octet_crosses_unchanged() -> None:
    factory = FarFactory()
    upstream, downstream = frames(1, True), frames(2, False)
    async with served(factory) as (relay, watch):
        client = await near(relay)
        assert client.transport is not None
        head = request(
            f"/{JOB}/renderer?token={TOKEN}",
            "Sec-WebSocket-Protocol: a,  b",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        )
        early = 1000
        client.transport.write(head + upstream[:early])
        await within(factory.dialled)
        service = factory.peers[0]
        await service.until(lambda: b"\r\n\r\n" in service.octets)
        asked = bytes(service.octets)
        assert asked.endswith(b"\r\n\r\n")  # none of the early octets
        service.octets.clear()
        assert head_in(asked).one("Sec-WebSocket-Protocol") == "a,  b"
        assert service.transport is not None
        extensions = "permessage-deflate; client_max_window_bits=11"
        service.transport.write(
            welcome(asked, "Sec-WebSocket-Protocol: a", f"Sec-WebSocket-Extensions: {extensions}")
            + downstream[:early]
        )
        await trickle(client.transport.write, upstream[early:])
        await trickle(service.transport.write, downstream[early:])
        await service.until(lambda: len(service.octets) >= len(upstream))
        await client.until(lambda: len(client.octets) >= len(downstream) + 150)
        answer, rest = answer_in(bytes(client.octets))
        assert answer.one("Sec-WebSocket-Accept") == KEY_ACCEPTED
        assert answer.one("Sec-WebSocket-Protocol") == "a"
        assert answer.one("Sec-WebSocket-Extensions") == extensions
        await client.until(lambda: answer_in(bytes(client.octets))[1] == downstream)
        assert digest(service.octets) == digest(upstream)
        rest = answer_in(bytes(client.octets))[1]
        assert digest(rest) == digest(downstream)
        client.transport.abortConnection()  # type: ignore[attr-defined]
        await service.until(lambda: service.over)
        await within(watch.over)
        assert relay.relays == 0


def digest(octets: bytes | bytearray) -> str:
    return hashlib.sha256(octets).hexdigest()


@pytest_twisted.ensureDeferred
async def test_a_large_refused_head_still_gets_its_answer() -> None:
    """Unread input must not reset the connection before the answer is read."""
    async with served(Factory.forProtocol(Protocol)) as (relay, _):

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as peer:
                peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000)
                heard = b""
                while piece := peer.recv(65536):
                    heard += piece
                return heard

        assert (await deferToThread(talk)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.criterion("C-3")
@pytest_twisted.ensureDeferred
async def test_no_file_descriptor_stays() -> None:
    factory = FarFactory()
    async with served(factory, handshake_timeout=0.2) as (relay, _):
        before = len(os.listdir("/proc/self/fd"))
        clients = [await near(relay) for _ in range(5)]
        for client in clients:
            assert client.transport is not None
            client.transport.write(request())
        for client in clients:
            await client.until(lambda peer=client: peer.over)  # type: ignore[misc]
            assert client.octets.startswith(b"HTTP/1.1 504 ")
        for peer in factory.peers:
            await peer.until(lambda peer=peer: peer.over)  # type: ignore[misc]
        await relay.drain()
        assert len(os.listdir("/proc/self/fd")) < before  # not even the listener's
