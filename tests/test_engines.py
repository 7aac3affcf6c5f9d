"""Trying engines, with scripted launchers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import alsoProvides, implementer

from vsmgate.draft import Part
from vsmgate.engines import try_engines
from vsmgate.errors import ConfigError, EngineUnreachable, Problem
from vsmgate.interfaces import Context, IEngineCheck, ILauncher, IUsecaseCheck
from vsmgate.model import Service, Usecase
from vsmgate.testing.launchers import ScriptedLauncher


@implementer(IEngineCheck)
class Checked(ScriptedLauncher):
    def __init__(self, said: Sequence[str]) -> None:
        super().__init__()
        self._said = said

    async def check_engine(self) -> Sequence[str]:
        return self._said


class Plan(Struct):
    size: int


class Factory:
    kind = "scripted"
    plan = Plan

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def make(self, settings: object, context: Context) -> Any:
        return self._make()


def unusable() -> Any:
    raise ConfigError("engine room", [Problem("key", "is wrong")])


def parts(tmp_path: Path, **launchers: Any) -> dict[str, Part]:
    context = Context("x", Clock(), lambda: 0.0, tmp_path, tmp_path)  # type: ignore[arg-type]
    return {
        name: Part(Factory(made if callable(made) else lambda made=made: made), None, context)
        for name, made in launchers.items()
    }


def tried(
    clock: Clock, launchers: dict[str, Part], usecases: Sequence[Usecase] = ()
) -> dict[str, Sequence[str]]:
    async def work() -> dict[str, Sequence[str]]:
        return {name: said async for name, said in try_engines(launchers, 5.0, clock, usecases)}

    result: list[dict[str, Sequence[str]]] = []
    Deferred.fromCoroutine(work()).addCallback(result.append)
    clock.advance(5.0)
    return result[0]


def test_each_says_how_it_is(tmp_path: Path) -> None:
    away, slow, buggy, good = (ScriptedLauncher() for _ in range(4))
    away.fault = EngineUnreachable("Nobody answers at 10.0.0.1.")
    slow.hold()
    buggy.jobs = None  # type: ignore[assignment]
    checked = Checked(["The image cannot be pulled.", "No node is up."])
    launchers = parts(
        tmp_path, away=away, slow=slow, buggy=buggy, good=good, checked=checked, none=unusable
    )
    assert tried(Clock(), launchers) == {
        "away": ["Nobody answers at 10.0.0.1."],
        "slow": ["It did not answer within 5 s."],
        "buggy": [
            "The launcher failed: AttributeError: 'NoneType' object has no attribute 'items'"
        ],
        "good": [],
        "checked": ["The image cannot be pulled.", "No node is up."],
        "none": ["engine room: key: is wrong"],
    }
    for launcher in (away, slow, buggy, good, checked):
        assert launcher.closed
    assert [call[0] for call in good.calls] == ["find"]
    assert checked.calls == []


def test_an_engine_that_knows_every_tag_is_suspect(tmp_path: Path) -> None:
    class Yes(ScriptedLauncher):
        async def find(self, tags: Any) -> Any:
            return dict.fromkeys(tags, "1")

    (said,) = tried(Clock(), parts(tmp_path, yes=Yes()))["yes"]
    assert "nobody ever started" in said


@pytest.mark.parametrize("count", [0, 50])
def test_all_at_once(tmp_path: Path, count: int) -> None:
    launchers = {f"e{n}": ScriptedLauncher() for n in range(count)}
    for launcher in launchers.values():
        launcher.hold()
    assert len(tried(Clock(), parts(tmp_path, **launchers))) == count


def test_a_launcher_without_all_its_verbs_is_told_so(tmp_path: Path) -> None:
    class Begun:
        async def submit(self, launch: Any) -> str:
            return ""

    (said,) = tried(Clock(), parts(tmp_path, x=Begun()))["x"]
    assert "failed to implement interface" in said
    alsoProvides(begun := Begun(), ILauncher)
    (said,) = tried(Clock(), parts(tmp_path, x=begun))["x"]
    assert "ILauncher.poll(refs) attribute was not provided" in said


def test_use_cases_are_looked_at_where_they_may_run(tmp_path: Path) -> None:
    @implementer(IUsecaseCheck)
    class Reader(Checked):
        async def check_usecases(self, plans: Sequence[tuple[Usecase, Any]]) -> Sequence[str]:
            return [f"{usecase.name} on {usecase.launcher}: {plan.size}" for usecase, plan in plans]

    launch = {"scripted": {"size": 3}}
    usecases = [
        Usecase("one", "first", {"s": Service()}, launch),
        Usecase("two", "second", {"s": Service()}, launch, fallbacks=("first",)),
    ]
    launchers = parts(tmp_path, first=Reader([]), second=Reader(["It is down."]), third=Reader([]))
    assert tried(Clock(), launchers, usecases) == {
        "first": ["one on first: 3", "two on first: 3"],
        "second": ["It is down."],
        "third": [],
    }
