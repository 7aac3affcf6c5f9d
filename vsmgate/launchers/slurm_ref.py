"""What the gateway calls a Slurm job."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from vsmgate.errors import EngineRefused
from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.slurm_reasons import phase_of
from vsmgate.model import JOB_ID, Phase

__all__ = ["USER", "SlurmRef", "account_of", "refs_of"]

#: The name of an account.
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


class SlurmRef(NamedTuple):
    """The engine ref of a Slurm job. ``user``: as whom it runs; empty for the gateway's."""

    number: int
    job_id: str
    user: str = ""

    @classmethod
    def parse(cls, ref: str) -> SlurmRef | None:
        """Return the parts of a ref; None when it is none."""
        number, _, rest = ref.partition(":")
        job_id, colon, user = rest.partition(":")
        if not _NUMBER.fullmatch(number) or not JOB_ID.fullmatch(job_id):
            return None
        if colon and not USER.fullmatch(user):
            return None
        return cls(int(number), job_id, user)

    def __str__(self) -> str:
        return ":".join([str(self.number), self.job_id, *filter(None, [self.user])])


def account_of(owner: str) -> str:
    """Return the account that an owner has, whose name must be it; raises `EngineRefused`.

    Root and the gateway's own user have no jobs here. Asks the system's user database, which
    may block.
    """
    try:
        known = USER.fullmatch(owner) and pwd.getpwnam(owner).pw_uid
    except KeyError:
        known = None
    if not known or known == os.geteuid():
        detail = "Jobs run under their owners' accounts here, and you have none by your name"
        raise EngineRefused(f"{detail}, {owner[:64]!r}.", code="no_account")
    return owner


def refs_of(
    jobs: Collection[SlurmJob], ids: Mapping[str, str], *, own: bool
) -> tuple[dict[str, SlurmRef], list[SlurmRef]]:
    """Return tag -> ref of its job, and the refs of others that have not ended.

    ``ids``: tag -> job id. ``own``: they run as the gateway's user. There are others when
    Slurm took a submission late: the one that runs counts, as it has the job's folder, or
    the first. Another user's can only be an imitation, which comes later, and is nothing.
    """
    owners: dict[str, str] = {}
    for job in sorted(jobs, key=lambda job: job.number):
        owners.setdefault(job.name, job.user)
    found: dict[str, SlurmRef] = {}
    doubles = []
    for job in sorted(jobs, key=lambda job: (phase_of(job) is not Phase.RUNNING, job.number)):
        mine = job.name in ids and job.user == owners[job.name]
        if mine and (own or USER.fullmatch(job.user)):
            ref = SlurmRef(job.number, ids[job.name], "" if own else job.user)
            if found.setdefault(job.name, ref) != ref and phase_of(job) is not Phase.ENDED:
                doubles.append(ref)
    return found, doubles
