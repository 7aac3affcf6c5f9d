"""Slurm through slurmrestd: on a real one, and what other answers mean.

The contract runs on it too (test_contract.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet import ssl
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.portforward import (
    ProxyClient,
    ProxyClientFactory,
    ProxyFactory,
    ProxyServer,
)
from twisted.web.server import Site

from tests.certificates import Authority
from tests.launchers.answering import Answering
from tests.launchers.slurm_rig import SlurmRig, launch_of, usecase_of
from vsmgate.errors import ConfigError, EngineRefused, EngineUnreachable
from vsmgate.interfaces import Context, ILauncher
from vsmgate.launchers.slurm import SlurmLauncherFactory
from vsmgate.launchers.slurm_client import Order
from vsmgate.launchers.slurm_ref import SlurmRef
from vsmgate.launchers.slurm_rest_words import description, parse_answer, time_limit
from vsmgate.launchers.slurm_settings import RestSettings, SlurmSettings
from vsmgate.model import Launch, Phase, Secret, new_job_id
from vsmgate.testing.deferreds import deferred

#: What slurmrestd 24.11 said.
TOKEN_OVER = b"""{"errors": [{"description": "Unable to query jobs", "error_number": 1007, "error":
    "Protocol authentication error", "source": "slurm_load_jobs()"}], "warnings": []}"""
CHANGED = b"""{"results": [], "job_id": "", "step_id": "", "job_submit_user_msg": "", "errors": [],
    "warnings": []}"""
EVERYTHING = (
    "--nodes=2", "--time=61", "--cpus-per-task=72", "--exclusive", "--account=proj3",
    "--partition=prod", "--constraint=cpu", "--gres=gpu:2,disk:1", "--mem=4G", "--comment=a b",
)  # fmt: skip


def order(*options: str, secret: str | None = None) -> Order:
    hidden = Secret(secret) if secret else None
    return Order("vsmgate-x", options, "#!/bin/bash\n", "/x.log", "", hidden)


async def errors(launcher: ILauncher, launch: Launch, ref: str) -> list[EngineUnreachable]:
    """Return what each verb that asks the engine fails with."""
    refs = [ref, str(SlurmRef(4000000, new_job_id()))]
    found = []
    for verb, argument in (
        (launcher.submit, launch),
        (launcher.poll, refs[:1]),
        (launcher.poll, refs),
        (launcher.find, [launch.tag]),
        (launcher.cancel, ref),
    ):
        with pytest.raises(EngineUnreachable) as caught:
            await verb(argument)
        found.append(caught.value)
    return found


@deferred
async def test_resources_and_a_wait(slurm_rest: SlurmRig) -> None:
    for _ in range(2):
        launch = slurm_rest.launch(exclusive=True, memory="0", comment="certs for {owner}")
        ref = await slurm_rest.launcher.submit(launch)
        await slurm_rest.until(ref, Phase.RUNNING)
    parsed = SlurmRef.parse(ref)
    assert parsed is not None
    asked = f"squeue -h -j {parsed.number} -o %h|%k|%l|%D"
    assert slurm_rest.cluster.ask(asked).strip() == "NO|certs for nobody|1:00:00|1"
    plan = {"cpus_per_task": 2, "partition": "prod", "constraint": "", "memory": "100M"}
    third = await slurm_rest.launcher.submit(slurm_rest.launch(**plan))

    async def planned() -> object:
        seen = (await slurm_rest.launcher.poll([third]))[third]
        return seen if seen.queue and seen.queue.estimated_start else None

    seen = await slurm_rest.eventually(planned)
    assert (seen.phase, seen.reason.code) == (Phase.QUEUED, "queued_resources")
    number = SlurmRef.parse(third)
    assert number is not None
    asked = f"squeue -h -j {number.number} -o %C|%m|%P"
    assert slurm_rest.cluster.ask(asked).strip() == "2|100M|prod"


@deferred
async def test_what_can_never_run_says_so(slurm_rest: SlurmRig) -> None:
    """Slurm 22.05 takes it and never starts it, 24.11 refuses it."""

    async def told() -> object:
        seen = (await slurm_rest.launcher.poll([ref]))[ref]
        assert seen.phase is Phase.QUEUED
        return seen.reason if seen.reason.code == "impossible_resources" else None

    try:
        ref = await slurm_rest.launcher.submit(slurm_rest.launch(nodes=5))
        reason = await slurm_rest.eventually(told)
        said = reason.code, reason.native
    except EngineRefused as error:
        said = error.code, error.native
    words = "PartitionConfig", "Requested node configuration is not available"
    assert said in [("impossible_resources", native) for native in words]


@deferred
async def test_every_api_that_it_has(slurm_rest: SlurmRig) -> None:
    """All that a job can ask for arrives, and all that can be done to it is."""
    cluster = slurm_rest.cluster
    plan = {"partition": "prod", "constraint": "cpu", "comment": "a b", "cpus_per_task": 2}
    plan |= {"memory": "100M", "nodes": 2, "options": ["--nice=7", "--licenses=", "--wckey=x"]}
    for version in cluster.rest_versions:
        assert slurm_rest.settings.rest is not None
        rest = replace(slurm_rest.settings.rest, version=version)
        launcher = slurm_rest.launcher = slurm_rest.again(rest=rest)
        assert await launcher.check_engine() == []
        launch = slurm_rest.launch(**plan)
        ref = await launcher.submit(launch)
        before = await slurm_rest.until(ref, Phase.RUNNING)
        assert before.endpoints.keys() == {"renderer"}
        number = ref.partition(":")[0]
        shown = cluster.ask(f"squeue -h -j {number} -o %P|%f|%k|%C|%m|%D|%y|%l|%Z")
        assert shown.strip() == "prod|cpu|a b|4|100M|2|7|1:00:00|/", version
        shown = cluster.ask(f"scontrol show job {number}")
        assert f"StdOut={slurm_rest.folder(launch)}.log" in shown
        # 22.05 takes no word of it.
        assert "Requeue=0" in shown or version == "v0.0.38"
        assert await launcher.find([launch.tag]) == {launch.tag: ref}
        unknown = str(SlurmRef(4000000, new_job_id()))
        assert (await launcher.poll([unknown]))[unknown].phase is Phase.UNKNOWN
        await launcher.cancel(unknown)
        await launcher.extend(ref, 7200.0)
        after = (await launcher.poll([ref]))[ref]
        assert (after.end_time - before.end_time) == 3600.0, version
        await launcher.cancel(ref)
        await slurm_rest.until(ref, Phase.ENDED)
        await launcher.cancel(ref)
        with pytest.raises(EngineRefused) as caught:
            await launcher.extend(ref, 7200.0)
        assert caught.value.code == "not_extendable"
        with pytest.raises(EngineRefused, match="Invalid partition name") as caught:
            await launcher.submit(slurm_rest.launch(partition="nope"))
        assert caught.value.code == "bad_partition"
        whole = slurm_rest.launch(exclusive=True, memory="0")
        ref = await launcher.submit(whole)
        await slurm_rest.until(ref, Phase.RUNNING)
        number = ref.partition(":")[0]
        assert cluster.ask(f"squeue -h -j {number} -o %C|%h").strip() == "4|NO", version
        await launcher.cancel(ref)
        await slurm_rest.until(ref, Phase.ENDED)


@pytest.mark.parametrize(
    ("plan", "code", "words"),
    [
        ({"partition": "nope"}, "bad_partition", "Invalid partition name"),
        ({"constraint": "gpu"}, "bad_constraint", "Invalid feature"),
        ({"reservation": "none"}, "bad_reservation", "reservation is invalid"),
        ({"memory": "9T"}, "impossible_resources", "node configuration is not available"),
        ({"options": ["--mail-type=END"]}, "bad_resource", "--mail-type"),
    ],
)
@deferred
async def test_a_refusal_is_told_in_slurms_words(
    slurm_rest: SlurmRig, plan: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(EngineRefused, match=words) as caught:
        await slurm_rest.launcher.submit(slurm_rest.launch(**plan))
    assert caught.value.code == code


@deferred
async def test_the_token_is_read_again(slurm_rest: SlurmRig) -> None:
    launch = slurm_rest.launch()
    ref = await slurm_rest.launcher.submit(launch)
    await slurm_rest.until(ref, Phase.RUNNING)
    assert slurm_rest.settings.rest is not None
    token = Path(slurm_rest.settings.rest.token_file)
    good = token.read_text()
    # One of another key, and one that is over; 22.05's controller hangs up without a word.
    key = (slurm_rest.cluster.folder / "jwt.key").read_bytes()
    over = jwt.encode({"iat": 1, "exp": 2, "sun": "root"}, key, "HS256")
    for bad in (f"{good.strip()[:-4]}AAAA", over):
        token.write_text(bad)
        for error in await errors(slurm_rest.again(), slurm_rest.launch(), ref):
            assert "is its token still good" in str(error)
            assert bad[-20:-4] not in str(error)
    for bad, told in (("", "holds no token"), ("a b", "holds no token")):
        token.write_text(bad)
        with pytest.raises(EngineUnreachable, match=told):
            await slurm_rest.again().poll([ref])
    token.unlink()
    with pytest.raises(EngineUnreachable, match="cannot be read: No such file"):
        await slurm_rest.launcher.find([launch.tag])
    token.write_text(good)
    assert (await slurm_rest.again().poll([ref]))[ref].phase is Phase.RUNNING


@deferred
async def test_it_goes_away_and_comes_back(slurm_rest: SlurmRig) -> None:
    launch = slurm_rest.launch()
    ref = await slurm_rest.launcher.submit(launch)
    before = await slurm_rest.until(ref, Phase.RUNNING)
    slurm_rest.cluster.end_rest()
    for error in await errors(slurm_rest.again(), slurm_rest.launch(), ref):
        assert "slurmrestd cannot be asked now" in str(error)
    assert slurm_rest.settings.rest is not None
    rest = replace(slurm_rest.settings.rest, url=slurm_rest.cluster.start_rest())
    assert await slurm_rest.again(rest=rest).poll([ref]) == {ref: before}
    slurm_rest.launcher = slurm_rest.again(rest=rest)
    # And the controller behind it.
    slurm_rest.cluster.end_controller()
    try:
        with pytest.raises(EngineUnreachable, match="Slurm cannot be asked now"):
            await slurm_rest.launcher.find([launch.tag])
    finally:
        slurm_rest.cluster.start_controller()

    async def back() -> object:
        try:
            return await slurm_rest.launcher.find([launch.tag])
        except EngineUnreachable:
            return None

    assert await slurm_rest.eventually(back) == {launch.tag: ref}


@deferred
async def test_a_number_that_is_another_jobs_is_not_cancelled(slurm_rest: SlurmRig) -> None:
    ref = await slurm_rest.launcher.submit(slurm_rest.launch())
    await slurm_rest.until(ref, Phase.RUNNING)
    parsed = SlurmRef.parse(ref)
    assert parsed is not None
    stranger = str(parsed._replace(job_id=new_job_id()))
    await slurm_rest.launcher.cancel(stranger)
    assert (await slurm_rest.launcher.poll([stranger]))[stranger].phase is Phase.UNKNOWN
    assert (await slurm_rest.until(ref, Phase.RUNNING)).endpoints


@deferred
async def test_another_version_is_told(slurm_rest: SlurmRig) -> None:
    assert slurm_rest.settings.rest is not None
    rest = replace(slurm_rest.settings.rest, version="v0.0.99")
    with pytest.raises(EngineUnreachable, match=r"no API v0\.0\.99 there"):
        await slurm_rest.again(rest=rest).submit(slurm_rest.launch())


@deferred
async def test_tls_with_an_authority_of_ones_own(slurm_rest: SlurmRig, tmp_path: Path) -> None:
    """Slurmrestd itself has no TLS: a proxy stands before it."""
    assert slurm_rest.settings.rest is not None
    behind = int(slurm_rest.settings.rest.url.rpartition(":")[2])
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    context = ssl.DefaultOpenSSLContextFactory(str(key), str(certificate))
    port = slurm_rest.reactor.listenSSL(
        0, ProxyFactory("127.0.0.1", behind), context, interface="127.0.0.1"
    )
    try:
        url = f"https://localhost:{port.getHost().port}"
        rest = replace(slurm_rest.settings.rest, url=url, allow_http=False)
        launch = slurm_rest.launch()
        with pytest.raises(EngineUnreachable, match="slurmrestd cannot be asked now"):
            await slurm_rest.again(rest=rest).submit(launch)
        trusting = slurm_rest.again(rest=replace(rest, ca_file=str(authority.ca)))
        assert await trusting.find([launch.tag]) == {}
        ref = await trusting.submit(launch)
        assert await trusting.find([launch.tag]) == {launch.tag: ref}
    finally:
        await port.stopListening()


class Drops(ProxyClient):
    """Passes on what is asked, and hangs up instead of passing on the answer."""

    def dataReceived(self, data: bytes) -> None:
        self.peer.transport.abortConnection()


class DropsFactory(ProxyFactory):
    class protocol(ProxyServer):  # Twisted's name for it
        class clientProtocolFactory(ProxyClientFactory):
            protocol = Drops


@deferred
async def test_an_answer_that_is_lost_leaves_one_job(slurm_rest: SlurmRig) -> None:
    assert slurm_rest.settings.rest is not None
    behind = int(slurm_rest.settings.rest.url.rpartition(":")[2])
    port = slurm_rest.reactor.listenTCP(0, DropsFactory("127.0.0.1", behind), interface="127.0.0.1")
    try:
        rest = replace(slurm_rest.settings.rest, url=f"http://127.0.0.1:{port.getHost().port}")
        launch = slurm_rest.launch()
        with pytest.raises(EngineUnreachable, match="slurmrestd cannot be asked now"):
            await slurm_rest.again(rest=rest).submit(launch)
    finally:
        await port.stopListening()
    found = await slurm_rest.launcher.find([launch.tag])
    await slurm_rest.until(found[launch.tag], Phase.RUNNING)
    assert len(slurm_rest.left().split()) == 1


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Any]:
    """Return what makes a launcher at a server that answers everything alike."""
    from twisted.internet import reactor

    ports: list[Any] = []

    def make(status: int, body: bytes) -> Any:
        server = Answering()
        server.status, server.body = status, body
        port = reactor.listenTCP(0, Site(server), interface="127.0.0.1")  # type: ignore[attr-defined]
        ports.append(port)
        url = f"http://127.0.0.1:{port.getHost().port}"
        settings = SlurmSettings(rest=rest_settings(tmp_path, url=url))
        context = Context("slurm", reactor, lambda: 0.0, tmp_path, tmp_path)  # type: ignore[arg-type]
        return SlurmLauncherFactory().make(settings, context)

    yield make
    for port in ports:
        pytest_twisted.blockon(port.stopListening())


def rest_settings(folder: Path, **changes: Any) -> RestSettings:
    token = folder / "token"
    token.write_text("a.b.c")
    good = RestSettings(
        "http://127.0.0.1:1", "vsmgate-of-nowhere", str(token), "v0.0.38", allow_http=True
    )
    return replace(good, **changes)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b"Unable find requested URL.", "no API v0.0.38 there"),
        (502, b"<html><h1>Bad gateway</h1>", r"is not slurmrestd \(status 502\)"),
        (200, b"<html>Welcome", r"is not slurmrestd \(status 200\)"),
        (503, b'{"message": "wait"}', r"is not slurmrestd \(status 503\)"),
        (500, b'{"errors": [{"error": "Unspecified error"}]}', "token still good"),
        (511, TOKEN_OVER, "Protocol authentication error .is its token still good"),
        (200, b'{"errors": [{"error": "Socket timed out on send/recv operation"}]}', "timed out"),
    ],
)
@deferred
async def test_answers_that_tell_nothing_of_jobs(
    answering: Any, slurm_launch: Launch, status: int, body: bytes, told: str
) -> None:
    launcher = answering(status, body)
    ref = str(SlurmRef(5, new_job_id()))
    for error in await errors(launcher, slurm_launch, ref):
        assert re.search(told, str(error))


@pytest.fixture
def slurm_launch() -> Launch:
    return launch_of(usecase_of({"renderer": "stays"}))


@deferred
async def test_nonsense_after_a_submit_is_no_refusal(answering: Any, slurm_launch: Launch) -> None:
    """Slurm may have the job: the gateway has to look for it."""
    for body in (b"{}", b'{"job_id": 0}', b'{"job_id": -4, "errors": []}'):
        with pytest.raises(EngineUnreachable):
            await answering(200, body).submit(slurm_launch)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"url": "ftp://x"}, "rest.url: 'ftp://x' is no URL"),
        ({"url": "http://x:1/slurm/v0.0.38"}, "is no URL such as"),
        ({"allow_http": False}, "shows the token to everybody on the way"),
        ({"version": "v0.0.39"}, "rest.version: 'v0.0.39' is not spoken"),
        ({"user": "a b"}, "rest.user: 'a b' is no name"),
        ({"user": "nobody"}, "'nobody' is not the gateway's own account"),
        ({"token_file": "gone"}, "rest.token_file: 'gone' cannot be read: no such file"),
        ({"ca_file": "gone"}, "rest.ca_file: 'gone' cannot be read: no such file"),
        ({"ca_file": "token"}, "rest.ca_file: 'token' holds no certificate"),
    ],
)
def test_mistakes_in_the_settings_are_told(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    settings = SlurmSettings(rest=rest_settings(tmp_path, **changes))
    context = Context("slurm", MemoryReactorClock(), lambda: 0.0, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"launchers\.slurm\.rest") as caught:
        SlurmLauncherFactory().inspect(settings, context)
    assert told in str(caught.value)


def test_rest_has_no_owners(tmp_path: Path) -> None:
    settings = SlurmSettings(
        rest=rest_settings(tmp_path), run_as=("env", "{owner}"), folder=str(tmp_path)
    )
    context = Context("slurm", MemoryReactorClock(), lambda: 0.0, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="run_as: cannot be had with rest"):
        SlurmLauncherFactory().inspect(settings, context)


def test_a_job_in_the_older_shape() -> None:
    told = json.loads(description(order(*EVERYTHING, secret="hush"), "v0.0.38"))
    assert told["script"] == "#!/bin/bash\n"
    assert told["job"] == {
        **{"name": "vsmgate-x", "current_working_directory": "/", "standard_output": "/x.log"},
        **{"open_mode": "append", "requeue": False, "nodes": "2", "time_limit": 61},
        **{"cpus_per_task": 72, "exclusive": "exclusive", "account": "proj3"},
        **{"partition": "prod", "constraints": "cpu", "gres": "gpu:2,disk:1"},
        **{"memory_per_node": 4096, "comment": "a b"},
        "environment": {"VSMGATE_TAG": "vsmgate-x", "SLURM_VSMGATE_SECRET": "hush"},
    }


def test_a_job_in_the_later_shape() -> None:
    job = json.loads(description(order(*EVERYTHING), "v0.0.41"))["job"]
    assert job["environment"] == ["VSMGATE_TAG=vsmgate-x"]
    assert job["time_limit"] == {"set": True, "infinite": False, "number": 61}
    assert job["memory_per_node"] == {"set": True, "infinite": False, "number": 4096}
    assert (job["nodes"], job["shared"], job["open_mode"]) == ("2", ["none"], ["APPEND"])
    assert job["tres_per_node"] == "gres/gpu:2,gres/disk:1"
    assert json.loads(time_limit(5, "v0.0.41"))["time_limit"]["number"] == 5
    assert json.loads(time_limit(5, "v0.0.38")) == {"time_limit": 5}


@pytest.mark.parametrize(
    ("memory", "megabytes"),
    [("0", 0), ("500", 500), ("500M", 500), ("2G", 2048), ("1T", 1048576), ("1025K", 2)],
)
def test_memory_in_megabytes(memory: str, megabytes: int) -> None:
    told = json.loads(description(order(f"--mem={memory}"), "v0.0.38"))
    assert told["job"]["memory_per_node"] == megabytes


def test_the_errors_of_an_answer() -> None:
    unknown = b'{"errors": [{"error_number": 2017, "error": "Invalid job id specified"}]}'
    answer = parse_answer(unknown)
    assert answer is not None
    assert answer.unknown_job
    key = b'{"errors": [{"description": "Unknown key", "source": "x"}, {"error": "parsing"}]}'
    answer = parse_answer(key)
    assert answer is not None
    assert (answer.words, answer.unknown_job) == ("Unknown key", False)
    changed = parse_answer(CHANGED)
    assert changed is not None
    assert changed.errors == []
    for bad in (b"", b"<html>", b"[]", b'{"errors": 3}'):
        assert parse_answer(bad) is None
