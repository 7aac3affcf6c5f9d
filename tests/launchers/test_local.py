from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec import convert
from msgspec.structs import replace
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from tests.launchers.local_rig import LocalRig
from vsmgate.errors import ConfigError, EngineRefused
from vsmgate.interfaces import Context
from vsmgate.launchers import local_supervisor
from vsmgate.launchers.local import LocalLauncherFactory, LocalSettings
from vsmgate.launchers.local_processes import Process, look, members
from vsmgate.launchers.local_record import LocalRef
from vsmgate.launchers.local_request import LocalPlan
from vsmgate.model import Launch, LogStream, Phase, Service, Usecase
from vsmgate.testing.deferreds import deferred


def told(rig: LocalRig, launch: Launch, service: str = "renderer") -> dict[str, object]:
    """Return what a service was given."""
    return json.loads((rig.folder(launch) / "work" / f"{service}.json").read_text())


async def heard(rig: LocalRig, ref: str, line: bytes, service: str = "renderer") -> None:
    """Wait until a service wrote ``line``."""

    async def look_for() -> bool | None:
        written = await rig.launcher.logs(ref, service, LogStream.STDOUT, 1000)
        return True if line in written.splitlines() else None

    await rig.eventually(look_for)


# -- what services get ------------------------------------------------------------------


@deferred
async def test_services_answer_where_the_launcher_says(local: LocalRig) -> None:
    launch = local.launch_services({"renderer": "stays", "back-end": "stays"})
    ref = await local.launcher.submit(launch)
    seen = await local.until(ref, Phase.RUNNING)
    for name, endpoint in seen.endpoints.items():
        await heard(local, ref, b"listening", name)
        with socket.create_connection((endpoint.host, endpoint.port), timeout=5) as connection:
            assert connection.recv(100) == name.encode()
    environment = told(local, launch)["environment"]
    ports = {name: str(endpoint.port) for name, endpoint in seen.endpoints.items()}
    assert (
        environment.items()
        >= {
            "VSMGATE_TAG": launch.tag,
            "VSMGATE_JOB": launch.job_id,
            "VSMGATE_SERVICE": "renderer",
            "VSMGATE_HOST": "127.0.0.1",
            "VSMGATE_PORT": ports["renderer"],
            "VSMGATE_PORT_RENDERER": ports["renderer"],
            "VSMGATE_PORT_BACK_END": ports["back-end"],
        }.items()
    )
    assert told(local, launch)["cwd"] == str(local.folder(launch) / "work")


NASTY = ["$(id)", "; rm -rf /", "`id` && x | y > z", "--wrap=", "", " a b ", "'\"\\", "../../", "*"]
NASTY += ["\u202egnp.exe", "{port}", "{{", "%s", "\t~"]


@deferred
async def test_values_arrive_literally(local: LocalRig) -> None:
    parameters = {"words": NASTY, "word": NASTY[0], "flag": True, "off": False, "size": 0.5}
    launch = local.launch_services(
        {"renderer": "stays"},
        parameters=parameters,
        extra=[["--word", "{parameters.words}"], "{parameters.word}", ["{parameters.off}"]],
        environment={"WORD": "{parameters.word}", "SIZE": "{parameters.size}", "BY": "{owner}"},
    )
    ref = await local.launcher.submit(launch)
    await heard(local, ref, b"listening")
    got = told(local, launch)
    assert got["argv"][5:] == [x for word in NASTY for x in ("--word", word)] + [NASTY[0]]
    assert got["environment"].items() >= {"WORD": NASTY[0], "SIZE": "0.5", "BY": "ada"}.items()


@deferred
async def test_only_named_variables_are_handed_down(
    local: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("GREETING", "hello")
    local.launcher = local.again(inherit=("PATH", "GREETING"))
    launch = local.launch()
    ref = await local.launcher.submit(launch)
    await heard(local, ref, b"listening")
    environment = told(local, launch)["environment"]
    assert environment["GREETING"] == "hello"
    names = {name for name in environment if not name.startswith("VSMGATE_")}
    assert names - {"LC_CTYPE"} == {"PATH", "GREETING"}  # Python itself adds LC_CTYPE
    assert "hunter2" not in "".join(p.read_text() for p in files_of(local.folder(launch)))


@deferred
async def test_a_job_may_have_so_many_processors(local: LocalRig) -> None:
    allowed = os.sched_getaffinity(0)
    for launcher, plan, count in (
        (local.again(), LocalPlan, len(allowed)),
        (local.again(cpus=1), LocalPlan, 1),
        (local.again(cpus=len(allowed)), partial(LocalPlan, cpus=1), 1),
    ):
        launch = local.launch()
        launch = replace(launch, plan=plan(services=launch.plan.services))
        await launcher.submit(launch)

        async def there() -> Process | None:
            return next((p for p in members(launch.tag) if is_service(p)), None)  # noqa: B023

        service = await local.eventually(there)
        assert os.sched_getaffinity(service.pid) <= allowed
        assert len(os.sched_getaffinity(service.pid)) == count


def is_service(process: Process) -> bool:
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    return b"service.py" in command


@deferred
async def test_more_processors_than_there_are(local: LocalRig) -> None:
    launch = local.launch()
    launch = replace(launch, plan=LocalPlan(launch.plan.services, cpus=9999))
    with pytest.raises(EngineRefused, match="wants 9999 processors") as refused:
        await local.launcher.submit(launch)
    assert refused.value.code == "impossible_resources"
    with pytest.raises(ConfigError, match="9999 is more than the"):
        local.again(cpus=9999)


@deferred
async def test_a_job_may_have_so_much_memory(local: LocalRig) -> None:
    launcher = local.again(memory=100_000_000, grace=5.0)
    launch = local.launch("greedy")  # 60 MB twice
    modest = replace(launch, plan=LocalPlan(launch.plan.services, memory=400_000_000))
    allowed = await launcher.submit(modest)
    await heard(local, allowed, b"listening")
    greedy = await launcher.submit(local.launch("greedy"))
    seen = await local.until(greedy, Phase.ENDED)
    assert seen.reason is not None
    assert seen.reason.code == "out_of_memory"
    assert "more memory than it may have, 100 MB" in seen.reason.message
    # The other was looked at as often.
    assert (await launcher.poll([allowed]))[allowed].phase is Phase.RUNNING


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@deferred
async def test_nobody_else_can_read_it(local: LocalRig) -> None:
    launch = local.launch()
    ref = await local.launcher.submit(launch)
    await heard(local, ref, b"listening")
    await local.launcher.extend(ref, 1000.0)
    folder = local.folder(launch)
    files = files_of(folder)
    names = {"lock", "request.json", "record.json", "renderer.stdout", "renderer.stderr"}
    assert names | {"supervisor.log", "lifetime"} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    folders = [folder.parent, folder, folder / "work"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


@deferred
async def test_a_job_is_apart_from_the_gateway(local: LocalRig) -> None:
    launch = local.launch()
    ref = await local.launcher.submit(launch)
    await heard(local, ref, b"listening")
    found = list(members(launch.tag))
    assert len(found) == 2  # the supervisor and the service: no shell between
    assert {process.session for process in found} == {LocalRef.parse(ref).pid}
    assert os.getsid(0) not in {process.session for process in found}
    for process in found:
        links = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not [link for link in links if link.startswith("pipe:")], links


# -- what services write ----------------------------------------------------------------


@pytest.mark.parametrize("holes", [True, False])
@deferred
async def test_endless_output_does_not_fill_the_disk(
    local: LocalRig, holes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2 * 1024 * 1024
    if not holes:  # a file system that cannot
        monkeypatch.setattr(local_supervisor, "__file__", str(without_holes(local.state_dir)))
    local.launcher = local.again(max_output=most)
    launch = local.launch("chatty")
    ref = await local.launcher.submit(launch)
    output = local.folder(launch) / "renderer.stdout"

    async def written() -> int | None:
        """Wait for much more than may be kept."""
        said = (await local.launcher.logs(ref, "renderer", LogStream.STDOUT, 100_000)).split()
        lines = [int(word[:20]) for word in said if len(word) > 65000]
        return lines[-1] if lines and lines[-1] * 65536 > 4 * most else None

    kept = [0]

    async def trimmed() -> bool | None:
        kept.append(output.stat().st_blocks * 512)
        return True if kept[-1] < kept[-2] else None

    for _ in range(2):  # what one gateway began goes on without it
        last = await local.eventually(written)
        await local.eventually(trimmed)
        local.launcher = local.again()
    assert kept[-1] <= 3 * most

    async def read() -> list[int] | None:
        tail = await local.launcher.logs(ref, "renderer", LogStream.STDOUT, 200_000)
        return [int(line[:20]) for line in tail.split(b"\n")[1:-1]] or None

    numbers = await local.eventually(read)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[-1] >= last


def without_holes(folder: Path) -> Path:
    """Return a supervisor whose C library refuses to make holes."""
    program = folder / "supervisor.py"
    source = Path(local_supervisor.__file__)
    program.write_text(
        "import ctypes, runpy, sys\n"
        "ctypes.CDLL = lambda _: type('libc', (), {'fallocate': lambda *_: -1})()\n"
        f"sys.argv[0] = {str(source)!r}\n"
        f"runpy.run_path({str(source)!r}, run_name='__main__')\n"
    )
    return program


# -- how jobs end -----------------------------------------------------------------------


@deferred
async def test_an_early_death_tells_why(local: LocalRig) -> None:
    launch = local.launch_services({"backend": "stays", "renderer": "fails"})
    ref = await local.launcher.submit(launch)
    await local.eventually(lambda: nudged(local))
    seen = (await local.launcher.poll([ref]))[ref]
    assert seen.reason.code == "exited"
    assert "renderer" in seen.reason.message
    assert "exit code 3" in seen.reason.message
    assert seen.reason.native.splitlines() == ["first line", "no graphics card\x1b"]
    assert local.left() == []


async def nudged(local: LocalRig) -> bool | None:
    return True if local.nudges else None


@deferred
async def test_a_signal_is_named(local: LocalRig) -> None:
    ref = await local.launcher.submit(local.launch("killed"))
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "killed"
    assert "SIGKILL" in seen.reason.message
    assert seen.reason.native == "hello"  # nothing on stderr


@deferred
async def test_the_last_words_are_bounded(local: LocalRig) -> None:
    launch = local.launch("fails")
    ref = await local.launcher.submit(launch)
    await local.until(ref, Phase.ENDED)
    with (local.folder(launch) / "renderer.stderr").open("ab") as file:
        file.write(b"x" * 100_000 + b"\xff\nthe end\n")
    seen = (await local.launcher.poll([ref]))[ref]
    assert len(seen.reason.native) <= 2048
    assert seen.reason.native.endswith("\nthe end")


@deferred
async def test_cancel_kills_what_does_not_listen(local: LocalRig) -> None:
    local.launcher = local.again(grace=0.2)
    launch = local.launch_services({"renderer": "stubborn", "backend": "stays"})
    ref = await local.launcher.submit(launch)
    await heard(local, ref, b"listening")
    await local.launcher.cancel(ref)
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "cancelled_by_administrator"
    await local.eventually(local.gone)
    services = json.loads((local.folder(launch) / "record.json").read_text())["services"]
    assert {name: s["status"] for name, s in services.items()} == {"renderer": -9, "backend": -15}


@pytest.mark.parametrize("end", ["cancel", "exit", "kill"])
@deferred
async def test_what_left_the_session_is_ended_too(local: LocalRig, end: str) -> None:
    local.launcher = local.again(grace=0.1)
    launch = local.launch("runaway")
    ref = await local.launcher.submit(launch)
    await heard(local, ref, b"away")
    await heard(local, ref, b"listening")
    supervisor = LocalRef.parse(ref).pid
    sessions = {process.pid: process.session for process in members(launch.tag)}
    assert len(sessions) == 3
    (service,) = {pid for pid, session in sessions.items() if session == supervisor} - {supervisor}
    if end == "cancel":
        await local.launcher.cancel(ref)
    else:
        os.kill(service if end == "exit" else supervisor, signal.SIGKILL)
    seen = await local.until(ref, Phase.ENDED)
    codes = {"cancel": "cancelled_by_administrator", "exit": "killed", "kill": "supervisor_killed"}
    assert seen.reason.code == codes[end]
    await local.eventually(local.gone)


@deferred
async def test_the_time_limit_holds_without_a_gateway(local: LocalRig) -> None:
    launch = local.launch(lifetime=0.3)
    ref = await local.launcher.submit(launch)
    await local.launcher.close()
    await local.eventually(local.gone)
    local.launcher = local.again()
    seen = (await local.launcher.poll([ref]))[ref]
    assert seen.reason.code == "walltime"
    assert "0.3 s" in seen.reason.message


@deferred
async def test_the_time_limit_moves(local: LocalRig) -> None:
    launch = local.launch(lifetime=3600.0)
    ref = await local.launcher.submit(launch)
    await local.until(ref, Phase.RUNNING)
    await local.launcher.extend(ref, 0.2)
    seen = await local.until(ref, Phase.ENDED)
    assert seen.reason.code == "walltime"


@deferred
async def test_no_zombies_stay(local: LocalRig) -> None:
    refs = [await local.launcher.submit(local.launch("finishes")) for _ in range(3)]
    for ref in refs:
        await local.until(ref, Phase.ENDED)
    pids = {LocalRef.parse(ref).pid for ref in refs}

    async def reaped() -> bool | None:
        return True if not any(Path(f"/proc/{pid}").exists() for pid in pids) else None

    await local.eventually(reaped)


@deferred
async def test_forget_removes_the_folder(local: LocalRig) -> None:
    launch = local.launch("finishes")
    ref = await local.launcher.submit(launch)
    await local.until(ref, Phase.ENDED)
    await local.launcher.forget(ref)
    assert not local.folder(launch).exists()
    assert (await local.launcher.poll([ref]))[ref].phase is Phase.UNKNOWN


# -- refusals: nothing is started, nothing is left --------------------------------------


async def refused(rig: LocalRig, launch: Launch) -> EngineRefused:
    with pytest.raises(EngineRefused) as caught:
        await rig.launcher.submit(launch)
    assert list(members(launch.tag)) == []
    assert not rig.folder(launch).exists()
    assert await rig.launcher.find([launch.tag]) == {}
    return caught.value


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the operator's warnings."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)


def with_command(launch: Launch, service: str, *command: str) -> Launch:
    plan: LocalPlan = launch.plan
    services = {**plan.services, service: replace(plan.services[service], command=command)}
    return replace(launch, plan=LocalPlan(services))


@deferred
async def test_a_missing_program(local: LocalRig) -> None:
    launch = local.launch_services({"backend": "stays", "renderer": "stays"})
    for command, said in (
        ("braynsService", "the program braynsService of service renderer is not installed"),
        ("/nowhere/braynsService", "the program /nowhere/braynsService of service renderer is"),
    ):
        with logged() as lines:
            error = await refused(local, with_command(launch, "renderer", command, "--uri"))
        assert error.code == "program_missing"
        assert "The program braynsService of service renderer is not" in error.detail
        assert "/" not in error.detail + error.native  # of the machine users are told nothing
        (line,) = lines
        assert said in line
        assert ("PATH (/" in line) is (command == "braynsService")


@deferred
async def test_the_program_is_looked_up_on_the_jobs_path(local: LocalRig) -> None:
    program = local.state_dir / "bin" / "render"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o700)
    launch = local.launch(environment={"PATH": str(program.parent)})
    ref = await local.launcher.submit(with_command(launch, "renderer", "render"))
    assert (await local.until(ref, Phase.ENDED)).reason.code == "completed"
    assert await local.launcher.logs(ref, "renderer", LogStream.STDOUT, 100) == b"found\n"


@deferred
async def test_a_program_that_is_none(local: LocalRig) -> None:
    program = local.state_dir / "render"
    program.write_bytes(b"\0 no program at all")
    program.chmod(0o700)
    launch = local.launch_services({"backend": "stays", "renderer": "stays"})
    error = await refused(local, with_command(launch, "renderer", str(program)))
    assert error.code == "program_unusable"
    assert "renderer" in error.detail
    assert "format" in error.detail.lower()


@deferred
async def test_a_busy_port(local: LocalRig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error = await refused(local, local.launch(ports={"renderer": port}))
        assert error.code == "port_busy"
        assert str(port) in error.detail
        assert "renderer" in error.detail
    # Free again, and given to a job that does not listen yet or ever.
    launch = local.launch("stubborn", ports={"renderer": port})
    local.launcher = local.again(grace=0.1)
    await local.launcher.submit(launch)
    error = await refused(local, local.launch(ports={"renderer": port}))
    assert error.code == "port_busy"


@deferred
async def test_a_port_is_free_again_after_its_job(local: LocalRig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for _ in range(2):
        ref = await local.launcher.submit(local.launch("finishes", ports={"renderer": port}))
        await local.until(ref, Phase.ENDED)


@deferred
async def test_a_missing_directory(local: LocalRig) -> None:
    error = await refused(local, local.launch(directory="nowhere"))
    assert error.code == "directory_missing"


@deferred
async def test_a_value_that_is_no_argument(local: LocalRig) -> None:
    launch = local.launch(parameters={"word": "a\nb"}, extra=["{parameters.word}"])
    assert (await refused(local, launch)).code == "bad_parameters"


@deferred
async def test_a_state_directory_that_cannot_be_written(local: LocalRig) -> None:
    (local.state_dir / "jobs").write_text("in the way")
    with pytest.raises(EngineRefused) as caught:
        await local.launcher.submit(local.launch())
    assert caught.value.code == "state_dir_unwritable"
    (local.state_dir / "jobs").unlink()
    assert local.left() == []


# -- the factory --------------------------------------------------------------------------


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "localhost", ""])
def test_the_bind_address_must_be_dialled(tmp_path: Path, bind: str) -> None:
    context = Context("here", None, lambda: 0.0, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"launchers\.here\.bind"):
        LocalLauncherFactory().make(LocalSettings(bind=bind), context)
    assert list(tmp_path.iterdir()) == []


def test_making_a_launcher_leaves_no_trace(tmp_path: Path) -> None:
    context = Context("here", None, lambda: 0.0, tmp_path, tmp_path)
    LocalLauncherFactory().make(LocalSettings(), context)
    assert list(tmp_path.iterdir()) == []


def test_check_finds_every_mistake() -> None:
    plan = {
        "services": {
            "renderer": {
                "command": ["{parameters.program}", "{prot}", "{ports.backnd}", "{oops"],
                "environment": {"A B": "x", "VSMGATE_JOB": "y", "C": "{parameters.none}"},
            },
            "other": {"command": []},
        }
    }
    usecase = Usecase(
        "test",
        "local",
        {"renderer": Service(port=5000), "backend": Service(port=5000)},
        {"local": plan},
        parameters={"properties": {"program": {"type": "string"}}},
    )
    wrong = LocalLauncherFactory().check(usecase, convert(plan, LocalPlan))
    for part in (
        "launch.local.services.backend is missing",
        "no service other",
        "both have port 5000",
        "{prot}",
        "{ports.backnd}",
        "single {",
        "users must not choose the program",
        "'A B' is no name",
        "VSMGATE_JOB",
        "{parameters.none}",
        "must start with a program",
    ):
        assert any(part in sentence for sentence in wrong), (part, wrong)


def test_a_sound_plan_is_sound(local: LocalRig) -> None:
    launch = local.launch_services({"renderer": "stays", "backend": "stays"}, extra=["{owner}"])
    assert local.factory.check(launch.usecase, launch.plan) == []


def test_look_sees_this_process() -> None:
    assert look(os.getpid()).session == os.getsid(0)
    assert look(2**22 + 1) is None
