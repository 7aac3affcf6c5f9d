"""What the gateway calls a Slurm job."""

from __future__ import annotations

import re
from typing import NamedTuple

from vsmgate.errors import EngineRefused
from vsmgate.model import JOB_ID

__all__ = ["USER", "SlurmRef", "account_of"]

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
    """Return the account that an owner has, whose name must be it; raises `EngineRefused`."""
    if not USER.fullmatch(owner) or owner == "root":
        detail = "Jobs run under their owners' accounts here, and you have none by your name."
        raise EngineRefused(detail, code="no_account")
    return owner
