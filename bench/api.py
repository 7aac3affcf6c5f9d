"""``bin/bench api``: GET /status against a bare twisted.web resource of the same octets.

The gateway is the real one (twistd, SQLite, static token, access log to a file), with many
jobs in its store. Both servers are processes of their own, and measured in turns.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.hammer import fetch, hammer
from vsmgate.interfaces import Context
from vsmgate.lifecycle import State
from vsmgate.model import Endpoint, Job, Quota, Service, Timings, Usecase, new_job_id
from vsmgate.stores.sql import SqlSettings, SqlStoreFactory

ROOT = Path(__file__).resolve().parent.parent
TARGET = 0.4

CONFIG = """
plugin_folders = ["{plugins}"]
[master]
port = 0
[relay]
port = 0
[jobs]
default_usecase = "steady"
[authenticators.tokens]
kind = "static"
generate = true
[launchers.steady]
kind = "steady"
[usecases.files]
kind = "toml"
folder = "usecases"
"""

USECASE = """
launcher = "steady"
[services.renderer]
[launch.steady]
"""


@click.command()
@click.option("--jobs", default=1000, show_default=True, help="Jobs in the store.")
@click.option("--connections", default=16, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of one round, for each server.")
def api(jobs: int, connections: int, rounds: int, seconds: float) -> None:
    """Measure GET /status; status 1 when it is slower than it must be."""
    with tempfile.TemporaryDirectory(prefix="vsmgate-bench-") as name, contextlib.ExitStack() as on:
        folder = Path(name)
        job_id = _fill(folder, jobs)
        gateway, base = on.enter_context(_gateway(folder))
        token = (folder / "state" / "token").read_text().strip()
        path = f"/status/{job_id}"
        body = fetch(base, path, token)
        (folder / "body").write_bytes(body)
        bare, bare_base = on.enter_context(
            _serve([sys.executable, "-m", "bench.bare", "body"], folder)
        )
        click.echo(
            f"GET /status of {len(body)} octets, {jobs} jobs, {connections} connections,"
            f" {rounds} rounds of {seconds:g} s"
        )
        rates: dict[str, list[float]] = {"bare": [], "gateway": []}
        costs: dict[str, list[float]] = {"bare": [], "gateway": []}
        servers = {"bare": (bare, bare_base), "gateway": (gateway, base)}
        for _ in range(rounds):
            for who, (process, url) in servers.items():
                before = _cpu(process)
                rate = hammer(url, path, token, connections, seconds)
                rates[who].append(rate)
                costs[who].append((_cpu(process) - before) / (rate * seconds) * 1e6)
        rest = _at_rest(gateway)
    for who, title in (("bare", "bare twisted.web"), ("gateway", "gateway")):
        rate, cost = statistics.median(rates[who]), statistics.median(costs[who])
        click.echo(f"  {title:18}{rate:8.0f} /s   {cost:6.0f} us of CPU each")
    pairs = zip(rates["gateway"], rates["bare"], strict=True)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    click.echo(f"  ratio             {ratio:8.2f}      (at least {TARGET})")
    click.echo(f"  gateway at rest   {rest:8.1f} %    of a core")
    if ratio < TARGET:
        raise SystemExit(1)


def _fill(folder: Path, jobs: int) -> str:
    """Make the configuration, and a store with ready jobs; return one's id."""
    (folder / "usecases").mkdir()
    (folder / "state").mkdir(mode=0o700)
    (folder / "usecases" / "steady.toml").write_text(USECASE)
    (folder / "vsmgate.toml").write_text(CONFIG.format(plugins=ROOT / "bench" / "plugins"))
    owner = pwd.getpwuid(os.getuid()).pw_name
    now = time.time()
    usecase = Usecase("steady", "steady", {"renderer": Service()}, {"steady": {}})
    ids = [new_job_id() for _ in range(jobs)]

    async def fill(reactor: Any) -> None:
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
                endpoints={"renderer": Endpoint("127.0.0.1", 9)},
                answered=("renderer",),
                timings=Timings(now, now, now, now),
                lifetime=28800.0,
                end_time=now + 28800,
            )
            await store.add(job, Quota(), None)
        await store.close()

    try:
        react(lambda reactor: Deferred.fromCoroutine(fill(reactor)))
    except SystemExit as done:
        if done.code:
            raise
    return ids[jobs // 2]


@contextlib.contextmanager
def _gateway(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    command = [sys.executable, str(ROOT / "bin" / "_twistd"), "--nodaemon", "--pidfile="]
    command += ["vsmgate", "--config", "vsmgate.toml", "--state-dir", "state"]
    with _serve(command, folder) as (process, base):
        yield process, base


@contextlib.contextmanager
def _serve(command: list[str], folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server; yield it and the address that it says."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            _, found, address = line.partition("http://")
            if found:
                break
        else:
            raise SystemExit((folder / "log").read_text())
        yield psutil.Process(process.pid), found + address.strip()
    finally:
        process.terminate()
        process.wait(30)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _at_rest(process: psutil.Process, seconds: float = 5.0) -> float:
    """Return how much of a core a server takes when nobody asks, in percent."""
    before = _cpu(process)
    time.sleep(seconds)
    return (_cpu(process) - before) / seconds * 100
