"""Plays a gateway that is killed inside of a submit: ``slurm_killed.py CONF BIN STATE``.

``BIN`` has an ``sbatch`` that gives the job to Slurm, and kills us before it says so.
"""

# ruff: noqa: T201
from __future__ import annotations

import sys
import time
from pathlib import Path

from twisted.internet.defer import Deferred

from tests.launchers.slurm_rig import launch_of, usecase_of
from vsmgate.interfaces import Context
from vsmgate.launchers.slurm import SlurmLauncherFactory
from vsmgate.launchers.slurm_settings import SlurmSettings


def main() -> None:
    from twisted.internet import reactor

    conf, bin_dir, state = sys.argv[1:]
    settings = SlurmSettings(python=sys.executable, bind="127.0.0.1", conf=conf, bin_dir=bin_dir)
    context = Context("slurm", reactor, time.time, Path(state), Path(state))
    launcher = SlurmLauncherFactory().make(settings, context)
    launch = launch_of(usecase_of({"renderer": "stays"}))
    print(launch.job_id, flush=True)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(launcher.submit(launch)))
    reactor.run()


if __name__ == "__main__":
    main()
