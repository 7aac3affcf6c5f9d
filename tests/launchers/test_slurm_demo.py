"""Use cases through a real gateway, on a real Slurm of two nodes."""

from __future__ import annotations

import json
import re
import socket
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import Gateway
from tests.e2e.site import demo_on, shipped_site
from tests.e2e.test_demo import draw
from tests.launchers.slurm_rig import SlurmRig
from vsmgate.demo.client import brayns
from vsmgate.launchers.local_processes import members
from vsmgate.shipped import conf_folder

STATES = ["requested", "queued", "starting", "running", "ready"]
#: Nine renderers begin at once, perhaps on a busy machine.
PATIENCE = 120.0


@pytest.fixture
def start(
    slurm: SlurmRig, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> Callable[[str, str], Gateway]:
    """Return what starts a gateway that has one use case, and this Slurm as ``cluster``."""

    def start(name: str, usecase: str) -> Gateway:
        table = f"""
            [launchers.cluster]
            kind = "slurm"
            targets = ["127.0.0.0/8"]
            bind = "127.0.0.1"
            address = "127.0.0.1"
            python = {json.dumps(sys.executable)}
            conf = {json.dumps(str(slurm.cluster.conf))}
            poll_every = 0.2
            """
        return make_gateway(*shipped_site(tmp_path, {name: usecase}, table))

    return start


def submit(gateway: Gateway, slurm: SlurmRig, usecase: str) -> str:
    started = gateway.ask("POST", "/start", {"usecase": usecase})
    assert started.status == 201, started.body
    job_id = str(started.json["job_id"])
    slurm.tags.append(f"vsmgate-{job_id}")
    return job_id


def stop(gateway: Gateway, job_id: str) -> None:
    gateway.stop_job(job_id, PATIENCE)
    left = lambda: not list(members(f"vsmgate-{job_id}"))  # noqa: E731
    gateway.until(left, "the job's processes to be gone", PATIENCE)


def follow(gateway: Gateway, job_id: str) -> list[str]:
    """Return the states that a job was seen in, once it is ready."""
    states: list[str] = []

    def ready() -> bool:
        job = gateway.ask("GET", f"/v1/jobs/{job_id}").json
        state = job["state"]
        if state not in states[-1:]:
            states.append(state)
        assert state in STATES, job["reason"]
        return bool(state == "ready")

    gateway.until(ready, "the job to be ready", PATIENCE)
    return states


def test_the_demo_on_two_nodes_while_a_third_waits(
    slurm: SlurmRig, start: Callable[[str, str], Gateway]
) -> None:
    gateway = start("demo", demo_on("cluster").replace("cpus_per_task = 1", "cpus_per_task = 4", 1))
    jobs = [submit(gateway, slurm, "demo") for _ in range(3)]
    for job_id in jobs[:2]:
        states = follow(gateway, job_id)
        assert states == sorted(states, key=STATES.index)
        assert states[-1] == "ready"
    status = gateway.ask("GET", f"/status/{jobs[0]}").json
    assert status["end_time"].endswith("+00:00")
    draw(status["job_url"], gateway.token)

    def planned() -> Any:
        listed = gateway.ask("GET", "/v1/jobs").json["items"]
        third = next(job for job in listed if job["id"] == jobs[2])
        assert third["state"] in ("requested", "queued")
        return third if third["queue"] and third["queue"]["estimated_start"] else None

    third = gateway.until(planned, "the third job's expected start", PATIENCE)
    assert third["reason"]["code"] == third["queue"]["reason"] == "queued_resources"
    assert third["reason"]["native"] == "Resources"
    expected = datetime.fromisoformat(third["queue"]["estimated_start"])
    assert expected > datetime.now(UTC)
    nodes = slurm.cluster.ask(f"squeue -h -t R -o %B --name={','.join(slurm.tags)}").split()
    assert sorted(nodes) == ["n1", "n2"]

    stop(gateway, jobs[0])
    assert follow(gateway, jobs[2])[-1] == "ready"  # it has the first one's place now
    for job_id in jobs[1:]:
        stop(gateway, job_id)
    assert slurm.left().strip() == ""


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755 | stat.S_IXOTH)


def stand_in(folder: Path, name: str) -> tuple[str, dict[int, int]]:
    """Return a shipped use case with the demo in Brayns' place; and its port -> one that is free.

    Nothing else of the file changes: what it runs is found by the PATH.
    """
    text = (conf_folder() / "slurm" / "usecases" / f"{name}.toml").read_text()
    run = f"exec {sys.executable} -m vsmgate.demo"
    note = 'echo "$0 $*" >>"said-$VSMGATE_SERVICE"'
    program(folder, "braynsService", f'{note}\n{run}.renderer "$@"')
    program(folder, "bcsb", f'{note}\nmkdir data\n{run}.backend "$@" --base_directory data')
    program(folder, "taskset", f'{note}\nshift 2\nexec "$@"')
    text, replaced = re.subn(
        r"setup = \[.*?\n\]", f"setup = ['export PATH={folder}:$PATH']", text, flags=re.DOTALL
    )
    assert replaced == 1
    known = [int(found) for found in re.findall(r"^port = ([0-9]+)$", text, re.MULTILINE)]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in known]
    ports = {old: s.getsockname()[1] for old, s in zip(known, sockets, strict=True)}
    for used in sockets:
        used.close()
    for old, new in ports.items():
        text = text.replace(f"port = {old}\n", f"port = {new}\n")
    return text, ports


def test_sbo1(slurm: SlurmRig, tmp_path: Path, start: Callable[[str, str], Gateway]) -> None:
    text, ports = stand_in(tmp_path / "bin", "SBO1")
    assert list(ports) == [5000, 8000]
    gateway = start("SBO1", text)
    job_id = submit(gateway, slurm, "SBO1")
    assert follow(gateway, job_id)[-1] == "ready"
    told = slurm.cluster.ask(f"squeue -h -o %a|%P|%h|%k|%l|%f --name=vsmgate-{job_id}").strip()
    assert told == "proj134|prod|NO|certs|8:00:00|cpu"
    work = tmp_path / "state" / "cluster" / job_id / "work"
    said = (work / "said-renderer").read_text().split()[1:]
    assert said[:2] == ["--uri", f"127.0.0.1:{ports[5000]}"]
    assert said[-4:] == ["--plugin", "braynsCircuitExplorer", "--plugin", "braynsAtlasExplorer"]
    said = (work / "said-backend").read_text().split()[1:]
    assert said[:4] == ["--host", "127.0.0.1", "--port", str(ports[8000])]
    draw(gateway.ask("GET", f"/status/{job_id}").json["job_url"], gateway.token)
    stop(gateway, job_id)


def test_sbo_multi(slurm: SlurmRig, tmp_path: Path, start: Callable[[str, str], Gateway]) -> None:
    text, ports = stand_in(tmp_path / "bin", "SBO-multi")
    assert list(ports) == list(range(5000, 5009))
    gateway = start("SBO-multi", text)
    job_id = submit(gateway, slurm, "SBO-multi")
    assert follow(gateway, job_id)[-1] == "ready"
    cpus: list[int] = []
    work = tmp_path / "state" / "cluster" / job_id / "work"
    for index, port in enumerate(ports.values()):
        pinned, brayns_line = (work / f"said-renderer-{index}").read_text().splitlines()
        first, last = map(int, pinned.split()[2].split("-"))
        cpus += range(first, last + 1)
        assert f"--uri 127.0.0.1:{port} " in brayns_line
        url = f"{gateway.relay}/{job_id}/renderer-{index}?token={gateway.token}"
        with brayns.Connector(url, max_attempts=3).connect() as renderer:
            brayns.check_version(renderer)
    assert cpus == list(range(72))  # each has its own
    stop(gateway, job_id)
