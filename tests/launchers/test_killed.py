"""A gateway that is killed anywhere in a start leaves exactly one engine job of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from twisted.python.reflect import fullyQualifiedName

from tests.launchers.killed import Story
from tests.launchers.slurm_rig import SlurmRig
from vsmgate.hands.commands import run
from vsmgate.launchers.local_supervisor import members
from vsmgate.model import Limits, Phase, Service, tag_of
from vsmgate.testing.deferreds import deferred

ROOT = Path(__file__).parent.parent.parent

#: Engine -> how many lines from one death to the next, and how many jobs it has of a tag.
ENGINES: dict[str, tuple[int, Callable[[Any, str], int]]] = {
    "local": (61, lambda rig, tag: sum(p.pid == p.session for p in members(tag))),
    "slurm": (61, lambda rig, tag: len(rig.cluster.ask(f"squeue -h -o %i --name={tag}").split())),
    "unicore": (61, lambda rig, tag: len(rig.site.jobs(tag))),
    "ecs": (97, lambda rig, tag: len(rig.site.tasks(tag))),
    "kubernetes": (97, lambda rig, tag: rig.names("pods").count(tag)),
}


LATE_SBATCH = """\
#!/bin/sh
# The first kills the gateway that waits for it, and comes to Slurm after the second.
cat >"$0.$$"
if mkdir "$0.first" 2>/dev/null; then
    kill -9 $PPID
    for _ in $(seq 300); do [ -e "$0.second" ] || sleep 0.1; done
    exec {sbatch} "$@" <"$0.$$"
fi
{sbatch} "$@" <"$0.$$" && touch "$0.second"
"""


async def play(
    rig: Any, folder: Path, stride: int, late: float = 0.0, **settings: Any
) -> tuple[dict[str, str], list[str]]:
    """Return tag -> ref, and what was heard of all starts, of gateways that were killed."""
    usecase = rig.launch().usecase
    services = {name: Service(secret=True) for name in usecase.services}
    limits = Limits(lifetime=300.0)  # for when this fails, and nobody ends them
    usecase = replace(usecase, services=services, limits=limits)
    told = msgspec.to_builtins(rig.settings) | settings
    factory = fullyQualifiedName(type(rig.factory))
    file = folder / "story.json"
    file.write_bytes(msgspec.json.encode(Story(factory, told, usecase, str(folder), stride, late)))
    argv = [sys.executable, "-m", "tests.launchers.killed", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    played = await run(rig.reactor, argv, environment, timeout=120)
    said = [line.split() for line in played.out.decode().splitlines()]
    refs = {tag_of(line[0]): line[1] for line in said if len(line) == 2}
    rig.tags = list(refs)
    assert played.status == 0, played.err.decode()
    return refs, [line[0] for line in said if len(line) == 1]


@pytest.mark.parametrize("engine", ENGINES)
@deferred
async def test_a_gateway_killed_anywhere_in_a_start(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    rig = request.getfixturevalue(engine)
    stride, count = ENGINES[engine]
    refs, fates = await play(rig, tmp_path, stride)
    # Some died before anything was stored, before the engine was asked, before it answered,
    # before the answer was stored, and after it.
    assert {"refused", "accepted", "found", "answered"} == set(fates)
    assert fates.count("found") < fates.count("accepted") == len(refs) - fates.count("answered")
    assert await rig.launcher.find(refs) == refs
    assert {tag: count(rig, tag) for tag in refs} == dict.fromkeys(refs, 1)
    seen = await rig.launcher.poll(refs.values())
    assert {one.phase for one in seen.values()} <= {Phase.QUEUED, Phase.STARTING, Phase.RUNNING}
    if engine == "kubernetes":
        assert rig.names("secrets") == rig.names("pods") == sorted(refs)


@deferred
async def test_what_slurm_takes_after_the_next_gateway_looked_for_it(
    slurm: SlurmRig, tmp_path: Path
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("squeue", "scancel", "scontrol", "sacct"):
        (commands / name).symlink_to(shutil.which(name))
    sbatch = commands / "sbatch"
    sbatch.write_text(LATE_SBATCH.replace("{sbatch}", shutil.which("sbatch")))
    sbatch.chmod(0o755)
    refs, fates = await play(slurm, tmp_path, 10**9, late=3.0, bin_dir=str(commands))
    assert fates == ["accepted", "answered"]
    taken = {tag: slurm.cluster.ask(f"squeue -h -t all -o %i --name={tag}") for tag in refs}
    assert [len(numbers.split()) for numbers in taken.values()] == [2, 1]

    async def one_each() -> bool | None:
        return True if {tag: ENGINES["slurm"][1](slurm, tag) for tag in refs} == ones else None

    ones = dict.fromkeys(refs, 1)
    await slurm.eventually(one_each)
    assert await slurm.launcher.find(refs) == refs
    for ref in refs.values():  # the other may have begun first, and had the job's folder
        await slurm.until(ref, Phase.RUNNING)
