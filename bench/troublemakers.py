"""Services and clients that misbehave at random, for ``bin/soak``.

They speak WebSocket by hand, octet by octet, because no library can be talked into it.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from vsmgate.frames import CLOSE, PING, close_payload, control_frame, frame_head

__all__ = ["SERVICES", "ServiceFactory", "visit"]

SERVICES = ("echo", "flood", "slow", "reset", "hole", "liar")

KEY = b"\x10\x20\x30\x40"
PAYLOAD = bytes(range(256)) * 1024
WORDS = "dGhlIHNhbXBsZSBub25jZQ=="


class Troublemaker(Protocol):
    """Has a transport, chance, and timers that end with its connection."""

    reactor: Any
    chance: random.Random

    def __init__(self) -> None:
        self.gone = False
        self._calls: set[Any] = set()

    def later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call, unless the connection is gone by then."""

        def due() -> None:
            self._calls.discard(delayed)
            call(*args)

        delayed = self.reactor.callLater(seconds, due)
        self._calls.add(delayed)

    def connectionLost(self, reason: Failure | None = None) -> None:  # type: ignore[override]
        """Be gone."""
        self.gone = True
        for call in self._calls:
            call.cancel()
        self._calls.clear()

    @property
    def tcp(self) -> Any:
        """The transport."""
        return self.transport


class Service(Troublemaker):
    """A job's service of one kind of `SERVICES`."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self._head: bytes | None = b""

    def dataReceived(self, data: bytes) -> None:
        """Read the head, then do what the kind does."""
        if self._head is None:
            if self.kind == "echo":
                self.tcp.write(frame_head(0x82, len(data), b"") + data)
            return
        self._head += data
        if b"\r\n\r\n" in self._head and self.kind != "hole":
            self._answer(self._head)
            self._head = None

    def _answer(self, head: bytes) -> None:
        chance = self.chance
        if self.kind == "liar":
            self.tcp.write(b"HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nsorry")
            return
        if self.kind == "reset" and chance.random() < 0.2:
            self.tcp.abortConnection()
            return
        key = next(
            line.split(b":")[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        magic = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.tcp.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(magic) + b"\r\n\r\n"
        )
        if self.kind == "flood":
            self._flood(chance.randrange(64))
        elif self.kind == "slow":
            self._doze()
        elif self.kind == "reset":
            self.later(chance.expovariate(2), self._reset)

    def _flood(self, frames: int) -> None:
        self.tcp.write(frame_head(0x82, len(PAYLOAD), b"") + PAYLOAD)
        if frames:
            self.later(self.chance.expovariate(20), self._flood, frames - 1)

    def _doze(self) -> None:
        self.tcp.pauseProducing()
        if self.chance.random() < 0.7:  # or never again
            self.later(self.chance.expovariate(1), self._blink)

    def _blink(self) -> None:
        self.tcp.resumeProducing()
        self.later(0.01, self._doze)

    def _reset(self) -> None:
        torn = frame_head(0x82, 1000, b"") + PAYLOAD[: self.chance.randrange(1000)]
        self.tcp.write(self.chance.choice([b"", torn, control_frame(PING), b"\xff\xff"]))
        self.chance.choice([self.tcp.abortConnection, self.tcp.loseConnection])()


class ServiceFactory(Factory):
    """Makes services of one kind."""

    noisy = False

    def __init__(self, reactor: Any, chance: random.Random, kind: str) -> None:
        self.protocol = type(
            "Kind", (Service,), {"reactor": reactor, "chance": chance, "kind": kind}
        )


class Client(Troublemaker):
    """A client's connection; ``until_answer`` and ``until_gone`` wait."""

    def __init__(self) -> None:
        super().__init__()
        self.head = b""
        self._waiting: tuple[Callable[[], bool], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep the head's begin; count nothing else."""
        if len(self.head) < 16:
            self.head += data[:16]
        self._look()

    def connectionLost(self, reason: Failure | None = None) -> None:  # type: ignore[override]
        """Be gone."""
        super().connectionLost(reason)
        self._look()

    async def until(self, seen: Callable[[], bool], seconds: float) -> bool:
        """Wait; tells whether it was seen in time."""
        if not seen():
            waiting: Deferred[None] = Deferred()
            self._waiting = (seen, waiting)
            waiting.addTimeout(seconds, self.reactor, onTimeoutCancel=lambda *_: None)
            await waiting
        return seen()

    def _look(self) -> None:
        if self._waiting is not None and self._waiting[0]():
            (_, waiting), self._waiting = self._waiting, None
            if not waiting.called:
                waiting.callback(None)


class ClientFactory(Factory):
    """Makes clients."""

    noisy = False

    def __init__(self, reactor: Any, chance: random.Random) -> None:
        self.protocol = type("Visitor", (Client,), {"reactor": reactor, "chance": chance})


def _frame(size: int, opcode: int = 2) -> bytes:
    return frame_head(0x80 | opcode, size, KEY) + PAYLOAD[:size]


async def visit(
    reactor: Any, chance: random.Random, port: int, path: str, counts: Counter[str]
) -> None:
    """Open one relay, use it, and leave it, all at random; count what was seen."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=5)
    try:
        client: Any = await endpoint.connect(ClientFactory(reactor, chance))
    except ConnectError:
        counts["not connected"] += 1
        return
    try:
        await _talk(client, chance, path, counts)
    finally:
        client.tcp.abortConnection()
        if not await client.until(lambda: client.gone, 10):
            counts["stuck in this process"] += 1


async def _talk(client: Client, chance: random.Random, path: str, counts: Counter[str]) -> None:
    request = (
        f"GET {path} HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {WORDS}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    dice = chance.random()
    if dice < 0.03:  # a black hole at the client's side, with a part of a head
        client.tcp.write(request[: chance.choice([0, 1, 20])])
        await client.until(lambda: client.gone, 20)
        counts["said no whole head"] += 1
        return
    client.tcp.write(request + (_frame(1000) if chance.random() < 0.2 else b""))
    if dice < 0.2:
        await deferLater(client.reactor, chance.expovariate(10))
        counts["left in the opening"] += 1
        return
    await client.until(lambda: client.gone or len(client.head) >= 12, 20)
    status = client.head[9:12].decode() or "no answer"
    counts[status] += 1
    if status != "101":
        return
    for _ in range(chance.randrange(6)):
        await _act(client, chance)
    counts["left: " + await _leave(client, chance)] += 1


async def _act(client: Client, chance: random.Random) -> None:
    act = chance.choice(["small", "small", "large", "ping", "wait", "stall"])
    if client.gone:
        return
    if act == "wait":
        await deferLater(client.reactor, chance.expovariate(2))
    elif act == "stall":
        client.tcp.pauseProducing()
        await deferLater(client.reactor, chance.expovariate(1))
        if not client.gone and chance.random() < 0.8:
            client.tcp.resumeProducing()
    elif act == "ping":
        client.tcp.write(control_frame(PING, b"soak", KEY))
    else:
        client.tcp.write(_frame(50 if act == "small" else len(PAYLOAD)))


async def _leave(client: Client, chance: random.Random) -> str:
    if client.gone:
        return "ended by the other side"
    how = chance.choice(["close", "fin", "reset", "torn frame", "violation", "silence"])
    if how == "close":
        client.tcp.write(control_frame(CLOSE, close_payload(1000), KEY))
    elif how == "fin":
        client.tcp.loseWriteConnection()
    elif how == "torn frame":
        client.tcp.write(_frame(5000)[: chance.randrange(1, 5000)])
    elif how == "violation":
        client.tcp.write(b"\x83\xff\xff\xff")
    if how not in ("reset", "torn frame"):
        await client.until(lambda: client.gone, chance.expovariate(0.3))
    return how
