"""Tries engines without starting a job: ``vsmgate check FILE --engines``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from vsmgate.draft import Part
from vsmgate.errors import ConfigError, EngineError
from vsmgate.interfaces import IEngineCheck, ILauncher
from vsmgate.model import new_job_id, tag_of

__all__ = ["try_engines"]


async def try_engines(
    launchers: Mapping[str, Part], timeout: float, clock: IReactorTime
) -> AsyncIterator[tuple[str, Sequence[str]]]:
    """Yield each launcher's name and what is wrong with its engine, a sentence each.

    All are tried at once, each for at most ``timeout`` seconds.
    """

    def late(result: object, seconds: float) -> Sequence[str]:
        return [f"It did not answer within {seconds:g} s."]

    tried = {
        name: Deferred.fromCoroutine(_try(part)).addTimeout(timeout, clock, late)
        for name, part in launchers.items()
    }
    for name, problems in tried.items():
        yield name, await problems


async def _try(part: Part) -> Sequence[str]:
    """Return what is wrong with one engine."""
    try:
        launcher: ILauncher = part.make()
    except ConfigError as error:
        return str(error).splitlines()
    try:
        verifyObject(ILauncher, launcher)
    except Invalid as error:  # a launcher under way, such as one without all its verbs
        return [" ".join(str(error).split())]
    try:
        checker: Any = IEngineCheck(launcher, None)
        if checker is not None:
            return [str(said) for said in await checker.check_engine()]
        stranger = tag_of(new_job_id())
        if stranger in await launcher.find([stranger]):
            return ["It says that it has a job which nobody ever started."]
        return []
    except EngineError as error:
        return [error.detail]
    except Exception as error:  # a plugin may raise anything; its author wants to see what
        return [f"The launcher failed: {type(error).__name__}: {error}"]
    finally:
        await launcher.close()
