"""Whether a Slurm cluster would run jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vsmgate.errors import EngineError
from vsmgate.hands.threads import Threads
from vsmgate.launchers.folders import folder_problem
from vsmgate.launchers.slurm_client import SlurmClient
from vsmgate.model import new_job_id, tag_of

__all__ = ["check_slurm"]


async def check_slurm(
    client: SlurmClient, threads: Threads, folder: Path, *, own: bool
) -> Sequence[str]:
    """Return what is wrong: with the controller, the partitions and nodes, the folder.

    ``own``: jobs run as the gateway's user, who then writes into the folder.
    """
    problems = []
    try:
        await client.jobs(names=[tag_of(new_job_id())])
        if not any(partition.works for partition in await client.partitions()):
            problems.append(
                "No partition is up with a node that is: sinfo shows them, and sinfo "
                "--list-reasons why nodes are down; jobs would wait."
            )
    except EngineError as error:
        problems.append(f"{error.detail} Look whether slurmctld and munged run: scontrol ping.")
    wrong = await threads.run(lambda: folder_problem(folder, write=own))
    return [*problems, *([wrong] if wrong else [])]
