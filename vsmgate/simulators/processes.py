"""Real processes of this machine that play jobs, without any isolation.

Each leads a session of its own, so that whatever it starts can be ended with it.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Leader", "signal_session"]


class Leader(ProcessProtocol):
    """The first process of a session, started with new files for what it writes.

    ``argv[0]`` is a path; ``err``: None is ``out``. ``ended`` is called once, when nothing of
    the session is to be left, with the exit code as shells have it (128 and the signal's
    number), and never before the constructor has returned. Raises `FileNotFoundError` where
    this machine has no ``setsid``.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        out: Path,
        err: Path | None,
        ended: Callable[[int], None],
    ) -> None:
        setsid = shutil.which("setsid")
        if setsid is None:
            raise FileNotFoundError('exec: "setsid": executable file not found')
        self._clock = IReactorTime(reactor)
        self._ended = ended
        self._over = False
        with (
            open(os.devnull, "rb") as nothing,
            out.open("wb") as written,
            err.open("wb") if err else nullcontext(written) as errors,
        ):
            reactor.spawnProcess(
                self,
                setsid,
                ["setsid", *argv],
                dict(environment),
                str(folder),
                childFDs={0: nothing.fileno(), 1: written.fileno(), 2: errors.fileno()},
            )

    def connectionMade(self) -> None:
        """Keep the number: spawnProcess itself may call processEnded, and forgets it then."""
        process: Any = self.transport
        self._pid: int = process.pid

    def kill(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to all of the session; nothing when it is over."""
        if not self._over:
            signal_session(self._pid, number)

    def processEnded(self, reason: Failure) -> None:
        """Tell, and let nothing stay behind."""
        signal_session(self._pid, signal.SIGKILL)
        self._over = True
        number = getattr(reason.value, "signal", None)
        code = getattr(reason.value, "exitCode", None)
        self._clock.callLater(0, self._ended, 128 + number if number else code or 0)


def signal_session(leader: int, number: int) -> None:
    """Send a signal to the processes of a session, its leader even before it has made it."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(ProcessLookupError):
            if leader in (int(name), os.getsid(int(name))):
                os.kill(int(name), number)
