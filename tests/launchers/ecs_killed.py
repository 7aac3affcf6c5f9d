"""Plays gateways that are killed at every line of a submit: ``ecs_killed.py TOLD STATE STRIDE``.

``TOLD``: the launcher's table as JSON. For each n a child of its own submits one job, and
sends itself SIGKILL when it comes to the n-th line of our code; until one comes through, which
is killed with the answer at hand. Prints the job ids.
"""

# ruff: noqa: T201
from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import botocore.auth  # imported before the forks
import botocore.session  # noqa: F401
from twisted.internet.defer import Deferred

import vsmgate.launchers.ecs_launcher  # noqa: F401
from tests.launchers.ecs_rig import launch_of, settings_of, usecase_of
from vsmgate.interfaces import Context
from vsmgate.launchers.ecs import EcsLauncherFactory
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.model import Launch

CODE = ("/launchers/ecs", "/hands/aws", "/hands/http_client", "/hands/threads")


def submit(settings: EcsSettings, state: Path, launch: Launch, kill_at: int) -> None:
    """Submit, and die on the way."""
    from twisted.internet import reactor

    context = Context("ecs", reactor, time.time, state, state)
    launcher = EcsLauncherFactory().make(settings, context)
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
        done = Deferred.fromCoroutine(launcher.submit(launch))
        done.addCallbacks(lambda _: os._exit(0), lambda _: os._exit(1))

    reactor.callWhenRunning(start)
    reactor.run()


def main() -> None:
    """Fork the gateways one after the other."""
    settings = settings_of(json.loads(sys.argv[1]))
    state, stride = Path(sys.argv[2]), int(sys.argv[3])
    kill_at, status = 1, None
    while status != 0:
        launch = launch_of(usecase_of({"renderer": "stays"}))
        child = os.fork()
        if child == 0:
            submit(settings, state, launch, kill_at)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, -signal.SIGKILL):
            raise SystemExit(f"a gateway ended with {status}")
        print(launch.job_id, flush=True)
        kill_at += stride


if __name__ == "__main__":
    main()
