"""The gateway, the supervisor and the machine can be killed whenever they like."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.launchers.local_rig import LocalRig
from tests.launchers.test_local import logged
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.launchers.local_folder import JobFolder
from vsmgate.launchers.local_processes import boot_id, look, members, send
from vsmgate.launchers.local_record import LocalRef
from vsmgate.model import Launch, Phase, tag_of
from vsmgate.testing.deferreds import deferred, gather


def supervisors(launch: Launch) -> list[int]:
    """Return the pids of the job's processes that lead their session."""
    return [p.pid for p in members(launch.tag) if p.pid == p.session]


async def service_of(launch: Launch) -> bool | None:
    """Wait for more than a supervisor: a process that was just executed has no environment."""
    return True if len(list(members(launch.tag))) > 1 else None


@deferred
async def test_submitting_twice_starts_one_job(local: LocalRig) -> None:
    launch = local.launch()
    ref = await local.launcher.submit(launch)
    for launcher in (local.launcher, local.again()):
        with pytest.raises(EngineUnreachable):  # after which the caller asks `find`
            await launcher.submit(launch)
        assert await launcher.find([launch.tag]) == {launch.tag: ref}
    assert supervisors(launch) == [LocalRef.parse(ref).pid]
    await local.launcher.cancel(ref)
    await local.eventually(lambda: ended(LocalRef.parse(ref).pid))
    assert await local.launcher.submit(launch) == ref  # it ran, and does not run again
    assert local.left() == []


@deferred
async def test_submitting_at_once_starts_one_job(local: LocalRig) -> None:
    launch = local.launch()
    refs, errors = await gather(local.again().submit(launch) for _ in range(4))
    assert [type(error) for error in errors] == [EngineUnreachable] * (4 - len(refs))
    found = await local.launcher.find([launch.tag])
    assert set(refs) == {found[launch.tag]}
    assert len(supervisors(launch)) == 1


@deferred
async def test_find_waits_for_a_supervisor_on_its_way(local: LocalRig) -> None:
    launch = local.launch()
    ref = await local.launcher.submit(launch)
    folder = local.folder(launch)
    (folder / "record.json").rename(folder / "aside")  # as if it was not written yet

    async def find() -> dict[str, str]:
        return dict(await local.launcher.find([launch.tag]))

    async def write() -> dict[str, str]:
        (folder / "aside").rename(folder / "record.json")
        return {}

    found, errors = await gather([find(), write()])
    assert not errors
    assert {launch.tag: ref} in found


@deferred
async def test_a_request_alone_is_no_job(local: LocalRig) -> None:
    launch = local.launch()
    folder = JobFolder(local.state_dir / "jobs", launch.job_id)
    folder.make()
    folder.write_request({"tag": "of an attempt that came to nothing"})
    assert await local.launcher.find([launch.tag]) == {}
    await local.launcher.abandon(launch.tag)
    assert not folder.path.exists()
    await local.launcher.abandon(launch.tag)
    ref = await local.launcher.submit(launch)
    await local.launcher.abandon(launch.tag)
    await local.until(ref, Phase.RUNNING)


@deferred
async def test_a_killed_supervisor_takes_its_job_along(local: LocalRig) -> None:
    local.launcher = local.again(grace=60.0)
    launch = local.launch_services({"renderer": "stubborn", "backend": "stays"})
    ref = await local.launcher.submit(launch)
    os.kill(LocalRef.parse(ref).pid, signal.SIGKILL)
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "supervisor_killed"
    assert local.left() == []
    assert await local.again().poll([ref]) == {ref: seen}


@deferred
async def test_cancel_works_without_a_supervisor(local: LocalRig) -> None:
    launch = local.launch("stubborn")
    ref = await local.launcher.submit(launch)
    os.kill(LocalRef.parse(ref).pid, signal.SIGKILL)
    await local.eventually(lambda: ended(LocalRef.parse(ref).pid))
    await local.launcher.cancel(ref)
    await local.eventually(local.gone)


async def ended(pid: int) -> bool | None:
    return True if look(pid) is None else None


def crafted(local: LocalRig, pid: int, start: int, **changes: object) -> str:
    """Write the record of a running job whose supervisor had that pid; return its ref."""
    launch = local.launch()
    folder = JobFolder(local.state_dir / "jobs", launch.job_id)
    folder.make()
    service = {"pid": pid, "start": start, "host": "127.0.0.1", "port": 1, "status": None}
    record = {
        "tag": launch.tag,
        "pid": pid,
        "start": start,
        "boot": boot_id(),
        "started_at": 0.0,
        "lifetime": 60.0,
        "services": {"renderer": service},
        **changes,
    }
    (folder.path / "record.json").write_text(json.dumps(record))
    return str(LocalRef(pid, start, launch.job_id))


@pytest.fixture
def bystander() -> subprocess.Popen[bytes]:
    """A process in a session of its own, which is none of ours."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"],
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


@deferred
async def test_a_recycled_pid_is_not_ours(
    local: LocalRig, bystander: subprocess.Popen[bytes]
) -> None:
    now = look(bystander.pid)
    ref = crafted(local, now.pid, now.start - 1)
    assert not send(now._replace(start=now.start - 1), signal.SIGKILL)
    await local.launcher.cancel(ref)
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "supervisor_killed"
    with pytest.raises(EngineRefused):
        await local.launcher.extend(ref, 100.0)
    assert bystander.poll() is None
    # And the ref of the one does not lead to the record of the other.
    other = str(LocalRef.parse(ref)._replace(start=now.start))
    assert (await local.launcher.poll([other]))[other].phase is Phase.UNKNOWN
    await local.launcher.cancel(other)
    assert bystander.poll() is None


@deferred
async def test_a_restart_of_the_machine_is_noticed(
    local: LocalRig, bystander: subprocess.Popen[bytes]
) -> None:
    now = look(bystander.pid)
    ref = crafted(local, now.pid, now.start, boot="another boot")
    await local.launcher.cancel(ref)
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "machine_restarted"
    assert bystander.poll() is None


@deferred
async def test_a_broken_record_is_an_unknown_job_and_hurts_no_other(local: LocalRig) -> None:
    good = await local.launcher.submit(local.launch())
    ref = crafted(local, 1, 1)
    (local.state_dir / "jobs" / LocalRef.parse(ref).job_id / "record.json").write_bytes(b"")
    seen = await local.launcher.poll([ref, good])
    assert [seen[ref].phase, seen[good].phase] == [Phase.UNKNOWN, Phase.RUNNING]


@deferred
async def test_a_supervisor_that_cannot_write_starts_nothing(local: LocalRig) -> None:
    launch = local.launch()
    folder = JobFolder(local.state_dir / "jobs", launch.job_id)
    folder.make()
    (folder.path / "record.json.new").mkdir()  # in its way
    with pytest.raises(EngineRefused) as caught, logged() as lines:
        await local.launcher.submit(launch)
    assert caught.value.code == "program_unusable"
    assert caught.value.native == ""
    assert any("record.json.new" in line for line in lines)
    assert not folder.path.exists()
    assert list(members(launch.tag)) == []
    assert await local.launcher.find([launch.tag, tag_of("x")]) == {}


@deferred
async def test_a_job_ends_though_its_record_cannot_be_written(local: LocalRig) -> None:
    launch = local.launch()
    ref = await local.launcher.submit(launch)
    await local.until(ref, Phase.RUNNING)
    blocked = local.folder(launch) / "record.json.new"
    blocked.mkdir()  # as good as a full disk

    async def services_gone() -> bool | None:
        return True if local.left() == supervisors(launch) else None

    await local.launcher.cancel(ref)
    await local.eventually(services_gone)
    assert (await local.launcher.poll([ref]))[ref].phase is Phase.RUNNING
    blocked.rmdir()
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "cancelled_by_administrator"
