"""Jobs under their owners' accounts (``run_as``), on a real Slurm, with a real sudo.

Nothing of this machine changes: the users are those that every Debian has, and sudo sees
sudoers of its own, in a mount namespace.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import capturedLogs, formatEvent

from tests.launchers.slurm_rig import SERVICE, SlurmRig, usecase_of
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.launchers.slurm import SlurmLauncher
from vsmgate.model import Launch, LogStream, Phase, Secret
from vsmgate.testing.deferreds import deferred

GATEWAY, OWNER, STRANGER = "proxy", "games", "news"
RULES = f"""\
Defaults:{GATEWAY} env_keep += "SLURM_CONF SLURM_VSMGATE_SECRET"
{GATEWAY} ALL=(%{OWNER}) NOPASSWD: /usr/bin/sbatch, /usr/bin/scancel, /usr/bin/rm
"""
ROOT = Path(__file__).parent.parent.parent
ASK = """
import os, pathlib, sys
from vsmgate.launchers.slurm_settings import SlurmSettings, settings_problems
os.seteuid(int(sys.argv[1]))
settings = SlurmSettings(folder="/", run_as=("sudo", "{owner}"))
for problem in settings_problems(settings, "x", pathlib.Path("/")):
    print(problem.pointer, problem.detail)
"""
SECRET = "hush-hush-0123456789"


def as_user(user: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


@pytest.fixture
def setpriv() -> tuple[str, ...]:
    return (*as_user("{owner}"), "env", "HOME=/")


@pytest.fixture
def sudo(require: Callable[[object, str], None], slurm: SlurmRig) -> tuple[str, ...]:
    """What the documentation says, as a gateway that is not root."""
    require(shutil.which("sudo"), "sudo")
    sudoers = slurm.cluster.folder / "sudoers"
    sudoers.unlink(missing_ok=True)
    sudoers.write_text(RULES)
    sudoers.chmod(0o440)
    bind = f"mount --bind {sudoers} /etc/sudoers"
    apart = ("unshare", "--mount", "sh", "-c")
    done = subprocess.run([*apart, bind], check=False, capture_output=True)
    if done.returncode != 0:  # no package helps, as in a container without the right
        pytest.skip(f"no mount namespace, for sudoers of its own: {done.stderr.decode().strip()}")
    line = f"{bind} && exec {' '.join(as_user(GATEWAY))}"
    return (*apart, f'{line} sudo -n -u "$0" "$@"', "{owner}")


@pytest.fixture
def shared(require: Callable[[object, str], None], slurm: SlurmRig) -> Iterator[Path]:
    """The folder, as the documentation makes it."""
    names = {user.pw_name for user in pwd.getpwall()}
    require(names >= {GATEWAY, OWNER, STRANGER}, f"one of the users {GATEWAY}, {OWNER}, {STRANGER}")
    folder = slurm.cluster.folder / "shared"
    folder.mkdir()
    os.chown(folder, 0, pwd.getpwnam(GATEWAY).pw_gid)
    folder.chmod(0o3773)
    shutil.copy(SERVICE, slurm.cluster.folder)
    yield folder
    shutil.rmtree(folder)


def launcher_of(slurm: SlurmRig, shared: Path, prefix: tuple[str, ...]) -> SlurmLauncher:
    python = os.path.realpath("/usr/bin/python3")
    return slurm.again(folder=str(shared), run_as=prefix, python=python)


def launch_of(slurm: SlurmRig, owner: str = OWNER) -> Launch:
    usecase = usecase_of({"renderer": "stays"})
    command = usecase.launch["slurm"]["services"]["renderer"]["command"]
    command[3] = str(slurm.cluster.folder / SERVICE.name)
    return replace(slurm.launch_of(usecase), owner=owner, secret=Secret(SECRET))


@pytest.mark.parametrize("way", ["setpriv", "sudo"])
@deferred
async def test_a_job_of_its_owner(
    slurm: SlurmRig, shared: Path, request: pytest.FixtureRequest, way: str
) -> None:
    prefix = request.getfixturevalue(way)
    launcher = slurm.launcher = launcher_of(slurm, shared, prefix)
    launch = launch_of(slurm)
    ref = await launcher.submit(launch)
    number = ref.partition(":")[0]
    assert ref == f"{number}:{launch.job_id}:{OWNER}"
    assert slurm.cluster.ask(f"squeue -h -o %u -j {number}").strip() == OWNER
    seen = await slurm.until(ref, Phase.RUNNING)
    launcher = slurm.launcher = launcher_of(slurm, shared, prefix)
    assert await launcher.find([launch.tag]) == {launch.tag: ref}
    assert await launcher.poll([ref]) == {ref: seen}
    told = shared / launch.job_id / "work" / "renderer.json"

    async def written() -> bool | None:
        return told.exists() or None

    await slurm.eventually(written)
    assert json.loads(told.read_text())["environment"]["VSMGATE_SECRET"] == SECRET
    assert (await launcher.logs(ref, "renderer", LogStream.STDOUT, 100)).startswith(b"hello\n")

    # The gateway's group may read what the job left, nobody else may.
    user, group = pwd.getpwnam(OWNER).pw_uid, pwd.getpwnam(GATEWAY).pw_gid
    for path in (
        told.parent.parent,
        *told.parent.parent.rglob("*"),
        shared / f"{launch.job_id}.log",
    ):
        status = path.stat()
        mode = 0o2750 if path.is_dir() else 0o640
        assert (status.st_uid, status.st_gid) == (user, group), path
        assert stat.S_IMODE(status.st_mode) == mode, path

    # Nobody else sees the secret either.
    look = "grep -alsE 'h[u]sh-hush' /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    look += f"; scontrol show -dd job {number}; scontrol write batch_script {number} -"
    done = subprocess.run(
        [*as_user(STRANGER), "sh", "-c", look],
        env=slurm.cluster.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert launch.tag in done.stdout
    assert "/proc/" not in done.stdout
    assert "hush" not in done.stdout

    # What another user put there under the job's name is not the job's.
    os.chown(shared / launch.job_id, 0, 0)
    assert await launcher.logs(ref, "renderer", LogStream.STDOUT, 100) == b""
    os.chown(shared / launch.job_id, user, group)
    await launcher.cancel(ref)
    await slurm.until(ref, Phase.ENDED)
    await launcher.forget(ref)
    assert list(shared.iterdir()) == []


@deferred
async def test_who_has_no_account_has_no_job(
    slurm: SlurmRig, shared: Path, setpriv: tuple[str, ...]
) -> None:
    launcher = launcher_of(slurm, shared, setpriv)
    for owner in ("root", "ada lovelace", "-u", "-u root", "a;id", "../x", "#0", "0", "", "nosuch"):
        with pytest.raises(EngineRefused) as caught:
            await launcher.submit(launch_of(slurm, owner))
        assert caught.value.code == "no_account"
        assert repr(owner) in caught.value.detail
    assert slurm.left() == ""


@deferred
async def test_what_sudo_refuses(slurm: SlurmRig, shared: Path, sudo: tuple[str, ...]) -> None:
    """The user reads no more than that; the operator what sudo said."""
    launcher = slurm.launcher = launcher_of(slurm, shared, sudo)
    launch = launch_of(slurm, STRANGER)
    with capturedLogs() as logged, pytest.raises(EngineRefused) as caught:
        await launcher.submit(launch)
    assert (caught.value.code, caught.value.native) == ("not_permitted", "")
    assert caught.value.detail.startswith(
        f"The gateway may not run jobs under the account {STRANGER}"
    )
    (said,) = [formatEvent(event) for event in logged if event["log_level"].name == "error"]
    assert "sudo: a password is required" in said
    # Slurm's own words go to the user, as they do without sudo.
    wrong = replace(launch, owner=OWNER, plan=replace(launch.plan, partition="nope"))
    with pytest.raises(EngineRefused, match="Invalid partition name") as caught:
        await launcher.submit(wrong)
    assert caught.value.code == "bad_partition"
    wrong = replace(launch, owner=OWNER, plan=replace(launch.plan, options=("--foo=1",)))
    with pytest.raises(EngineRefused, match="failed: unrecognized option '--foo=1'") as caught:
        await launcher.submit(wrong)
    assert caught.value.code == "engine_refused"

    # A job that it has and may not end, nor remove.
    launch = launch_of(slurm)
    ref = await launcher.submit(launch)
    await slurm.until(ref, Phase.RUNNING)
    (slurm.cluster.folder / "sudoers").write_text("")
    with capturedLogs() as logged:
        await launcher.cancel(ref)
        assert slurm.left().split() == [ref.partition(":")[0]]
        slurm.cluster.ask(f"scancel {ref.partition(':')[0]}")
        await slurm.until(ref, Phase.ENDED)
        await launcher.forget(ref)
    told = [formatEvent(event) or "" for event in logged]
    assert any("cannot be cancelled: " in line and "password" in line for line in told)
    assert any(f"{launch.job_id}.log" in line and "stay: " in line for line in told)


@pytest.mark.parametrize(
    ("before", "words", "jobs"),
    [
        ("", "sudo: unable to fork: Resource temporarily unavailable", 0),
        ("", "ssh: connect to host login1 port 22: No such device", 0),
        (
            f'{" ".join(as_user(OWNER))} "$@" >/dev/null',
            "Connection to login1 closed by remote host.",
            1,
        ),
    ],
)
@deferred
async def test_a_prefix_that_fails_otherwise_may_have_run_it(
    slurm: SlurmRig, shared: Path, before: str, words: str, jobs: int
) -> None:
    prefix = ("sh", "-c", f"{before}\necho '{words}' >&2; exit 255", "{owner}")
    launcher = launcher_of(slurm, shared, prefix)
    launch = launch_of(slurm)
    with capturedLogs() as logged, pytest.raises(EngineUnreachable) as caught:
        await launcher.submit(launch)
    assert caught.value.detail == f"Jobs cannot be started under the account {OWNER} now."
    assert any(words in (formatEvent(event) or "") for event in logged)
    assert len(await launcher.find([launch.tag])) == jobs


@deferred
async def test_a_user_database_that_hangs(
    slurm: SlurmRig, shared: Path, setpriv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts wait for it, and the fifth at a time is told; the other questions go on."""
    answers, asked = threading.Event(), pwd.getpwnam

    def hangs(name: str) -> pwd.struct_passwd:
        if name == STRANGER:
            answers.wait(60)
        return asked("nosuch" if name == STRANGER else name)

    monkeypatch.setattr(pwd, "getpwnam", hangs)
    launcher = launcher_of(slurm, shared, setpriv)
    launch = launch_of(slurm, STRANGER)
    waiting = [Deferred.fromCoroutine(launcher.submit(launch)) for _ in range(4)]
    try:
        with pytest.raises(EngineUnreachable, match="user database does not answer"):
            await launcher.submit(launch)
        ref = f"999999:{launch.job_id}:{OWNER}"
        assert await launcher.logs(ref, "renderer", LogStream.STDOUT, 100) == b""
    finally:
        answers.set()
        ended = await DeferredList(waiting, consumeErrors=True)
    assert [failure.value.code for _, failure in ended] == ["no_account"] * 4


@deferred
async def test_sudo_that_takes_the_secret_away(
    slurm: SlurmRig, shared: Path, sudo: tuple[str, ...]
) -> None:
    (slurm.cluster.folder / "sudoers").write_text(RULES.replace(" SLURM_VSMGATE_SECRET", ""))
    launcher = slurm.launcher = launcher_of(slurm, shared, sudo)
    ref = await launcher.submit(launch_of(slurm))
    seen = await slurm.until(ref, Phase.ENDED)
    assert seen.reason.code == "exited"
    assert "did not arrive; see env_keep" in seen.reason.native


def test_a_service_in_which_sudo_cannot_work(require: Callable[[object, str], None]) -> None:
    require(shutil.which("sudo"), "sudo")
    for before in ([], ["setpriv", "--no-new-privs"]):
        for uid in {os.geteuid(), os.geteuid() or 65534}:  # root has no need to become it
            told = [*before, sys.executable, "-c", ASK, str(uid)]
            said = subprocess.check_output(told, text=True, timeout=60, cwd=ROOT)
            wrong = said.count("x.run_as 'sudo' cannot become root")
            assert wrong == said.count("run_as") == bool(before and uid)
