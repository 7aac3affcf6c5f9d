"""A launcher for programs that somebody else starts: it only attaches to them.

A use case that says ``launcher = "attach"`` names where its services already listen.
Starting it gives the owner an authenticated relay to them; stopping it takes that away.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from zope.interface import implementer

from vsmgate.errors import EngineUnreachable
from vsmgate.interfaces import Context, ILauncher, ILauncherFactory
from vsmgate.model import Endpoint, Launch, LogStream, Observation, Phase, Reason, Usecase

#: What `vsmgate.model.tag_of` makes; nothing else becomes a path.
TAG = re.compile(r"vsmgate-[a-z2-7]{26}")


class AttachSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]``: nothing to set."""


class AttachPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.attach]`` of a use case: service name -> where it listens."""

    services: dict[str, Endpoint]


class Record(msgspec.Struct):
    """What is kept of a job, in a file named by its tag; that name is its ref too."""

    services: dict[str, Endpoint]
    cancelled: bool = False


@implementer(ILauncher)
class AttachLauncher:
    """Keeps one small file a job; there is no process to look after."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def submit(self, launch: Launch) -> str:
        self._write(launch.tag, Record(launch.plan.services))
        return launch.tag

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        return {tag: tag for tag in tags if self._read(tag) is not None}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        return {ref: self._observe(self._read(ref)) for ref in refs}

    async def cancel(self, ref: str) -> None:
        record = self._read(ref)
        if record is not None:
            record.cancelled = True
            self._write(ref, record)

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        return b""  # the program's output is with whoever started it

    async def forget(self, ref: str) -> None:
        record = self._read(ref)
        if record is not None and record.cancelled:
            (self._folder / ref).unlink()

    async def close(self) -> None:
        pass

    def _observe(self, record: Record | None) -> Observation:
        if record is None:
            return Observation(Phase.UNKNOWN)
        if record.cancelled:
            return Observation(Phase.ENDED, reason=Reason("completed", "Detached."))
        return Observation(Phase.RUNNING, record.services)

    def _read(self, ref: str) -> Record | None:
        if not TAG.fullmatch(ref):
            return None
        try:
            return msgspec.json.decode((self._folder / ref).read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineUnreachable(f"{self._folder} cannot be read: {error}") from error

    def _write(self, ref: str, record: Record) -> None:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            draft = self._folder / f"{ref}.new"
            draft.write_bytes(msgspec.json.encode(record))
            draft.replace(self._folder / ref)  # a crash leaves the old file or the new one
        except OSError as error:
            raise EngineUnreachable(f"{self._folder} cannot be written: {error}") from error


@implementer(ILauncherFactory)
class AttachFactory:
    """Makes `AttachLauncher`."""

    kind = "attach"
    help = "Programs that already run elsewhere, at fixed addresses."
    settings = AttachSettings
    plan = AttachPlan

    def make(self, settings: AttachSettings, context: Context) -> AttachLauncher:
        return AttachLauncher(context.state_dir / context.name)

    def check(self, usecase: Usecase, plan: AttachPlan) -> Sequence[str]:
        missing = usecase.services.keys() - plan.services.keys()
        return [f"launch.attach.services lacks {name}" for name in sorted(missing)]


attach = AttachFactory()
