"""The plugin guide's sixth launcher passes the whole suite, in under 100 lines of code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_twisted
import vsmgate_shell
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from tests.e2e.rig import ROOT
from tests.launchers.rig import SERVICE, Rig
from tests.launchers.test_contract import LauncherContract
from vsmgate.errors import EngineUnreachable
from vsmgate.model import (
    Launch,
    LogStream,
    Observation,
    Phase,
    Secret,
    Service,
    Usecase,
    new_job_id,
)
from vsmgate.testing.deferreds import deferred

EXAMPLE = ROOT / "docs" / "examples" / "vsmgate_shell.py"


class ShellRig(Rig):
    """A shell of this machine; that of another is asked in the same words."""

    factory = vsmgate_shell.shell

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.jobs = folder / "jobs"
        super().__init__(reactor, folder, vsmgate_shell.ShellSettings(folder=str(self.jobs)))

    def launch(self, does: str, **parameters: Any) -> Launch:
        command = f'exec {sys.executable} -I -S {SERVICE} renderer {does} 127.0.0.1 "$PORT"'
        schema = {"properties": {name: {} for name in parameters}}
        usecase = Usecase(
            "test", "shell", {"renderer": Service()}, {"shell": {}}, parameters=schema
        )
        plan = vsmgate_shell.ShellPlan(command)
        assert self.factory.check(usecase, plan) == []
        launch = Launch(new_job_id(), "ada", usecase, plan, parameters, 3600.0)
        self.tags.append(launch.tag)
        return launch

    async def told(self, launch: Launch) -> dict[str, Any]:
        """Return what the service was given."""
        file = self.jobs / launch.tag / "renderer.json"

        async def look() -> dict[str, Any] | None:
            return json.loads(file.read_text()) if file.exists() else None

        found: dict[str, Any] = await self.eventually(look)
        return found

    async def close(self) -> None:
        """End all jobs."""
        for tag in self.tags:
            if (await self.launcher.poll([tag]))[tag].phase is not Phase.UNKNOWN:
                await self.launcher.cancel(tag)
                await self.until(tag, Phase.ENDED)
        await super().close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ShellRig]:
    from twisted.internet import reactor

    made = ShellRig(reactor, tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))
    assert not [p for p in psutil.process_iter(["cwd"]) if str(tmp_path) in str(p.info["cwd"])]


class TestShell(LauncherContract):
    """All of it."""


def test_it_is_short() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith("#")]) < 100


@deferred
async def test_parameters_and_the_secret_arrive_and_do_not_leak(rig: ShellRig) -> None:
    nasty = "$(id) '; rm -rf / #\n`x`"
    launch = replace(rig.launch("stays", word=nasty, size=3), secret=Secret("hush-hush"))
    ref = await rig.launcher.submit(launch)
    given = (await rig.told(launch))["environment"]
    assert (given["PARAM_word"], given["PARAM_size"]) == (nasty, "3")
    assert given["VSMGATE_SECRET"] == "hush-hush"
    await rig.until(ref, Phase.RUNNING)
    shown = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert "hush-hush" not in str(shown)
    files = [path for path in rig.jobs.rglob("*") if path.is_file()]
    kept = [path for path in files if path.name != "renderer.json"]  # the service's own
    assert kept
    assert not any(b"hush-hush" in path.read_bytes() for path in kept)


@deferred
async def test_a_job_is_started_once(rig: ShellRig) -> None:
    launch = rig.launch("stays")
    for _ in range(3):
        assert await rig.launcher.submit(launch) == launch.tag
    await rig.until(launch.tag, Phase.RUNNING)
    running = [p for p in psutil.process_iter(["cwd"]) if launch.tag in str(p.info["cwd"])]
    assert len({os.getsid(p.pid) for p in running}) == 1
    await rig.launcher.cancel(launch.tag)
    await rig.until(launch.tag, Phase.ENDED)
    await rig.launcher.submit(launch)
    assert (await rig.launcher.poll([launch.tag]))[launch.tag].phase is Phase.ENDED


@deferred
async def test_what_withstands_is_killed_the_second_time(rig: ShellRig) -> None:
    launch = rig.launch("stubborn")
    ref = await rig.launcher.submit(launch)

    async def listening() -> bool | None:
        out = await rig.launcher.logs(ref, "renderer", LogStream.STDOUT, 1000)
        return True if b"listening" in out else None

    await rig.eventually(listening)
    await rig.launcher.cancel(ref)
    assert (await rig.launcher.poll([ref]))[ref].phase is Phase.RUNNING
    await rig.launcher.cancel(ref)
    seen = await rig.until(ref, Phase.ENDED)
    assert seen.reason is not None
    assert seen.reason.code == "killed"


@pytest.mark.parametrize("shell", [("/bin/sh", "-c", "echo no route >&2; exit 255"), ("/no/ssh",)])
@deferred
async def test_a_machine_that_is_away(rig: ShellRig, shell: tuple[str, ...]) -> None:
    away = rig.again(shell=shell)
    with pytest.raises(EngineUnreachable):
        await away.find([rig.launch("stays").tag])
    assert await away.poll(["no tag"]) == {"no tag": Observation(Phase.UNKNOWN)}


def test_use_cases_that_it_cannot_run(rig: ShellRig) -> None:
    usecase = Usecase(
        "test",
        "shell",
        {"renderer": Service(), "backend": Service()},
        {},
        parameters={"properties": {"a-b": {}, "c": {}}},
    )
    assert rig.factory.check(usecase, None) == [
        "no shell has a 'a-b'",
        "launch.shell runs one service",
    ]
