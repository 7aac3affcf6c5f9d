"""Plays gateways that are killed at every line of a start: ``killed.py FILE``.

``FILE``: what `tests.launchers.test_killed` writes. For each n a gateway starts one job, and
sends itself SIGKILL when it comes to the n-th line of our code, or of Twisted's that writes and
waits; until one comes through. After each comes a second one that adopts what it finds in the
store and is killed at its n-th line too, and a third, which is not. Prints for each job what
was stored when the first was dead (``refused``: nothing, ``accepted``, ``answered``: the ref
too), ``found`` where the engine had what it never answered, and at the end its id and ref.
"""

# ruff: noqa: T201
from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import twisted.internet
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

import vsmgate
from vsmgate.config import JobsConfig
from vsmgate.interfaces import Context
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.driver import Driver
from vsmgate.jobs.starter import Starter
from vsmgate.model import Identity, Quota, Usecase
from vsmgate.permissions import AccessConfig, Permissions
from vsmgate.stores.sql import SqlSettings, SqlStoreFactory

WAITING = ("abstract", "epollreactor", "process", "tcp")
OURS = str(Path(vsmgate.__file__).parent)
THEIRS = {f"{Path(twisted.internet.__file__).parent}/{name}.py" for name in WAITING}
#: Imported before the forks, because a factory imports them late.
LATE = ["hands.aws", "hands.http_client", "stores.store", "launchers.ecs_client"]
LATE += ["launchers.kubernetes_client", "launchers.unicore_client"]


class Story(msgspec.Struct):
    """Of which engine, with which settings, what is started, where, at every which line.

    ``late``: seconds for which those that adopt go on looking for what the engine takes late.
    """

    factory: str
    settings: dict[str, Any]
    usecase: Usecase
    state_dir: str
    stride: int
    late: float = 0.0


class Killer:
    """Ends this process at the n-th line that it comes to after `begin`."""

    def __init__(self) -> None:
        self._left = 0
        threading.settrace(self._count)
        sys.settrace(self._count)

    def begin(self, line: int) -> None:
        self._left = line

    def _count(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not (name.startswith(OURS) or name in THEIRS):
            return None
        if event == "line" and self._left:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._count


async def play(story: Story, number: int, line: int, *, starts: bool) -> None:
    """Be a gateway of the job of that number, which dies at a line; at none if that is 0."""
    from twisted.internet import reactor

    killer = Killer()
    state = Path(story.state_dir)
    factory = namedAny(story.factory)()
    context = Context(factory.kind, reactor, time.time, state, state)
    store = SqlStoreFactory().make(SqlSettings(url=f"sqlite:///{number}.sqlite"), context)
    await store.open()
    book = JobBook(store)
    await book.load()
    job = next(iter(book.live()), None)
    if not starts and line:
        print("refused" if job is None else "answered" if job.engine_ref else "accepted")
    config = JobsConfig(engine_timeout=story.late or 30.0, poll_fastest=0.1, poll_interval=0.5)
    usecase = story.usecase
    driver = Driver(
        factory.kind,
        factory.make(msgspec.convert(story.settings, factory.settings), context),
        lambda job: msgspec.convert(job.usecase.launch[factory.kind], factory.plan),
        book,
        config,
        reactor,
        time.time,
        secrets=JobSecrets(b"x" * 32),
    )
    killer.begin(line)
    driver.submitter.startService()
    if starts:
        starter = Starter(
            book,
            {factory.kind: driver},
            {usecase.name: usecase},
            Permissions(AccessConfig()),
            config,
            Quota(),
            reactor,
            time.time,
        )
        job, _ = await starter.start(Identity("ada"), usecase.name, {})
    while job is not None and job.engine_ref is None:
        job = await book.wait(job, 30.0, reactor)
    killer.begin(0)
    if job is not None and not starts:
        while story.late and job.id in driver.submitter.attempts.doubts():
            await deferLater(reactor, 0.1)
        print(job.id, (await book.find(job.id)).engine_ref)


def heard(event: dict[str, Any]) -> None:
    """Tell what the gateway's log says of interest; faults of our code end the play."""
    if str(event.get("log_format")).startswith("job {job} found as"):
        print("found")
    if "log_failure" in event:
        over(event["log_failure"])


def over(failure: Failure) -> None:
    failure.printTraceback(sys.stderr)
    os._exit(1)


def run(story: Story, number: int, line: int, *, starts: bool) -> bool:
    """Play a gateway in a process of its own; return whether it came through."""
    child = os.fork()
    if child == 0:
        from twisted.internet import reactor

        globalLogPublisher.addObserver(heard)  # type: ignore[arg-type]

        def start() -> None:
            played = Deferred.fromCoroutine(play(story, number, line, starts=starts))
            played.addCallbacks(lambda _: os._exit(0), over)

        reactor.callWhenRunning(start)
        reactor.run()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"a gateway ended with {status}")
    return status == 0


def main() -> None:
    """Fork the gateways one after the other."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    story = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Story)
    for name in LATE:
        importlib.import_module(f"vsmgate.{name}")
    namedAny(story.factory)
    number, through = 0, False
    while not through:
        number += 1
        line = number * story.stride
        through = run(story, number, line, starts=True)
        if not run(story, number, line, starts=False):
            run(story, number, 0, starts=False)


if __name__ == "__main__":
    main()
