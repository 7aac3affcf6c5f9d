"""Tries engines without starting a job: ``vsmgate check FILE --engines``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from vsmgate.draft import Part, read_plan
from vsmgate.errors import ConfigError, EngineError
from vsmgate.interfaces import IEngineCheck, ILauncher, IUsecaseCheck
from vsmgate.model import Usecase, new_job_id, tag_of

__all__ = ["try_engines"]


async def try_engines(
    launchers: Mapping[str, Part],
    timeout: float,
    clock: IReactorTime,
    usecases: Iterable[Usecase] = (),
) -> AsyncIterator[tuple[str, Sequence[str]]]:
    """Yield each launcher's name and what is wrong with its engine, a sentence each.

    All are tried at once, each for at most ``timeout`` seconds, with those of ``usecases`` that
    it may run.
    """

    def late(result: object, seconds: float) -> Sequence[str]:
        return [f"It did not answer within {seconds:g} s."]

    tried = {}
    for name, part in launchers.items():
        mine = [replace(usecase, launcher=name) for usecase in usecases if name in usecase.choices]
        plans = [(usecase, read_plan(usecase, part.factory, usecase.name)) for usecase in mine]
        trying = Deferred.fromCoroutine(_try(part, plans))
        tried[name] = trying.addTimeout(timeout, clock, late)
    for name, problems in tried.items():
        yield name, await problems


async def _try(part: Part, plans: Sequence[tuple[Usecase, Any]]) -> Sequence[str]:
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
            if problems := [str(said) for said in await checker.check_engine()]:
                return problems
        else:
            stranger = tag_of(new_job_id())
            if stranger in await launcher.find([stranger]):
                return ["It says that it has a job which nobody ever started."]
        reader: Any = IUsecaseCheck(launcher, None)
        return [] if reader is None else [str(said) for said in await reader.check_usecases(plans)]
    except EngineError as error:
        return [error.detail]
    except Exception as error:  # a plugin may raise anything; its author wants to see what
        return [f"The launcher failed: {type(error).__name__}: {error}"]
    finally:
        await launcher.close()
