"""For launchers: a fake whose engine a test scripts, and the contract every launcher keeps.

`ScriptedLauncher` is for tests of what *uses* a launcher. `LauncherContract` is for
tests *of* a launcher: subclass it as ``class TestMine(LauncherContract)`` with a fixture
``rig`` that gives a `LauncherRig`.
"""

from __future__ import annotations

from typing import Literal, Protocol

from zope.interface.verify import verifyObject

from vsmgate.errors import EngineRefused
from vsmgate.interfaces import IExtendable, ILauncher, ILauncherFactory
from vsmgate.lifecycle import Event, outcome
from vsmgate.model import (
    Endpoint,
    Launch,
    LogStream,
    Observation,
    Phase,
    new_job_id,
    tag_of,
)
from vsmgate.testing.deferreds import deferred
from vsmgate.testing.scripted_launcher import (
    ScriptedJob,
    ScriptedLauncher,
    ScriptedLauncherFactory,
)

__all__ = ["LauncherContract", "LauncherRig", "ScriptedJob", "ScriptedLauncher"]
__all__ += ["ScriptedLauncherFactory"]


class LauncherRig(Protocol):
    """What the contract needs of a launcher's tests."""

    #: What made it, and the launcher itself, with an engine that has no jobs.
    factory: ILauncherFactory
    launcher: ILauncher

    def launch(self, does: Literal["stays", "finishes", "fails"]) -> Launch:
        """Return a job of one service ``renderer`` that writes ``hello`` to its stdout.

        It then stays, ends with success, or fails. Its lifetime is an hour.
        """

    async def until(self, ref: str, phase: Phase) -> Observation:
        """Wait until the engine has a job in that phase; return what a poll says then."""

    def again(self) -> ILauncher:
        """Return another launcher for the same engine, as after a restart of the gateway."""


class LauncherContract:
    """What holds for every launcher; see `vsmgate.interfaces.ILauncher`."""

    def test_it_provides_its_interfaces(self, rig: LauncherRig) -> None:
        assert verifyObject(ILauncherFactory, rig.factory)
        assert verifyObject(ILauncher, rig.launcher)
        if IExtendable.providedBy(rig.launcher):
            assert verifyObject(IExtendable, rig.launcher)

    @deferred
    async def test_a_job_is_found_by_its_tag(self, rig: LauncherRig) -> None:
        launch, stranger = rig.launch("stays"), tag_of(new_job_id())
        assert await rig.launcher.find([launch.tag, stranger]) == {}
        ref = await rig.launcher.submit(launch)
        assert ref
        assert await rig.launcher.find([launch.tag, stranger]) == {launch.tag: ref}

    @deferred
    async def test_a_poll_answers_for_every_ref(self, rig: LauncherRig) -> None:
        first = await rig.launcher.submit(rig.launch("stays"))
        second = await rig.launcher.submit(rig.launch("stays"))
        strangers = ["", "1", "no such job", f"1:1:{new_job_id()}", "1:1:../../../etc"]
        seen = await rig.launcher.poll([first, *strangers, second])
        assert seen.keys() == {first, second, *strangers}
        assert {seen[ref].phase for ref in strangers} == {Phase.UNKNOWN}
        assert {seen[ref].phase for ref in (first, second)} <= {*Phase} - {Phase.UNKNOWN}
        assert await rig.launcher.poll([]) == {}

    @deferred
    async def test_a_running_job_tells_where_its_services_are(self, rig: LauncherRig) -> None:
        first, second = rig.launch("stays"), rig.launch("stays")
        places: set[Endpoint] = set()
        for launch in (first, second):
            ref = await rig.launcher.submit(launch)
            seen = await rig.until(ref, Phase.RUNNING)
            assert seen.endpoints.keys() == launch.usecase.services.keys()
            places.update(seen.endpoints.values())
        assert len(places) == len(first.usecase.services) + len(second.usecase.services)

    @deferred
    async def test_success_and_failure_are_told_apart(self, rig: LauncherRig) -> None:
        finishes, fails = rig.launch("finishes"), rig.launch("fails")
        for launch, how in ((finishes, Event.STOPPED), (fails, Event.FAILED)):
            ref = await rig.launcher.submit(launch)
            seen = await rig.until(ref, Phase.ENDED)
            assert seen.reason is not None
            assert seen.reason.message
            assert outcome(seen.reason.code) is how
            again = await rig.launcher.poll([ref])
            assert again[ref] == seen  # an ended job stays askable

    @deferred
    async def test_cancel_ends_a_job_and_may_be_repeated(self, rig: LauncherRig) -> None:
        ref = await rig.launcher.submit(rig.launch("stays"))
        await rig.until(ref, Phase.RUNNING)
        await rig.launcher.cancel(ref)
        await rig.launcher.cancel(ref)
        seen = await rig.until(ref, Phase.ENDED)
        assert seen.reason is not None
        await rig.launcher.cancel(ref)
        await rig.launcher.cancel("no such job")
        assert (await rig.launcher.poll([ref]))[ref] == seen

    @deferred
    async def test_another_launcher_adopts(self, rig: LauncherRig) -> None:
        launch = rig.launch("stays")
        ref = await rig.launcher.submit(launch)
        seen = await rig.until(ref, Phase.RUNNING)
        await rig.launcher.close()  # which leaves jobs alone
        later = rig.again()
        assert await later.find([launch.tag]) == {launch.tag: ref}
        assert await later.poll([ref]) == {ref: seen}
        await later.cancel(ref)
        assert (await rig.until(ref, Phase.ENDED)).reason is not None

    @deferred
    async def test_logs_are_the_last_octets(self, rig: LauncherRig) -> None:
        ref = await rig.launcher.submit(rig.launch("finishes"))
        await rig.until(ref, Phase.ENDED)
        logs = rig.launcher.logs
        assert (await logs(ref, "renderer", LogStream.STDOUT, 1000)).strip() == b"hello"
        assert len(await logs(ref, "renderer", LogStream.STDOUT, 3)) == 3
        assert await logs(ref, "renderer", LogStream.STDOUT, 0) == b""
        assert await logs(ref, "renderer", LogStream.STDERR, 1000) == b""
        assert await logs(ref, "no-such-service", LogStream.STDOUT, 1000) == b""
        assert await logs("no such job", "renderer", LogStream.STDOUT, 1000) == b""

    @deferred
    async def test_only_ended_jobs_are_forgotten(self, rig: LauncherRig) -> None:
        ref = await rig.launcher.submit(rig.launch("stays"))
        seen = await rig.until(ref, Phase.RUNNING)
        await rig.launcher.forget(ref)
        assert await rig.launcher.poll([ref]) == {ref: seen}
        await rig.launcher.cancel(ref)
        await rig.until(ref, Phase.ENDED)
        await rig.launcher.forget(ref)
        assert await rig.launcher.logs(ref, "renderer", LogStream.STDOUT, 1000) == b""
        await rig.launcher.forget(ref)
        await rig.launcher.forget("no such job")

    @deferred
    async def test_an_extendable_job_ends_later(self, rig: LauncherRig) -> None:
        if not IExtendable.providedBy(rig.launcher):
            return
        extendable = IExtendable(rig.launcher)
        launch = rig.launch("stays")
        ref = await rig.launcher.submit(launch)
        before = await rig.until(ref, Phase.RUNNING)
        await extendable.extend(ref, launch.lifetime + 1800.0)
        seen = await rig.until(ref, Phase.RUNNING)
        while before.end_time is not None and seen.end_time == before.end_time:
            seen = await rig.until(ref, Phase.RUNNING)
        if before.end_time is not None and seen.end_time is not None:
            assert seen.end_time - before.end_time == 1800.0
        await rig.launcher.cancel(ref)
        await rig.until(ref, Phase.ENDED)
        for gone in (ref, "no such job"):
            try:
                await extendable.extend(gone, launch.lifetime)
            except EngineRefused:
                continue
            raise AssertionError(f"{gone} was extended")
