"""Containers of a simulated node: real processes of this machine, without any isolation."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Container", "expand"]

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown ones stay, ``$$`` is a dollar."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


class Container(ProcessProtocol):
    """One process, in a session of its own; both outputs go to the file ``log``.

    ``ended`` is called once, with the exit code as a container has it (128 and the signal's
    number). Raises `FileNotFoundError` when there is no such program.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        ended: Callable[[int], None],
    ) -> None:
        # The programs of this Python first: images have a python3 of their own.
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        program = shutil.which(argv[0], path=path) if argv else None
        setsid = shutil.which("setsid")
        if program is None or setsid is None:
            raise FileNotFoundError(f'exec: "{argv[0] if argv else ""}": executable file not found')
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self._ended = ended
        self._over = False
        with self.log.open("wb") as log, open(os.devnull, "rb") as nothing:
            descriptors: Any = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()}
            process: Any = reactor.spawnProcess(
                self,
                setsid,
                ["setsid", program, *argv[1:]],
                {"PATH": path, "HOME": str(folder), **environment},
                str(folder),
                childFDs=descriptors,
            )
        self._pid = process.pid

    def kill(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process and its children."""
        if self._over:
            return
        for send in (os.killpg, os.kill):  # for a moment it has no group of its own yet
            try:
                send(self._pid, number)
                return
            except ProcessLookupError:
                continue

    def processEnded(self, reason: Failure) -> None:
        """Tell, and let no child stay behind, as the end of a container does."""
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._over = True
        number = getattr(reason.value, "signal", None)
        code = getattr(reason.value, "exitCode", None)
        self._ended(128 + number if number else code or 0)
