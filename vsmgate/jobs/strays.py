"""Jobs that run and that nobody will ever end: the operator is told when the gateway starts."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.logger import Logger

from vsmgate.errors import EngineError
from vsmgate.interfaces import ILauncher, ILister
from vsmgate.jobs.book import JobBook

__all__ = ["tell_strays"]

_log = Logger()


async def tell_strays(launchers: Mapping[str, ILauncher], book: JobBook) -> None:
    """Warn of live jobs without a launcher, and of jobs of launchers that the store does not know.

    The one is so when a launcher left the configuration, the other when the store was lost or
    replaced. To be called when the book is loaded and before a job is started. A relay by
    itself has no launchers, and nothing to tell.
    """
    if not launchers:
        return
    for name in sorted({job.usecase.launcher for job in book.live()} - launchers.keys()):
        ids = sorted(job.id for job in book.live() if job.usecase.launcher == name)
        _log.warn(
            "the launcher {name} is not configured, and nobody looks after its jobs: {ids}",
            name=name,
            ids=" ".join(ids),
        )
    known = {job.tag for job in book.live()}
    for name, launcher in launchers.items():
        lister = ILister(launcher, None)
        if lister is None:
            continue
        try:
            strays = sorted(set(await lister.running()) - known)
        except EngineError as error:
            _log.warn("{name} cannot be asked for strays: {error}", name=name, error=error.detail)
            continue
        if strays:
            _log.warn(
                "{name} runs {count} jobs that the store does not know: {tags}; {remedy}",
                name=name,
                count=len(strays),
                tags=" ".join(strays),
                remedy=lister.remedy,
            )
