"""The demo backend: a small stand-in for Brayns Circuit Studio's backend 3.0.

``python -m vsmgate.demo.backend --host 127.0.0.1 --port 8000 --base_directory DIR``

Unlike the renderer it is a well-behaved WebSocket server: it puts fragments together,
answers pings and CLOSE. ``GET /healthz`` is answered on the same port; any other path
takes a WebSocket. Requests of one connection run one at a time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import ConnectionRequest
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.demo.backend_methods import (
    VERSION,
    add_core_methods,
    add_file_methods,
    add_storage_methods,
)
from vsmgate.demo.entrypoints import Registry
from vsmgate.demo.folder import Folder
from vsmgate.demo.jsonrpc import Frame, Kind
from vsmgate.demo.program import LEVELS, DemoReactor, Worker, begin_log, check_secret, serve
from vsmgate.demo.tasks import TaskQueue

__all__ = ["BackendFactory", "BackendProtocol", "main"]

THREADS = 4
HEALTHY = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nOK\n"


class BackendProtocol(WebSocketServerProtocol):
    """One connection, with a queue of its own."""

    factory: BackendFactory
    transport: Any  # a TCP connection: ITCPTransport

    def connectionMade(self) -> None:
        super().connectionMade()
        self._queue = self.factory.make_queue()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._queue.disconnect(self)

    def onConnect(self, request: ConnectionRequest) -> None:
        check_secret(request, self.factory.secret)

    def processHandshake(self) -> None:
        if self.data.split(b" ", 2)[:2] != [b"GET", b"/healthz"]:
            super().processHandshake()
        elif b"\r\n\r\n" in self.data:
            self.transport.write(HEALTHY)
            self.transport.loseConnection()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._queue.receive(self, Kind.BINARY if isBinary else Kind.TEXT, payload)

    def send(self, frame: Frame) -> None:
        """A message to the client; nothing when it has gone."""
        if self.state == self.STATE_OPEN:
            self.sendMessage(frame.data, isBinary=frame.binary)


class BackendFactory(WebSocketServerFactory):
    """Makes connections.

    ``max_frame_size``: the largest message, in octets. ``secret``: what clients must show.
    """

    noisy = False

    def __init__(
        self,
        make_queue: Callable[[], TaskQueue],
        max_frame_size: int,
        clock: IReactorTime,
        secret: str | None = None,
    ) -> None:
        super().__init__(server="", reactor=clock)
        self.setProtocolOptions(
            webStatus=False,
            openHandshakeTimeout=10,
            closeHandshakeTimeout=10,
            maxFramePayloadSize=max_frame_size,
            maxMessagePayloadSize=max_frame_size,
            autoPingInterval=0,
            # Too large a message is told with a close code, 1009.
            failByDrop=False,
        )
        self.protocol = BackendProtocol
        self.make_queue = make_queue
        self.secret = secret


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the backend; the exit code."""
    options = _parser().parse_args(arguments)
    # Imported here, as everywhere: a program chooses its reactor, a module does not.
    from twisted.internet import reactor as default_reactor

    reactor: DemoReactor = default_reactor  # type: ignore[assignment]
    begin_log(options.log_level.lower())
    log = Logger(namespace="vsmgate.demo.backend")
    log.info("Starting service.")
    try:
        folder = Folder(options.base_directory)
    except OSError as error:
        log.critical("Base directory: {error}.", error=error)
        return 1
    if not folder.root.is_dir():
        log.critical("Base directory is not a directory: {root}.", root=folder.root)
        return 1

    registry, worker = Registry(), Worker(reactor, THREADS)
    # Late enough for the reply to leave.
    add_core_methods(registry, lambda: worker.report(reactor.callLater, 0.1, reactor.stop))
    add_file_methods(registry, folder)
    add_storage_methods(registry)

    def started(address: IAddress) -> None:
        place = f"ws://{address.host}:{address.port}"  # type: ignore[attr-defined]
        log.info("Server running on {place}.", place=place)

    def ended() -> None:
        worker.close()
        log.info("Service stopped.")

    factory = BackendFactory(
        lambda: TaskQueue(registry, worker, reactor, versioned=False),
        options.max_frame_size,
        reactor,
        os.environ.get("VSMGATE_SECRET"),
    )
    return serve(reactor, factory, options.host, options.port, started, ended)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bcsb", description=__doc__)
    parser.add_argument("--version", action="version", version=f"{VERSION} (vsmgate demo)")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max_frame_size", type=int, default=2**31, help="octets")
    levels = [name.upper() for name in LEVELS]
    parser.add_argument("--log_level", type=str.upper, choices=levels, default="INFO")
    parser.add_argument("--base_directory", type=Path, default=Path())
    return parser


if __name__ == "__main__":
    sys.exit(main())
