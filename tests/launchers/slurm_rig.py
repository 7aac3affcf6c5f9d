from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.launchers import rig
from tests.launchers.rig import PATIENCE, SERVICE, Rig
from vsmgate.launchers.slurm import SlurmLauncherFactory
from vsmgate.launchers.slurm_plan import SlurmPlan
from vsmgate.launchers.slurm_settings import RestSettings, SlurmSettings
from vsmgate.model import Launch
from vsmgate.simulators.slurm_cluster import SlurmCluster

__all__ = ["SERVICE", "SlurmRig", "launch_of", "usecase_of"]

usecase_of = partial(rig.usecase_of, "slurm")
launch_of = partial(rig.launch_of, SlurmPlan, owner="nobody")


class SlurmRig(Rig):
    """A launcher on a real cluster; its jobs are over at the end."""

    factory = SlurmLauncherFactory()
    usecase_of = staticmethod(usecase_of)
    owner = "nobody"
    late = True

    def __init__(
        self,
        reactor: Any,
        cluster: SlurmCluster,
        state_dir: Path,
        rest: RestSettings | None = None,
    ) -> None:
        self.cluster = cluster
        settings = SlurmSettings(
            bind="127.0.0.1",
            address="127.0.0.1",
            nodes="n[12]",
            python=sys.executable,
            conf=str(cluster.conf),
            poll_every=0.0,
            extend=True,
            rest=rest,
        )
        super().__init__(reactor, state_dir, settings)

    def folder(self, launch: Launch) -> Path:
        return self.state_dir / "slurm" / launch.job_id

    def left(self) -> str:
        """Return the numbers of the jobs of this rig that are not over."""
        return self.cluster.ask(f"squeue -h -o %i --name={','.join(self.tags)}")

    async def close(self) -> None:
        """End all jobs."""
        await super().close()
        if self.tags:
            for number in self.left().split():
                self.cluster.ask(f"scancel {number}")
            deadline = time.monotonic() + PATIENCE
            while self.left():
                assert time.monotonic() < deadline, "jobs do not end"
                time.sleep(0.05)
