"""What the gateway calls a job at a UNICORE site."""

from __future__ import annotations

from typing import NamedTuple

from vsmgate.errors import EngineRefused
from vsmgate.launchers.slurm_ref import USER
from vsmgate.launchers.unicore_answers import id_in

__all__ = ["UnicoreRef", "account_of"]


class UnicoreRef(NamedTuple):
    """The engine ref of a job. ``user``: as whom it runs; empty for what the site decides."""

    job: str
    user: str = ""

    @classmethod
    def parse(cls, ref: str) -> UnicoreRef | None:
        job, colon, user = ref.partition(":")
        if id_in(job) != job or (colon and not USER.fullmatch(user)):
            return None
        return cls(job, user)

    def __str__(self) -> str:
        return ":".join(filter(None, self))


def account_of(owner: str) -> str:
    """Return the account that an owner has at the site, by the same name; raises `EngineRefused`.

    Whether there is one only the site knows: its accounts are not this machine's.
    """
    if not USER.fullmatch(owner) or owner == "root":
        detail = "Jobs run under their owners' accounts here, and you have none by your name."
        raise EngineRefused(detail, code="no_account")
    return owner
