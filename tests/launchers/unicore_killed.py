"""Plays a gateway that submits one job to a UNICORE site: ``unicore_killed.py URL TOKEN STATE``."""

# ruff: noqa: T201
from __future__ import annotations

import sys
import time
from pathlib import Path

from twisted.internet.defer import Deferred

from tests.launchers.unicore_rig import launch_of, usecase_of
from vsmgate.interfaces import Context
from vsmgate.launchers.unicore import UnicoreLauncherFactory
from vsmgate.launchers.unicore_settings import UnicoreSettings


def main() -> None:
    from twisted.internet import reactor

    url, token_file, state = sys.argv[1:]
    settings = UnicoreSettings(
        url, token_file=token_file, python=sys.executable, bind="127.0.0.1", address="127.0.0.1"
    )
    context = Context("unicore", reactor, time.time, Path(state), Path(state))
    launcher = UnicoreLauncherFactory().make(settings, context)
    launch = launch_of(usecase_of({"renderer": "stays"}))
    print(launch.job_id, flush=True)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(launcher.submit(launch)))
    reactor.run()


if __name__ == "__main__":
    main()
