"""The Slurm launcher on a real Slurm; the contract runs on it too (test_contract.py)."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.launchers.slurm_rig import SlurmRig, launch_of, usecase_of
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.launchers.local_processes import members
from vsmgate.launchers.slurm_ref import SlurmRef
from vsmgate.model import Phase, Secret, Service, Usecase
from vsmgate.testing.deferreds import deferred, gather

NASTY = ["$(id)", "; rm -rf /", "`id` && x | y > z", "--wrap=", "", " a b ", "'\"\\", "../../", "*"]
NASTY += ["\u202egnp.exe", "<port x>", "%s", "!!", "${HOME}", "a'$(id)'b"]


def wrapped(folder: Path, last: str) -> str:
    """Return a folder with Slurm's commands, whose sbatch does its work and then ``last``."""
    folder.mkdir()
    for name in ("squeue", "scancel", "scontrol", "sacct"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    script = folder / "sbatch"
    script.write_text(f'#!/bin/sh\nsaid=$({shutil.which("sbatch")} "$@")\n{last}\n')
    script.chmod(0o755)
    return str(folder)


@pytest.mark.criterion("S-8")
@deferred
async def test_services_answer_where_it_says_and_get_values_literally(slurm: SlurmRig) -> None:
    usecase = usecase_of({"renderer": "stays", "back-end": "stays"})
    plan = usecase.launch["slurm"]
    plan["services"]["renderer"]["command"] += ["{parameters.word}", ["{parameters.words}"]]
    plan["services"]["renderer"]["environment"] = {"WORD": "{parameters.word}", "BY": "{owner}"}
    plan["services"]["renderer"]["command"] += ["{ports.back-end}/x"]
    plan["setup"] = ["export FROM_SITE='set by the site'"]
    launch = slurm.launch_of(usecase, parameters={"word": NASTY[0], "words": NASTY})
    ref = await slurm.launcher.submit(launch)
    seen = await slurm.until(ref, Phase.RUNNING)
    assert seen.endpoints.keys() == {"renderer", "back-end"}
    for name, endpoint in seen.endpoints.items():

        async def answers(name: str = name, port: int = endpoint.port) -> bool | None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    return connection.recv(100) == name.encode()
            except ConnectionRefusedError:
                return None

        assert await slurm.eventually(answers)
    told = json.loads((slurm.folder(launch) / "work" / "renderer.json").read_text())
    port, other = (str(seen.endpoints[name].port) for name in ("renderer", "back-end"))
    assert told["argv"][1:] == [
        "renderer", "stays", "127.0.0.1", port, NASTY[0], *NASTY, f"{other}/x"
    ]  # fmt: skip
    expected = {"WORD": NASTY[0], "BY": "nobody", "FROM_SITE": "set by the site"}
    expected |= {"VSMGATE_PORT": port, "VSMGATE_PORT_BACK_END": other, "VSMGATE_TAG": launch.tag}
    assert told["environment"].items() >= expected.items()
    assert told["cwd"] == str(slurm.folder(launch) / "work")
    assert stat.S_IMODE(slurm.folder(launch).stat().st_mode) == 0o700


@deferred
async def test_a_job_without_room_waits_and_says_why(slurm: SlurmRig) -> None:
    for _ in range(2):
        ref = await slurm.launcher.submit(slurm.launch(exclusive=True, memory="0"))
        running = await slurm.until(ref, Phase.RUNNING)
    third = await slurm.launcher.submit(slurm.launch(cpus_per_task=2, partition="prod"))

    async def planned() -> object:
        seen = (await slurm.launcher.poll([third]))[third]
        assert seen.phase is Phase.QUEUED
        return seen if seen.queue and seen.queue.estimated_start else None

    seen = await slurm.eventually(planned)
    assert seen.reason.code == seen.queue.reason == "queued_resources"
    assert seen.reason.native == "Resources"
    assert abs(seen.queue.estimated_start - running.end_time) < 120
    await slurm.launcher.cancel(third)
    assert (await slurm.until(third, Phase.ENDED)).reason.code == "cancelled_by_administrator"


@deferred
async def test_what_can_never_run_says_so(slurm: SlurmRig) -> None:
    slurm.cluster.ask("scontrol update partitionname=prod maxnodes=1")
    try:
        ref = await slurm.launcher.submit(slurm.launch(nodes=2))

        async def told() -> object:
            seen = (await slurm.launcher.poll([ref]))[ref]
            return seen if seen.reason and seen.reason.code == "impossible_resources" else None

        seen = await slurm.eventually(told)
    finally:
        slurm.cluster.ask("scontrol update partitionname=prod maxnodes=unlimited")
    assert seen.phase is Phase.QUEUED
    assert "waits for ever" in seen.reason.message
    assert seen.reason.native in ("PartitionNodeLimit", "PartitionConfig")
    held = await slurm.launcher.submit(slurm.launch(options=["--begin=now+1hour"]))
    assert (await slurm.launcher.poll([held]))[held].phase is Phase.QUEUED


@pytest.mark.parametrize(
    ("plan", "code", "words"),
    [
        ({"partition": "nope"}, "bad_partition", "Invalid partition name"),
        ({"constraint": "gpu"}, "bad_constraint", "Invalid feature"),
        ({"gres": "gpu:1"}, "bad_gres", "generic resource"),
        ({"memory": "9T"}, "impossible_resources", "can not be satisfied"),
        ({"reservation": "none"}, "bad_reservation", "reservation is invalid"),
    ],
)
@deferred
async def test_a_refusal_is_told_in_slurms_words(
    slurm: SlurmRig, plan: dict[str, str], code: str, words: str
) -> None:
    with pytest.raises(EngineRefused, match=words) as caught:
        await slurm.launcher.submit(slurm.launch(**plan))
    assert caught.value.code == code


@deferred
async def test_what_the_site_prepares_may_fail(slurm: SlurmRig) -> None:
    launch = slurm.launch(setup=["echo no such module >&2; exit 7"])
    ref = await slurm.launcher.submit(launch)
    seen = await slurm.until(ref, Phase.ENDED)
    assert (seen.reason.code, seen.reason.native) == ("exited", "no such module")
    missing = usecase_of({"renderer": "stays"})
    missing.launch["slurm"]["services"]["renderer"]["command"] = ["no-such-program"]
    ref = await slurm.launcher.submit(slurm.launch_of(missing))
    assert (await slurm.until(ref, Phase.ENDED)).reason.code == "program_missing"


@deferred
async def test_a_timeout_of_sbatch_leaves_one_job(slurm: SlurmRig, tmp_path: Path) -> None:
    last = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv"
    launcher = slurm.again(bin_dir=wrapped(tmp_path / "bin", f"{last} operation' >&2; exit 1"))
    launch = slurm.launch()
    with pytest.raises(EngineUnreachable, match="Socket timed out"):
        await launcher.submit(launch)
    found = await launcher.find([launch.tag])
    await slurm.until(found[launch.tag], Phase.RUNNING)
    assert len(slurm.left().split()) == 1


@deferred
async def test_of_two_jobs_of_one_tag_one_is_kept(slurm: SlurmRig) -> None:
    launch = slurm.launch()
    first = await slurm.launcher.submit(launch)
    await slurm.until(first, Phase.RUNNING)
    await slurm.launcher.submit(launch)
    assert await slurm.launcher.find([launch.tag]) == {launch.tag: first}

    async def one_left() -> bool | None:
        return True if slurm.left().split() == [str(SlurmRef.parse(first).number)] else None

    await slurm.eventually(one_left)
    assert await slurm.again().find([launch.tag]) == {launch.tag: first}


@deferred
async def test_the_time_limit(slurm: SlurmRig) -> None:
    ref = await slurm.launcher.submit(slurm.launch(lifetime=61.0))
    parsed = SlurmRef.parse(ref)
    assert parsed is not None
    assert slurm.cluster.ask(f"squeue -h -o %l -j {parsed.number}").strip() == "2:00"
    await slurm.until(ref, Phase.RUNNING)
    # Two minutes are long: let them be over. Slurm looks every half a minute.
    slurm.cluster.ask(f"scontrol update JobId={parsed.number} EndTime=now")
    assert (await slurm.until(ref, Phase.ENDED)).reason.code == "walltime"


@deferred
async def test_the_controller_goes_away_and_comes_back(slurm: SlurmRig) -> None:
    launch = slurm.launch()
    ref = await slurm.launcher.submit(launch)
    before = await slurm.until(ref, Phase.RUNNING)
    slurm.cluster.end_controller()
    later = slurm.again()  # one that has no recent answer
    calls: list[Coroutine[Any, Any, Any]] = [
        later.poll([ref]),
        later.find([launch.tag]),
        later.submit(launch_of(launch.usecase)),
        later.cancel(ref),
    ]
    try:
        results, errors = await gather(calls)  # each waits for some ten seconds
    finally:
        slurm.cluster.start_controller()
    assert results == []
    assert {type(error) for error in errors} == {EngineUnreachable}
    assert all("Unable to contact slurm controller" in str(error) for error in errors)

    async def back() -> object:
        try:
            return (await slurm.launcher.poll([ref]))[ref]
        except EngineUnreachable:
            return None

    assert await slurm.eventually(back) == before


@deferred
async def test_jobs_that_slurm_forgot(slurm: SlurmRig) -> None:
    launches = {does: slurm.launch(does) for does in ("finishes", "fails", "stays")}
    refs = {does: await slurm.launcher.submit(launch) for does, launch in launches.items()}
    await slurm.until(refs["finishes"], Phase.ENDED)
    await slurm.until(refs["fails"], Phase.ENDED)
    await slurm.until(refs["stays"], Phase.RUNNING)
    never = await slurm.launcher.submit(slurm.launch(options=["--begin=now+1hour"]))
    slurm.cluster.forget_jobs()
    # The first job after that has a number that was another's.
    await slurm.launcher.submit(slurm.launch())
    launcher = slurm.again()
    seen = await launcher.poll([*refs.values(), never])
    assert seen[refs["finishes"]].reason.code == "completed"
    assert seen[refs["fails"]].reason.code == "exited"
    assert "no graphics card" in seen[refs["fails"]].reason.native
    # How it ended nobody says: Slurm kills, without notice, what it does not know.
    assert seen[refs["stays"]].phase is seen[never].phase is Phase.UNKNOWN
    tags = {does: launch.tag for does, launch in launches.items()}
    assert await launcher.find(tags.values()) == {tags[does]: refs[does] for does in tags}


@deferred
async def test_a_node_that_goes_down(slurm: SlurmRig) -> None:
    launch = slurm.launch(options=["--nodelist=n2"])
    ref = await slurm.launcher.submit(launch)
    await slurm.until(ref, Phase.RUNNING)
    slurm.cluster.fail_node("n2")
    try:
        seen = await slurm.until(ref, Phase.ENDED)
        assert (seen.reason.code, seen.reason.native) == ("node_failed", "NODE_FAIL")
        assert seen.reason.message == "The job's node failed."
        waits = await slurm.launcher.submit(slurm.launch(options=["--nodelist=n2"]))

        async def told() -> object:
            seen = (await slurm.launcher.poll([waits]))[waits]
            assert seen.phase is Phase.QUEUED
            return seen if seen.reason.code == "nodes_unavailable" else None

        assert (await slurm.eventually(told)).reason.native.startswith("ReqNodeNotAvail")
    finally:
        slurm.cluster.start_node("n2")
    assert (await slurm.until(waits, Phase.RUNNING)).endpoints  # by itself, once it is back

    async def gone() -> bool | None:
        return None if list(members(launch.tag)) else True

    await slurm.eventually(gone)


@pytest.mark.parametrize("way", ["slurm", "slurm_rest"])
@deferred
async def test_a_secret_arrives_and_shows_nowhere(request: pytest.FixtureRequest, way: str) -> None:
    rig: SlurmRig = request.getfixturevalue(way)
    launch = replace(rig.launch(), secret=Secret("hush-hush-0123456789"))
    ref = await rig.launcher.submit(launch)
    await rig.until(ref, Phase.RUNNING)
    told = rig.folder(launch) / "work" / "renderer.json"

    async def written() -> bool | None:
        return told.exists() or None

    await rig.eventually(written)
    assert json.loads(told.read_text())["environment"]["VSMGATE_SECRET"] == "hush-hush-0123456789"
    parsed = SlurmRef.parse(ref)
    assert parsed is not None
    asked = (
        f"scontrol show -dd job {parsed.number}",
        f"scontrol write batch_script {parsed.number} -",
        f"squeue --json -j {parsed.number}",
    )
    shown = [rig.cluster.ask(command) for command in asked]
    assert all(launch.tag in text for text in shown)
    told.unlink()
    shown += [path.read_text() for path in rig.folder(launch).rglob("*") if path.is_file()]
    shown += [(rig.folder(launch).parent / f"{launch.job_id}.log").read_text()]
    for pid in rig.cluster.processes():
        with contextlib.suppress(OSError):
            shown.append(Path(f"/proc/{pid}/cmdline").read_text())
    assert not any("hush-hush" in text for text in shown)


@deferred
async def test_a_job_that_is_started_again_ends(slurm: SlurmRig) -> None:
    """Slurm may do that where it was not told otherwise: slurmrestd 22.05 does not tell it."""
    launcher = slurm.again(rest=None)
    launch = slurm.launch(options=["--nodelist=n1"])
    ref = await launcher.submit(launch)
    await slurm.until(ref, Phase.RUNNING)
    parsed = SlurmRef.parse(ref)
    assert parsed is not None
    slurm.cluster.ask(f"scontrol update JobId={parsed.number} Requeue=1")
    slurm.cluster.ask(f"scontrol requeue {parsed.number}")
    first = f"slurmstepd: [{parsed.number}.batch]".encode()

    async def gone() -> bool | None:
        """Slurm cannot start a job beside its first start, which two minutes are long for."""
        titles = [Path(f"/proc/{pid}/cmdline") for pid in slurm.cluster.processes()]
        with contextlib.suppress(OSError):
            return True if not any(first in title.read_bytes() for title in titles) else None
        return None

    await slurm.eventually(gone)

    async def again() -> object:
        slurm.cluster.ask(f"scontrol update JobId={parsed.number} StartTime=now")
        seen = (await launcher.poll([ref]))[ref]
        return seen if seen.phase is Phase.ENDED else None

    seen = await slurm.eventually(again)
    assert (seen.reason.code, seen.reason.native) == ("node_failed", "requeued")


@deferred
async def test_fixed_ports_and_nodes_that_may_not_be_dialled(slurm: SlurmRig) -> None:
    usecase = usecase_of({"renderer": "stays"})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fixed = Usecase("test", "slurm", {"renderer": Service(port=port)}, usecase.launch)
    ref = await slurm.launcher.submit(slurm.launch_of(fixed))
    assert (await slurm.until(ref, Phase.RUNNING)).endpoints["renderer"].port == port
    elsewhere = slurm.again(nodes="gpu[0-9]+")
    assert (await elsewhere.poll([ref]))[ref].endpoints == {}
    suffixed = slurm.again(address="{node}.example.org")
    host = (await suffixed.poll([ref]))[ref].endpoints["renderer"].host
    assert host in ("n1.example.org", "n2.example.org")
    from_json = slurm.again(query="json")
    assert await from_json.poll([ref]) == await slurm.launcher.poll([ref])
