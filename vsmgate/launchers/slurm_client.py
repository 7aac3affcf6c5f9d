"""What the launcher asks of Slurm, whichever way it is asked.

Two ways, chosen by the configuration: its commands (`vsmgate.launchers.slurm_commands`), and
slurmrestd (`vsmgate.launchers.slurm_rest`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from vsmgate.launchers.slurm_answers import Partition, SlurmJob
from vsmgate.model import Secret

__all__ = ["SECRET_VARIABLE", "TAKE_SECRET", "Order", "SlurmClient"]

#: Carries a job's secret to its script, which renames it: of the environment of ``sbatch
#: --export=NIL`` a job gets what starts with SLURM_, and nothing else.
SECRET_VARIABLE = "SLURM_VSMGATE_SECRET"
#: Lines of the script that rename it.
TAKE_SECRET = f"""\
export VSMGATE_SECRET=${{{SECRET_VARIABLE}:?did not arrive; see env_keep in docs/engines/slurm.md}}
unset {SECRET_VARIABLE}"""


class Order(NamedTuple):
    """A job to submit.

    ``options``: its resources, as long options of sbatch. ``output``: the file for what Slurm
    and the script say. ``owner``: whose it shall be; empty for the gateway's own user.
    """

    name: str
    options: Sequence[str]
    script: str
    output: str
    owner: str
    secret: Secret | None


class SlurmClient(Protocol):
    """Asks one Slurm.

    Everything raises `EngineUnreachable` when there is no answer, or when the answer may be
    another one later, and only `submit` and `extend` raise `EngineRefused`.
    """

    async def submit(self, order: Order) -> int:
        """Submit a job that is never requeued; return its number."""

    async def jobs(
        self, *, numbers: Collection[int] = (), names: Collection[str] = (), user: str = ""
    ) -> list[SlurmJob]:
        """Return those jobs that the controller knows, ended ones too, by number or by name.

        ``user``: only that user's.
        """

    async def records(
        self, *, numbers: Collection[int] = (), names: Collection[str] = (), user: str = ""
    ) -> list[SlurmJob]:
        """Return what accounting knows of jobs; nothing where there is none."""

    async def cancel(self, number: int, name: str, owner: str) -> None:
        """Ask for the end of the job of that number, if it has that name too."""

    async def extend(self, number: int, minutes: int) -> None:
        """Set a job's time limit."""

    async def partitions(self) -> list[Partition]:
        """Return the cluster's partitions."""
