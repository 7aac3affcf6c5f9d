"""A launcher for any machine with a shell: by ``ssh``, jobs run on a workstation or a node."""

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

import msgspec
from zope.interface import implementer

from vsmgate.errors import EngineUnreachable
from vsmgate.hands.commands import run
from vsmgate.interfaces import Context, ILauncher, ILauncherFactory
from vsmgate.model import Endpoint, Launch, LogStream, Observation, Phase, Reason, Usecase

TAG = re.compile(r"vsmgate-[a-z2-7]{26}")  # a job's folder, and its ref
# All processes of a job hold its lock, and `run` is made under it: so a tag has one job at
# most, and a free lock beside `run` says that it is over. The braces: read it whole first.
ALL = "{{ umask 077; mkdir -p {folder} && cd {folder} || exit 1\n{body}\nexit 0\n}}\n"
START = """mkdir -p {tag} && cd {tag} && exec 9>lock || exit 1; flock -n 9 && [ ! -d run ] || exit 0
PORT=$(python3 -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')
echo {service} $PORT >place && mkdir run || exit 1
export PORT; {values} setsid sh -c {job} >stdout 2>stderr </dev/null & echo $! >pid"""
JOB = "trap : TERM; ({command}); echo $? >status; kill -KILL 0"
LOOK = """for tag in {tag}; do [ -d $tag/run ] || continue; if flock -n $tag/lock true
then echo $tag ended $(cat $tag/status); else echo $tag running $(cat $tag/place); fi; done"""
CANCEL = """[ -d {tag}/run ] && cd {tag} && ! flock -n lock true || exit 0
mkdir ending && kill -TERM -$(cat pid) || kill -KILL -$(cat pid)"""
LOGS = """[ "$(cut -d ' ' -f 1 {tag}/place)" != {service} ] || tail -c {tail} {tag}/{stream}"""
FORGET = "[ -d {tag}/run ] && flock -n {tag}/lock rm -rf {tag}"


class ShellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]``; ``shell`` reads a script, such as ``["ssh", "-T", "box", "sh"]``."""

    shell: tuple[str, ...] = ("/bin/sh",)
    folder: str = ".vsmgate"  # of the jobs, there
    host: str = "127.0.0.1"  # where their services are dialled


class ShellPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.shell]``: a line of shell, which finds ``$PORT`` and ``$PARAM_NAME``."""

    command: str


@implementer(ILauncher)
class ShellLauncher:
    """Jobs in folders there, each named by its tag."""

    def __init__(self, settings: ShellSettings, context: Context) -> None:
        self._settings, self._reactor = settings, context.reactor

    async def submit(self, launch: Launch) -> str:
        values = [f"PARAM_{name}={_quoted(value)}" for name, value in launch.parameters.items()]
        if launch.secret is not None:  # in the environment, and never in an argument
            values.append(f"VSMGATE_SECRET={_quoted(launch.secret.reveal())}")
        job = _quoted(JOB.format(command=launch.plan.command))
        more = {"service": next(iter(launch.usecase.services)), "values": " ".join(values)}
        await self._run(START, [launch.tag], job=job, **more)
        return launch.tag

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        return {t: t for t, o in (await self.poll(tags)).items() if o.phase is not Phase.UNKNOWN}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        seen = dict.fromkeys(refs, Observation(Phase.UNKNOWN))
        for line in (await self._run(LOOK, refs)).decode().splitlines():
            tag, state, *rest = line.split()
            if state == "running":
                where = {rest[0]: Endpoint(self._settings.host, int(rest[1]))}
                seen[tag] = Observation(Phase.RUNNING, where)
            else:
                status = rest[0] if rest else "none: it was killed"
                code = "completed" if status == "0" else "exited" if rest else "killed"
                why = Reason(code, f"The job's program ended with status {status}.")
                seen[tag] = Observation(Phase.ENDED, reason=why)
        return seen

    async def cancel(self, ref: str) -> None:
        await self._run(CANCEL, [ref])

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        more = {"service": _quoted(service), "stream": stream.value}
        return await self._run(LOGS, [ref], tail=tail, **more)

    async def forget(self, ref: str) -> None:
        await self._run(FORGET, [ref])

    async def close(self) -> None:
        pass

    async def _run(self, script: str, refs: Collection[str], **values: object) -> bytes:
        """Run a script there for those of ``refs`` that may be ours; return what it wrote."""
        if not (tags := [ref for ref in refs if TAG.fullmatch(ref)]):
            return b""
        body, shell = script.format(tag=" ".join(tags), **values), self._settings.shell
        text = ALL.format(folder=_quoted(self._settings.folder), body=body)
        try:
            done = await run(self._reactor, shell, os.environ, text.encode(), timeout=20.0)
        except (OSError, TimeoutError) as error:
            raise EngineUnreachable(f"{shell[0]}: {error}.") from None
        if done.status != 0:
            raise EngineUnreachable(f"{shell[0]} said: {done.err.decode('utf-8', 'replace')}")
        return done.out


@implementer(ILauncherFactory)
class ShellFactory:
    """Makes `ShellLauncher`."""

    kind = "shell"
    help = "Jobs of a shell, here or by ssh."
    settings = ShellSettings
    plan = ShellPlan

    def make(self, settings: ShellSettings, context: Context) -> ShellLauncher:
        return ShellLauncher(settings, context)

    def check(self, usecase: Usecase, plan: ShellPlan) -> Sequence[str]:
        names = usecase.parameters.get("properties", {})
        wrong = [f"no shell has a {n!r}" for n in names if not re.fullmatch(r"\w+", n, re.ASCII)]
        return wrong + ["launch.shell runs one service"] * (len(usecase.services) != 1)


def _quoted(value: object) -> str:
    return shlex.quote(value if isinstance(value, str) else msgspec.json.encode(value).decode())


shell = ShellFactory()
