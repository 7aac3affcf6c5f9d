"""A gateway that is killed anywhere in a start leaves exactly one engine job of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from twisted.python.reflect import fullyQualifiedName

from tests.launchers.killed import Story
from vsmgate.hands.commands import run
from vsmgate.launchers.local_supervisor import members
from vsmgate.model import Phase, Service, tag_of
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


@pytest.mark.parametrize("engine", ENGINES)
@deferred
async def test_a_gateway_killed_anywhere_in_a_start(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    rig = request.getfixturevalue(engine)
    stride, count = ENGINES[engine]
    usecase = rig.launch().usecase
    usecase = replace(usecase, services={n: Service(secret=True) for n in usecase.services})
    settings = msgspec.to_builtins(rig.settings)
    factory = fullyQualifiedName(type(rig.factory))
    file = tmp_path / "story.json"
    file.write_bytes(msgspec.json.encode(Story(factory, settings, usecase, str(tmp_path), stride)))
    argv = [sys.executable, "-m", "tests.launchers.killed", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    played = await run(rig.reactor, argv, environment, timeout=120)
    said = [line.split() for line in played.out.decode().splitlines()]
    refs = {tag_of(line[0]): line[1] for line in said if len(line) == 2}
    rig.tags = list(refs)
    assert played.status == 0, played.err.decode()
    fates = [line[0] for line in said if len(line) == 1]
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
