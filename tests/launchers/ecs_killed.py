"""Plays a gateway that is killed inside of a submit: ``ecs_killed.py TOLD STATE POINT``.

``TOLD``: the launcher's table as JSON. ``POINT``: ``before`` or ``after`` the engine took the
job, or where its answer is at hand, and not stored yet.
"""

# ruff: noqa: T201
from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.launchers.ecs_rig import launch_of, settings_of, usecase_of
from vsmgate.interfaces import Context
from vsmgate.launchers.ecs import EcsLauncherFactory


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from twisted.internet import reactor

    told, state, point = sys.argv[1:]
    context = Context("ecs", reactor, time.time, Path(state), Path(state))
    launcher = EcsLauncherFactory().make(settings_of(json.loads(told)), context)
    launch = launch_of(usecase_of({"renderer": "stays"}))
    print(launch.job_id, flush=True)

    def start() -> None:
        done = Deferred.fromCoroutine(launcher.submit(launch))
        done.addBoth(die)  # the answer is here, and nobody stored it
        if point == "before":
            die()

    reactor.callWhenRunning(start)
    reactor.run()


if __name__ == "__main__":
    main()
