"""What signals do: SIGTERM and SIGINT end the gateway, SIGHUP renews its certificates."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

__all__ = ["take_signals"]

_log = Logger()


def take_signals(
    reactor: Any, end: Callable[[], None], renew: Callable[[], None], *, worker: bool
) -> None:
    """Let signals call ``end`` and ``renew`` in the reactor.

    Twisted's own handlers would stop at once, and report the signal as the exit status.
    """

    def take(number: int, frame: object) -> None:
        reactor.callFromThread(renew if number == signal.SIGHUP else end)

    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, take)
        if worker:  # a Ctrl-C is for the process that started it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread: an embedding program decides
        _log.debug("signals are left to the embedding program")
