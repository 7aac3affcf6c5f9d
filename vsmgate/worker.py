"""One relay process of several: ``python -m vsmgate.worker``, started by `vsmgate.relay.crew`.

It inherits the listening socket, serves until SIGTERM or until its standard input ends
(with the process that started it), and writes its numbers once a second.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from vsmgate import logs
from vsmgate.gateway import Gateway
from vsmgate.relay.crew import LISTENER, REPORTS
from vsmgate.relay.totals import snapshot
from vsmgate.tap import Options, makeService, steady

__all__ = ["main"]

#: Seconds between two reports.
INTERVAL = 1.0


class Tie(Protocol):
    """The connection with the process that started this one."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def report(self) -> None:
        """Send the numbers."""
        assert self.transport is not None
        self.transport.write(snapshot(self._gateway.metrics.relays))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """Drain when nobody is there any more to say so."""
        self._gateway.drain_and_stop()


def main() -> None:
    """Run until the end."""
    from twisted.internet import reactor as running

    reactor: Any = running
    steady(reactor)
    options = Options()
    options.parseOptions(sys.argv[1:])
    observer = getattr(logs, options.config.log.level)()
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    gateway = makeService(options, reactor, LISTENER)
    last = os.dup(REPORTS)  # the tie is cut before the end
    tie = Tie(gateway)
    standard_io: Any = StandardIO  # typed upstream as Windows has it
    standard_io(tie, stdin=0, stdout=REPORTS, reactor=reactor)
    reporting = LoopingCall(tie.report)
    reporting.clock = reactor
    reactor.callWhenRunning(reporting.start, INTERVAL)
    reactor.callWhenRunning(gateway.startService)
    reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)
    reactor.run()
    try:
        os.write(last, snapshot(gateway.metrics.relays))
    except OSError:
        pass  # nobody reads any more


if __name__ == "__main__":
    main()
