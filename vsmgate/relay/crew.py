"""Several relay processes on one port: started, watched, started again, and ended.

This process holds the listening socket and never accepts from it; its workers inherit
it. So a worker that dies takes only its own relays with it, and who connects meanwhile
is served by another. A worker is a whole relay (`vsmgate.worker`) that reads the same store.
Its standard input ends with this process, and then it drains by itself.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.config import RelayConfig
from vsmgate.relay.totals import Totals, decode

__all__ = ["LISTENER", "REPORTS", "Crew", "WorkerCommand"]

#: The descriptors of a worker: the listening socket, and where its numbers go.
LISTENER, REPORTS = 3, 4

#: Seconds until a dead worker is started again, at first and at most; a worker that lived
#: for ``SOUND`` seconds is not counted as failing again and again.
SOON, LATE, SOUND = 0.2, 30.0, 10.0

#: Seconds beyond a drain's own after which a worker is killed.
MERCY = 5.0


@dataclass(frozen=True)
class WorkerCommand:
    """How to start a worker."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class Crew(Service):
    """The relay's face as ``config.workers`` processes; as `RelayService` for the gateway.

    ``command``: how to start a worker. ``totals`` gets their numbers.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: RelayConfig,
        command: WorkerCommand,
        totals: Totals,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._command = command
        self._totals = totals
        self._listening: socket.socket | None = None
        self._workers: set[Worker] = set()
        self._starts: set[Any] = set()
        self._ending = False
        #: Set it before the first start: what the workers' command line says besides.
        self.options: Sequence[str] = ()

    @property
    def port(self) -> int:
        """Where the workers listen; 0 while they do not."""
        return 0 if self._listening is None else int(self._listening.getsockname()[1])

    def startService(self) -> None:
        """Listen, and start the workers in the next turn."""
        super().startService()
        self._listening = _listen(self._config.host, self._config.port)
        self._log.info("relay listens on {host}:{port}", host=self._config.host, port=self.port)
        for _ in range(self._config.workers):
            self._start_after(0.0, SOON)

    async def drain(self) -> None:
        """Let every worker drain, and wait for their ends."""
        config = self._config
        await self._end(config.drain + config.drain_spread + config.linger + MERCY)

    def stopService(self) -> Deferred[None]:
        """End them at once; after `drain` there is nobody left."""
        super().stopService()
        ended = Deferred.fromCoroutine(self._end(MERCY))
        self._signal(signal.SIGTERM)  # the second does not wait for relays
        return ended

    # -- inside -----------------------------------------------------------------------

    def _start_after(self, seconds: float, penalty: float) -> None:
        def start() -> None:
            self._starts.discard(call)
            self._start(penalty)

        call = self._reactor.callLater(seconds, start)
        self._starts.add(call)

    def _start(self, penalty: float) -> None:
        assert self._listening is not None
        worker = Worker(self, self._totals, self._reactor.seconds(), penalty)
        self._reactor.spawnProcess(
            worker,
            self._command.argv[0],
            [*self._command.argv, *self.options],
            dict(self._command.environment),
            childFDs={0: "w", 1: 2, 2: 2, LISTENER: self._listening.fileno(), REPORTS: "r"},
        )
        self._workers.add(worker)

    def left(self, worker: Worker, reason: Failure) -> None:
        """A worker's process has ended."""
        self._workers.discard(worker)
        if self._ending:
            return
        sound = self._reactor.seconds() - worker.began >= SOUND
        delay = SOON if sound else worker.penalty
        self._log.warn(
            "a relay worker ended ({reason}); another starts in {delay:g} s",
            reason=reason.getErrorMessage(),
            delay=delay,
        )
        self._start_after(delay, SOON if sound else min(LATE, 2 * delay))

    async def _end(self, patience: float) -> None:
        self._ending = True
        for call in self._starts:
            call.cancel()
        self._starts.clear()
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self._signal(signal.SIGTERM)
        kill = self._reactor.callLater(patience, self._signal, signal.SIGKILL)
        await DeferredList([worker.ended() for worker in self._workers])
        if kill.active():
            kill.cancel()

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            try:
                if worker.transport is not None:
                    worker.transport.signalProcess(number)
            except ProcessExitedAlready:
                pass  # its end is about to be told


class Worker(ProcessProtocol):
    """One process of a crew."""

    _log = Logger()
    transport: Any

    def __init__(self, crew: Crew, totals: Totals, began: float, penalty: float) -> None:
        self.began = began
        self.penalty = penalty
        self._crew = crew
        self._totals = totals
        self._name = f"worker-{id(self)}-{began}"
        self._line = b""
        self._waiting: list[Deferred[None]] = []

    def ended(self) -> Deferred[None]:
        """Return what fires when the process has ended."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take over the last whole report."""
        *lines, self._line = (self._line + data).split(b"\n")
        if lines:
            try:
                self._totals.tell(self._name, decode(lines[-1]))
            except msgspec.MsgspecError:
                self._log.warn("a worker's numbers cannot be read")

    def processEnded(self, reason: Failure) -> None:
        """Let the crew know."""
        self._totals.forget(self._name)
        self._crew.left(self, reason)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise `CannotListenError` as Twisted's listenTCP does."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(1024)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise CannotListenError(host, port, error) from None
    listening.setblocking(False)
    return listening
