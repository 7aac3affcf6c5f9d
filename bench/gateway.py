"""The real gateway for measurements: twistd, SQLite, a static token, and ready jobs.

Its jobs are put into the store before it starts, and a launcher of `bench.plugins` says of
them that they run; all that is measured is the shipped code.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.machine import ROOT
from bench.process import serve
from vsmgate.interfaces import Context
from vsmgate.lifecycle import State
from vsmgate.model import Endpoint, Job, Quota, Service, Timings, Usecase, new_job_id
from vsmgate.stores.sql import SqlSettings, SqlStoreFactory

__all__ = ["configure", "fill", "gateway"]

CONFIG = """
plugin_folders = ["{plugins}"]
[master]
port = 0
[relay]
{relay}
[jobs]
default_usecase = "steady"
[authenticators.tokens]
kind = "static"
generate = true
[launchers.steady]
kind = "steady"
port = {service_port}
targets = ["127.0.0.0/8"]
[usecases.files]
kind = "toml"
folder = "usecases"
"""

USECASE = """
launcher = "steady"
[services.renderer]
[launch.steady]
"""


def configure(folder: Path, service_port: int = 9, relay: str = "port = 0") -> None:
    """Write a configuration; ``relay`` is the lines of its relay table and what follows."""
    (folder / "usecases").mkdir()
    (folder / "usecases" / "steady.toml").write_text(USECASE)
    (folder / "vsmgate.toml").write_text(
        CONFIG.format(plugins=ROOT / "bench" / "plugins", relay=relay, service_port=service_port)
    )


def fill(folder: Path, jobs: int, service_port: int = 9) -> str:
    """Make a state directory with ready jobs in ``folder``/state; return one's id.

    Runs the reactor, so it can be called once in a process.
    """
    (folder / "state").mkdir(mode=0o700)
    owner = pwd.getpwuid(os.getuid()).pw_name
    now = time.time()
    usecase = Usecase("steady", "steady", {"renderer": Service()}, {"steady": {}})
    ids = [new_job_id() for _ in range(jobs)]

    async def put(reactor: Any) -> None:
        context = Context("store", reactor, time.time, folder / "state", folder)
        store = SqlStoreFactory().make(SqlSettings(), context)
        await store.open()
        for number, job_id in enumerate(ids):
            job = Job(
                job_id,
                owner,
                usecase,
                now,
                state=State.READY,
                engine_ref=str(number),
                endpoints={"renderer": Endpoint("127.0.0.1", service_port)},
                answered=("renderer",),
                timings=Timings(now, now, now, now),
                lifetime=28800.0,
                end_time=now + 28800,
            )
            await store.add(job, Quota(), None)
        await store.close()

    try:
        react(lambda reactor: Deferred.fromCoroutine(put(reactor)))
    except SystemExit as done:
        if done.code:
            raise
    return ids[jobs // 2]


@contextlib.contextmanager
def gateway(folder: Path, core: int | None = None) -> Iterator[tuple[psutil.Process, str]]:
    """Run the gateway of ``folder``; yield its process and the master's URL."""
    command = [sys.executable, str(ROOT / "bin" / "_twistd"), "--nodaemon", "--pidfile="]
    command += ["vsmgate", "--config", "vsmgate.toml", "--state-dir", "state"]
    with serve(command, folder, core) as running:
        yield running
