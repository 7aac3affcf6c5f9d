"""pyunicore, both its clients, uses the stand-in, and what the gateway started there."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import psutil
import pytest
from pyunicore import client
from pyunicore.aio import client as aio
from pyunicore.credentials import AuthenticationFailedException, OIDCToken, UsernamePassword

from tests.launchers.unicore_rig import StandIn, UnicoreRig
from vsmgate.model import Phase
from vsmgate.testing.deferreds import deferred

WORDS = {"Executable": "cat", "Arguments": ["input.txt"], "Tags": ["pyunicore"]}
SLEEPS = {"Executable": "echo up; exec sleep 600", "Tags": ["pyunicore"]}


@pytest.fixture
def site(unicore_site: StandIn) -> client.Client:
    return client.Client(OIDCToken(unicore_site.token), unicore_site.url, cache_time=0)


@pytest.fixture(autouse=True)
def _nothing_left(unicore_site: StandIn) -> object:
    yield
    unicore_site.remove("pyunicore")


def status(job: client.Job, wanted: set[client.JobStatus]) -> client.JobStatus:
    """Wait for one of some states; pyunicore's own poll looks every two seconds."""
    job.cache_time = 0
    deadline = time.monotonic() + 30.0
    while (found := job.status) not in wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_the_site(site: client.Client, unicore_site: StandIn) -> None:
    assert site.access_info()["role"]["selected"] == "user"
    assert site.server_version_info() == (10, 1, 0)
    (compute,) = site.get_compute()
    assert set(compute.get_queues()) == {"normal", "large"}
    assert [app.name for app in site.get_applications()] == ["Bash shell"]
    (home,) = site.get_storages()
    assert home.properties["mountPoint"].endswith("/home/")
    assert site.get_transfers() == []
    client.Client(UsernamePassword("ada", "password"), unicore_site.url)
    with pytest.raises(AuthenticationFailedException):
        client.Client(OIDCToken("nonsense"), unicore_site.url)


def test_submit_with_stage_in_and_files(site: client.Client, tmp_path: Path) -> None:
    given = tmp_path / "input.txt"
    given.write_text("hello, world\n")
    job = site.new_job(dict(WORDS), inputs=[str(given)])
    job.poll()
    assert job.status is client.JobStatus.SUCCESSFUL
    assert job.exit_code == 0
    work = job.working_dir
    assert set(work.listdir()) >= {"stdout", "stderr", "input.txt"}
    out = work.stat("stdout")
    assert out.isfile()
    assert out.size() == 13
    assert out.read() == b"hello, world\n"
    assert out.read(offset=7, size=5) == b"world"
    work.put(b"more", "folder/new.txt")
    assert work.stat("folder").isdir()
    work.rename("folder/new.txt", "folder/renamed.txt")
    work.copy("folder/renamed.txt", "copied.txt")
    work.mkdir("empty")
    taken = io.BytesIO()
    work.stat("copied.txt").download(taken)
    assert taken.getvalue() == b"more"
    work.rm("copied.txt")
    work.rmdir("folder")
    assert not {"copied.txt", "folder", "folder/"} & set(work.listdir())
    assert "End of processing" in job.properties["log"][-1]
    job.restart()
    assert status(job, {client.JobStatus.SUCCESSFUL}) is client.JobStatus.SUCCESSFUL
    job.delete()
    with pytest.raises(Exception, match="404"):
        _ = client.Job(site.transport, job.resource_url, cache_time=0).properties


def test_abort_and_lists(site: client.Client) -> None:
    job = site.new_job(dict(SLEEPS))
    assert status(job, {client.JobStatus.RUNNING}) is client.JobStatus.RUNNING
    assert job.is_running()
    assert "JobState=RUNNING" in job.bss_details()["rawDetailsData"]
    assert [j.resource_url for j in site.get_jobs(tags=["pyunicore"])] == [job.resource_url]
    assert site.get_jobs(tags=["no-such-tag"]) == []
    assert job.set_properties({"tags": ["pyunicore", "more"]}) == {"tags": "OK"}
    assert [j.resource_url for j in site.get_jobs(tags=["more"])] == [job.resource_url]
    job.abort()
    assert status(job, {client.JobStatus.FAILED}) is client.JobStatus.FAILED
    assert job.properties["statusMessage"] == "Job aborted."


def test_the_asynchronous_client(unicore_site: StandIn, tmp_path: Path) -> None:
    given = tmp_path / "input.txt"
    given.write_text("hello\n")

    async def use() -> None:
        credential = OIDCToken(unicore_site.token)
        async with aio.Client(credential, unicore_site.url, cache_time=0) as site:
            await site.assert_authentication()
            assert await site.server_version_info == (10, 1, 0)
            (compute,) = await site.get_compute()
            assert set(await compute.queues) == {"normal", "large"}
            assert len(await site.get_storages()) == 1
            assert await site.get_transfers() == []
            job = await site.new_job(dict(WORDS), inputs=[str(given)])
            await job.poll()
            assert await job.exit_code == 0
            work = await job.working_dir
            out = await work.stat("stdout")
            assert await out.size == 6
            assert await out.read(offset=1, size=3) == b"ell"
            await work.put(b"x", "dir/new.txt")
            assert "dir/" in await work.listdir()
            await work.rm("dir/new.txt")
            await work.rmdir("dir")
            # get_jobs, rename, copy and bss_details of pyunicore 2.0.2's asynchronous client
            # forget to await their links, so nobody can call them.
            job.cache_time = 0
            await job.restart()
            await job.poll()
            sleeper = await site.new_job(dict(SLEEPS))
            sleeper.cache_time = 0
            await sleeper.poll(aio.JobStatus.RUNNING, timeout=30)
            await sleeper.abort()
            await sleeper.poll(timeout=30)
            assert await sleeper.status is aio.JobStatus.FAILED
            await sleeper.delete()

    asyncio.run(use())


@deferred
async def test_it_sees_and_uses_what_the_gateway_started(
    unicore: UnicoreRig, site: client.Client
) -> None:
    launch = unicore.launch()
    ref = await unicore.launcher.submit(launch)
    await unicore.until(ref, Phase.RUNNING)
    (job,) = site.get_jobs(tags=[launch.tag])
    assert job.job_id == ref
    assert job.properties["name"] == launch.tag
    assert job.status is client.JobStatus.RUNNING

    async def greeted() -> bytes | None:
        return job.working_dir.stat("vsmgate/renderer.stdout").read() or None

    assert (await unicore.eventually(greeted)).startswith(b"hello\n")
    assert job.working_dir.stat("vsmgate/ports").read().startswith(b"renderer 2")
    job.abort()
    seen = await unicore.until(ref, Phase.ENDED)
    assert seen.reason is not None
    assert seen.reason.code == "cancelled_by_administrator"


def test_ctrl_c_ends_the_stand_in_and_its_jobs() -> None:
    stand_in = StandIn()
    try:
        job = client.Client(OIDCToken(stand_in.token), stand_in.url).new_job(dict(SLEEPS))
        assert status(job, {client.JobStatus.RUNNING}) is client.JobStatus.RUNNING
        where = str(stand_in.where(job.job_id))
        processes = [
            process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == where
        ]
        assert processes
        assert stand_in.end() == 0
        assert psutil.wait_procs(processes, timeout=30)[1] == []
    finally:
        stand_in.close()
