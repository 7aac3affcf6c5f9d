"""The processes of one simulated pod, and their end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess, IReactorTime

from vsmgate.simulators.processes import Leader

__all__ = ["Run"]

Object = dict[str, Any]


class Run:
    """A pod whose processes were started.

    ``told`` is called when one ended, with its exit code. ``states``: container -> its status.
    ``why``: the reason of the pod's end, where it is not its containers'.
    """

    def __init__(
        self,
        told: Callable[[Run, str, int], None],
        clock: IReactorTime,
        namespace: str,
        name: str,
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.containers: dict[str, Leader] = {}
        self.states: dict[str, Object] = {}
        self.why = ""
        self.over: Deferred[None] | None = None
        self._told = told
        self._clock = clock
        self._done: set[str] = set()
        self._calls: dict[str, Any] = {}
        self._ending = False

    @property
    def left(self) -> set[str]:
        """The containers whose processes run."""
        return self.containers.keys() - self._done

    def start(
        self,
        reactor: IReactorProcess,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        """Run a container, which starts in ``folder`` and writes to the file ``log`` there.

        Raises `FileNotFoundError` when there is no such program.
        """
        # The programs of this Python first: images have a python3 of their own.
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        program = shutil.which(argv[0], path=path) if argv else None
        if program is None:
            raise FileNotFoundError(f'exec: "{argv[0] if argv else ""}": executable file not found')
        folder.mkdir(parents=True, exist_ok=True)
        self.containers[name] = Leader(
            reactor,
            [program, *argv[1:]],
            {"PATH": path, "HOME": str(folder), **environment},
            folder,
            folder / "log",
            None,
            lambda code: self._ended(name, code),
        )

    def _ended(self, name: str, code: int) -> None:
        self._done.add(name)
        self._told(self, name, code)
        if self.over is not None and not self.left:
            self.over.callback(None)

    def expire(self, seconds: float) -> None:
        """End it after so long."""
        self._call("deadline", seconds, lambda: self.end(30.0, "DeadlineExceeded"))

    def end(self, grace: float, why: str) -> None:
        """End all processes; kill them after ``grace`` seconds."""
        if not self._ending:
            self._ending = True
            self.why = why
            self._call("grace", grace, lambda: self.kill(SIGKILL))
            self.kill()

    def kill(self, *number: int) -> None:
        """Send all processes a signal, SIGTERM if none is named."""
        for name in self.left:
            self.containers[name].kill(*number)

    def cancel(self) -> None:
        """Let go of timers."""
        for call in self._calls.values():
            if call.active():
                call.cancel()

    def _call(self, name: str, seconds: float, do: Callable[[], None]) -> None:
        if (call := self._calls.get(name)) and call.active():
            call.cancel()
        self._calls[name] = self._clock.callLater(seconds, do)
