"""From a configuration to a draft and to made objects, with scripted plugins."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

from vsmgate import config_file
from vsmgate.assembly import Assembly, assemble
from vsmgate.config import Config
from vsmgate.draft import Draft, draft
from vsmgate.errors import ConfigError, EngineRefused, Problem
from vsmgate.interfaces import (
    Context,
    IAuthenticatorFactory,
    IJobStoreFactory,
    ILauncherFactory,
    ISettingsChecker,
    IUsecaseSourceFactory,
)
from vsmgate.model import Job, Service, Usecase
from vsmgate.plugins import Registry

GOOD = """
[store]
kind = "memory"
[launchers.engine]
kind = "engine"
[authenticators.first]
kind = "door"
[authenticators.second]
kind = "door"
key = 2
[usecases.files]
kind = "list"
[jobs]
default_usecase = "demo"
"""


class Settings(Struct, frozen=True):
    key: int = 1


class Plan(Struct, frozen=True):
    image: str


class Made:
    """What a scripted factory makes."""

    def __init__(self, settings: Any, context: Context) -> None:
        self.settings = settings
        self.context = context


class Factory:
    help = "scripted"
    settings = Settings
    plan = Plan

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.made = 0

    def make(self, settings: Any, context: Context) -> Any:
        self.made += 1
        if settings.key == 13:
            raise ConfigError("engine room", [Problem("", f"{context.name} will not start")])
        return Made(settings, context)

    def check(self, usecase: Usecase, plan: Plan) -> Sequence[str]:
        return [f"no image is called {plan.image}"] if plan.image == "none" else []


@implementer(ISettingsChecker)
class StrictFactory(Factory):
    def inspect(self, settings: Settings, context: Context) -> None:
        if settings.key == 7:
            raise ConfigError("key ring", [Problem("7", f"{context.name} must not have this key")])


class ListFactory(Factory):
    """Makes sources of the use cases that a test lists."""

    def __init__(self) -> None:
        super().__init__("list")
        self.listed: list[Usecase] = [usecase("demo")]
        self.error: ConfigError | None = None

    def make(self, settings: Any, context: Context) -> Any:
        self.made += 1
        self.name = context.name
        return self

    def usecases(self) -> Sequence[Usecase]:
        if self.error:
            raise self.error
        return self.listed

    def origin(self, name: str) -> str:
        return f"{name}.toml"


def usecase(name: str, launcher: str = "engine", **launch: Any) -> Usecase:
    return Usecase(name, launcher, {"viewer": Service()}, launch or {"engine": {"image": "x"}})


class World:
    """A registry of scripted factories, and a place for state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "deep" / "state"
        self.engine = Factory("engine")
        self.door = StrictFactory("door")
        self.store = Factory("memory")
        self.list = ListFactory()
        self.reactor = MemoryReactorClock()

    def factory(self, interface: InterfaceClass, kind: str, **error: str) -> Any:
        known = {
            ILauncherFactory: self.engine,
            IAuthenticatorFactory: self.door,
            IJobStoreFactory: self.store,
            IUsecaseSourceFactory: self.list,
        }[interface]
        if kind != known.kind:
            problem = Problem(error["pointer"], f"unknown {kind!r}; known: {known.kind}")
            raise ConfigError(error["source"], [problem])
        return known

    def act(self, do: Any, text: str | Config) -> Any:
        return do(
            config_file.parse(text, "x.toml") if isinstance(text, str) else text,
            self.folder,
            self.state,
            reactor=self.reactor,
            wall=lambda: 5.0,
            registry=self,
            source="x.toml",
        )

    def draft(self, text: str = GOOD) -> Draft:
        found: Draft = self.act(draft, text)
        return found

    def assemble(self, text: str = GOOD) -> Assembly:
        made: Assembly = self.act(assemble, text)
        return made

    def refused(self, text: str = GOOD) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.draft(text)
        return str(caught.value).splitlines()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_draft_makes_nothing(world: World) -> None:
    found = world.draft()
    assert list(found.authenticators) == ["first", "second"]
    assert found.authenticators["second"].settings == Settings(2)
    assert list(found.usecases) == ["demo"]
    assert world.engine.made == world.door.made == world.store.made == 0
    assert not world.state.exists()


def test_an_assembly_has_all(world: World) -> None:
    made = world.assemble()
    first, second = made.authenticators
    assert (first.context.name, second.context.name) == ("first", "second")  # type: ignore[attr-defined]
    assert made.launchers["engine"].settings == Settings()  # type: ignore[attr-defined]
    assert made.store.context.state_dir == world.state  # type: ignore[attr-defined]
    assert first.context.config_dir == world.folder  # type: ignore[attr-defined]
    assert first.context.wall() == 5.0  # type: ignore[attr-defined]
    assert stat.S_IMODE(world.state.stat().st_mode) == 0o700


def test_a_launcher_nudges_whoever_polls_it(world: World) -> None:
    made = world.assemble()
    nudge = made.launchers["engine"].context.nudge  # type: ignore[attr-defined]
    nudge()  # nobody listens yet
    nudged: list[int] = []
    made.nudges["engine"] = lambda: nudged.append(1)
    nudge()
    assert nudged == [1]


def test_a_relay_by_itself_has_no_launchers(world: World) -> None:
    made = world.assemble('role = "relay"\n' + GOOD)
    assert (made.launchers, made.usecases) == ({}, {})
    assert len(made.authenticators) == 2
    assert world.list.made == 0


def test_errors_of_all_plugins_and_use_cases_come_together(world: World) -> None:
    world.list.listed += [
        usecase("demo"),
        usecase("lost", launcher="slurm"),
        usecase("planless", other={}),
        usecase("bad", engine={"image": 1, "size": 2}),
        usecase("none", engine={"image": "none"}),
    ]
    text = GOOD.replace("key = 2", "key = 7") + "[launchers.other]\nkind = 'odd'\n"
    assert world.refused(text.replace('"memory"', '"memory"\nkeys = 3')) == [
        "x.toml: store.keys: unknown key; did you mean 'key'?",
        "x.toml: launchers.other.kind: unknown 'odd'; known: engine",
        "key ring: 7: second must not have this key",
        "demo.toml: name: 'demo' comes from demo.toml too; rename one",
        "lost.toml: launcher: no launcher 'slurm' is configured; known: engine, other",
        "planless.toml: launch.engine: is required: the launcher 'engine' is of kind 'engine'",
        "bad.toml: launch.engine.size: unknown key; known: image",
        "bad.toml: launch.engine.image: 1 is not allowed: expected a string",
        "none.toml: launch.engine: no image is called none",
    ]


def test_a_use_case_keeps_the_launchers_that_it_has_plans_for(world: World) -> None:
    text = GOOD + "[launchers.spare]\nkind = 'engine'\n[launchers.door]\nkind = 'engine'\n"
    both = usecase("demo", launcher="spare")
    world.list.listed = [replace(both, fallbacks=("engine",))]
    assert world.draft(text).usecases["demo"].choices == ("spare", "engine")
    world.list.listed = [replace(both, fallbacks=("engine", "gone"))]
    assert "no launcher 'gone' is configured" in world.refused(text)[0]
    world.list.listed = [replace(both, launch={"other": {}}, fallbacks=("engine",))]
    assert world.refused(text) == [
        "demo.toml: launch.engine: is required: the launcher 'spare' is of kind 'engine'"
    ]


def test_a_launcher_without_a_plan_is_passed_over(world: World) -> None:
    other = Factory("other")
    known = world.factory

    def factory(interface: InterfaceClass, kind: str, **error: str) -> Any:
        return other if kind == "other" else known(interface, kind, **error)

    world.factory = factory  # type: ignore[method-assign]
    world.list.listed = [replace(usecase("demo", launcher="o"), fallbacks=("engine",))]
    text = GOOD + "[launchers.o]\nkind = 'other'\n"
    assert world.draft(text).usecases["demo"].choices == ("engine",)


def test_errors_of_several_files_stay_apart(world: World) -> None:
    other = ConfigError("b.toml", [Problem("x", "is bad")])
    world.list.error = ConfigError("a.toml", [Problem("y", "is worse")], [other])
    assert world.refused() == ["a.toml: y: is worse", "b.toml: x: is bad"]


def test_a_bad_launcher_is_told_once(world: World) -> None:
    said = world.refused(GOOD.replace('kind = "engine"', 'kind = "engine"\nkey = "x"'))
    assert said == ['x.toml: launchers.engine.key: "x" is not allowed: expected a whole number']


def test_the_default_use_case_must_be_there(world: World) -> None:
    world.list.listed = [usecase("a"), usecase("b")]
    assert world.refused() == [
        "x.toml: jobs.default_usecase: no use case is named 'demo'; known: a, b"
    ]


def test_what_cannot_be_made_is_told_at_once(world: World) -> None:
    text = GOOD.replace('"engine"', '"engine"\nkey = 13').replace("key = 2", "key = 13")
    with pytest.raises(ConfigError) as caught:
        world.assemble(text)
    assert str(caught.value).splitlines() == [
        "engine room: engine will not start",
        "engine room: second will not start",
    ]


def test_a_state_directory_that_cannot_be_made(world: World) -> None:
    world.state.parent.write_text("a file")
    with pytest.raises(ConfigError, match="state_dir: this folder cannot be made: not a directory"):
        world.assemble()


def test_plans_of_jobs(world: World) -> None:
    made = world.assemble()

    def job(asked: Usecase) -> Job:
        return Job("a" * 26, "ada", asked, 0.0)

    assert made.plan(job(usecase("old", engine={"image": "y"}))) == Plan("y")
    for asked, code in (
        (usecase("x", launcher="gone"), "no_launcher"),
        (usecase("x", engine={}), "bad_plan"),
        (usecase("x", other={}), "bad_plan"),
    ):
        with pytest.raises(EngineRefused) as caught:
            made.plan(job(asked))
        assert caught.value.code == code


def test_the_real_registry_finds_what_comes_with_vsmgate(tmp_path: Path) -> None:
    registry = Registry()
    for interface, kind in (
        (ILauncherFactory, "local"),
        (IAuthenticatorFactory, "static"),
        (IJobStoreFactory, "sql"),
        (IUsecaseSourceFactory, "toml"),
    ):
        assert registry.factory(interface, kind).kind == kind
