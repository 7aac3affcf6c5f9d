"""What both programs need around them: a log on stdout, a thread, a port, and an end."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TextIO

from autobahn.websocket import ConnectionDeny, ConnectionRequest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IReactorCore,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import ServerFactory
from twisted.internet.threads import deferToThreadPool
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

__all__ = ["DemoReactor", "Worker", "begin_log", "check_secret", "serve"]

LEVELS = {
    "trace": LogLevel.debug,
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}


class DemoReactor(IReactorCore, IReactorTCP, IReactorTime, IReactorFromThreads):
    """The slices of the reactor that the programs use."""


def begin_log(level: str, output: TextIO = sys.stdout) -> None:
    """Write the log as Brayns does: ``[info][12:00:00] words``. ``off`` writes nothing."""

    @implementer(ILogObserver)
    def write(event: LogEvent) -> None:
        name = event["log_level"].name
        clock = datetime.fromtimestamp(event["log_time"]).strftime("%H:%M:%S")
        text = formatEvent(event)
        if "log_failure" in event:
            text = f"{text}\n{event['log_failure'].getTraceback()}"
        output.write(f"[{name}][{clock}] {text}\n")
        output.flush()

    predicate: ILogFilterPredicate = _Nothing()
    if level in LEVELS:
        # Twisted and Autobahn speak up only when something is wrong.
        chosen = LogLevelFilterPredicate(max(LogLevel.warn, LEVELS[level]))
        chosen.setLogLevelForNamespace("vsmgate", LEVELS[level])
        predicate = chosen
    observer = FilteringLogObserver(write, [predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


@implementer(ILogFilterPredicate)
class _Nothing:
    def __call__(self, event: LogEvent) -> Any:
        return PredicateResult.no


def check_secret(request: ConnectionRequest, secret: str | None) -> None:
    """Deny a WebSocket (401) that does not show ``secret``; None takes everybody."""
    if secret is None:
        return
    shown = request.headers.get("authorization", "")
    if not hmac.compare_digest(shown.encode(), f"Bearer {secret}".encode()):
        raise ConnectionDeny(401, "Show the job's secret")


class Worker:
    """Threads for the work. ``close`` returns when they have ended."""

    def __init__(self, reactor: DemoReactor, threads: int) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(1, threads, "worker")
        reactor.callWhenRunning(self._threads.start)

    def run(self, work: Callable[[], Any]) -> Awaitable[Any]:
        """Call in a thread."""
        result: Deferred[Any] = deferToThreadPool(self._reactor, self._threads, work)
        return result

    def report(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call in the reactor thread, from another one."""
        self._reactor.callFromThread(call, *arguments)

    def close(self) -> None:
        """Wait for the threads to finish what they are at."""
        self._threads.stop()


def serve(
    reactor: DemoReactor,
    factory: ServerFactory,
    host: str,
    port: int,
    started: Callable[[IAddress], None],
    ended: Callable[[], None],
) -> int:
    """Listen and run until SIGINT, SIGTERM or a stop of the reactor; the exit code."""
    log = Logger(namespace="vsmgate.demo")
    try:
        listener = reactor.listenTCP(port, factory, interface=host)
    except CannotListenError as error:
        log.critical("Cannot listen on {host}:{port}: {error}.", host=host, port=port, error=error)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", listener.stopListening)
    reactor.addSystemEventTrigger("during", "shutdown", ended)
    started(listener.getHost())
    reactor.run()
    return 0
