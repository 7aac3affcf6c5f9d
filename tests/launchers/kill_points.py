"""Plays gateways that are killed at every line of a submit: ``kill_points.py STATE STRIDE``.

For each n a child of its own submits one job, and sends itself SIGKILL when it comes to
the n-th line of the launcher's code; until one comes through. Prints the job ids.
"""

# ruff: noqa: T201
from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred

import vsmgate.hands.processes  # noqa: F401  # imported before the forks
from tests.launchers.rig import LocalRig
from vsmgate.model import Launch

CODE = ("/launchers/local", "/hands/processes", "/twisted/internet/process.py")


def submit(rig: LocalRig, launch: Launch, kill_at: int) -> None:
    """Submit, and die on the way."""
    from twisted.internet import reactor

    rig.reactor = reactor
    rig.launcher = rig.again()
    lines = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not any(part in frame.f_code.co_filename for part in CODE):
            return None
        lines += event == "line"
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    def start() -> None:
        sys.settrace(count)
        done = Deferred.fromCoroutine(rig.launcher.submit(launch))
        done.addCallbacks(lambda _: os._exit(0), lambda _: os._exit(1))

    reactor.callWhenRunning(start)
    reactor.run()


def main() -> None:
    """Fork the gateways one after the other."""
    state, stride = Path(sys.argv[1]), int(sys.argv[2])
    rig = LocalRig(None, state)
    kill_at, status = 1, None
    while status != 0:
        launch = rig.launch()
        child = os.fork()
        if child == 0:
            submit(rig, launch, kill_at)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, -signal.SIGKILL):
            raise SystemExit(f"a gateway ended with {status}")
        print(launch.job_id, flush=True)
        kill_at += stride


if __name__ == "__main__":
    main()
