"""Runs a command to its end: what it wrote and how it ended, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Completed", "run"]

_MOST_ERRORS = 64 * 1024


class Completed(NamedTuple):
    """A command that ended. ``status``: its exit code, or None when a signal ended it."""

    status: int | None
    out: bytes
    err: bytes


class _Collector(ProcessProtocol):
    """Feeds a process and takes what it writes; kills it when that is too much."""

    transport: IProcessTransport

    def __init__(self, stdin: bytes, limit: int) -> None:
        self.ended: Deferred[Completed] = Deferred(lambda _: self.kill())
        self._stdin = stdin
        self._limit = limit
        self._out = bytearray()
        self._err = bytearray()

    def connectionMade(self) -> None:
        """Hand over the standard input."""
        self.transport.write(self._stdin)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep the output, within the limit."""
        self._out += data
        if len(self._out) > self._limit:
            self.kill()

    def errReceived(self, data: bytes) -> None:
        """Keep the beginning of the errors."""
        self._err += data[: _MOST_ERRORS - len(self._err)]

    def processEnded(self, reason: Failure) -> None:
        """Tell how it ended."""
        if not self.ended.called:
            status = getattr(reason.value, "exitCode", None)
            self.ended.callback(Completed(status, bytes(self._out), bytes(self._err)))

    def kill(self) -> None:
        """End the process; nothing happens when it is gone, or is another user's."""
        try:
            self.transport.signalProcess("KILL")
        except (ProcessExitedAlready, OSError):
            pass


async def run(
    reactor: IReactorProcess,
    argv: Sequence[str],
    environment: Mapping[str, str],
    stdin: bytes = b"",
    *,
    timeout: float,
    limit: int = 64 * 1024 * 1024,
) -> Completed:
    """Run ``argv`` (``argv[0]`` is a path) with ``stdin``; return when it ended.

    Raises `OSError` when it cannot be started, and `TimeoutError` when it does not end within
    ``timeout`` seconds: then, and when the caller cancels, it is killed. A command that
    writes more than ``limit`` octets is killed too (status None).
    """
    collector = _Collector(stdin, limit)
    reactor.spawnProcess(collector, argv[0], list(argv), dict(environment))

    def late(result: object, seconds: float) -> Completed:
        raise TimeoutError(f"{argv[0]} did not end within {seconds:g} s")

    clock = IReactorTime(reactor)
    return await collector.ended.addTimeout(timeout, clock, late)
