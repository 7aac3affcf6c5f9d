"""``bin/bench engines``: what one look at 1,000 live jobs costs the reactor.

The shipped Slurm launcher asks, in this process, while a timer of a millisecond tells for how
long the reactor did nothing else. *Recorded*: a ``squeue`` that prints 1,000 running jobs,
with a folder for each. *Real*: a Slurm of two nodes (``bin/simulate slurm``) with 1,000 jobs
in its queue, through its commands and through slurmrestd. *Driver*: a whole pass of the
gateway's driver over the recorded ones, with a store in memory.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react

from vsmgate.config import JobsConfig
from vsmgate.interfaces import Context
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.driver import Driver
from vsmgate.launchers.slurm import SlurmLauncher, SlurmLauncherFactory
from vsmgate.launchers.slurm_answers import JOB_FORMAT
from vsmgate.launchers.slurm_client import Order
from vsmgate.launchers.slurm_settings import RestSettings, SlurmSettings
from vsmgate.lifecycle import State
from vsmgate.model import Job, Phase, Quota, Service, Usecase, new_job_id, tag_of
from vsmgate.simulators.slurm import write_token
from vsmgate.simulators.slurm_cluster import SlurmCluster, missing
from vsmgate.testing.memory_store import MemoryStore

#: Milliseconds of the reactor's thread for a look, and of one stall.
BUSY, STALL = 50.0, 20.0
USECASE = Usecase("demo", "slurm", {"renderer": Service(), "backend": Service()}, {"slurm": {}})


class Sample(NamedTuple):
    """Milliseconds: processor time of the reactor's thread, its longest stall, the whole.

    ``own``: the longest time that the thread itself worked between two turns of the timer; a
    stall beyond it is another thread's, or another program's that had the core.
    """

    busy: float
    stall: float
    own: float
    whole: float


class Case(NamedTuple):
    """Something to measure: once, then again and again."""

    name: str
    look: Callable[[], Awaitable[object]]


async def measure(reactor: Any, look: Callable[[], Awaitable[object]]) -> Sample:
    """Look once, beside the timer."""
    moments: list[tuple[float, float]] = []
    timer = LoopingCall(lambda: moments.append((time.perf_counter(), time.thread_time())))
    timer.clock = reactor
    timer.start(0.001).addErrback(lambda _: None)
    await deferLater(reactor, 0.05)
    moments.clear()
    began, cpu = time.perf_counter(), time.thread_time()
    moments.append((began, cpu))
    await look()
    spent, whole = time.thread_time() - cpu, time.perf_counter() - began
    await deferLater(reactor, 0.01)
    timer.stop()
    pairs = list(pairwise(moments))
    stall = max(after - before for (before, _), (after, _) in pairs)
    own = max(after - before for (_, before), (_, after) in pairs)
    return Sample(spent * 1e3, stall * 1e3, own * 1e3, whole * 1e3)


async def table(reactor: Any, cases: list[Case], rounds: int) -> bool:
    """Print a row for each case; return whether all goals are met."""
    groups = {"reactor ms": 22, "longest stall ms": 22, "of that own": 22, "whole ms": 10}
    click.echo(f"{'':38}" + "".join(f"{name:>{width}}" for name, width in groups.items()))
    heads = ("first", "median", "median", "worst", "median", "worst")
    click.echo(f"{'':38}" + "".join(f"{name:>11}" for name in heads) + f"{'median':>10}")
    idle = [await measure(reactor, lambda: deferLater(reactor, 0.05)) for _ in range(rounds + 1)]
    _row("nothing (the timer, this machine)", idle)
    good = True
    for name, look in cases:
        samples = []
        for _ in range(rounds + 1):
            samples.append(await measure(reactor, look))
            # The launcher takes a recent answer again, for five times as long as it took.
            await deferLater(reactor, samples[-1].whole / 1e3 * 6 + 0.05)
        good &= _row(name, samples)
    return good


def _row(name: str, samples: list[Sample]) -> bool:
    later = samples[1:]
    busy = statistics.median(s.busy for s in later)
    stall = statistics.median(s.stall for s in later)
    good = busy <= BUSY and stall <= STALL
    figures = (samples[0].busy, busy, stall, max(s.stall for s in later))
    figures += (statistics.median(s.own for s in later), max(s.own for s in later))
    whole = statistics.median(s.whole for s in later)
    told = "".join(f"{figure:11.1f}" for figure in figures)
    click.echo(f"{name:38}{told}{whole:10.0f}{'' if good else '  MISSED'}")
    return good


# -- recorded --------------------------------------------------------------------------


def recorded(folder: Path, count: int, *, as_json: bool) -> dict[str, int]:
    """Write a squeue and what jobs' scripts left; return job id -> number."""
    jobs = {new_job_id(): number for number in range(1000, 1000 + count)}
    start = int(time.time()) - 60
    lines = []
    for job_id, number in jobs.items():
        place = folder / "jobs" / job_id
        place.mkdir(parents=True)
        (place / "job").write_text(f"{number}\n")
        (place / "ports").write_text(f"renderer {number + 20000}\nbackend {number + 30000}\n")
        values = (number, "RUNNING", "None", f"n{number % 72}", start, start + 28800, "root")
        lines.append("\x1f".join(map(str, (*values, tag_of(job_id)))))
    assert JOB_FORMAT.count("\x1f") == lines[0].count("\x1f")
    said = "\n".join(lines).encode() + b"\n"
    if as_json:
        keys = ("job_id", "job_state", "state_reason", "batch_host", "start_time", "end_time")
        found: list[dict[str, Any]] = []
        for line in lines:
            fields = line.split("\x1f")
            job = dict(zip((*keys, "user_name", "name"), fields, strict=True))
            job |= {"job_id": int(fields[0]), "start_time": start, "end_time": start + 28800}
            # A real job has a hundred keys more, 3 KB in all.
            found.append({**job, **{f"some_other_key_{n}": None for n in range(100)}})
        said = msgspec.json.format(msgspec.json.encode({"jobs": found}), indent=2)
    (folder / "said").write_bytes(said)
    for name in ("squeue", "sbatch", "scancel"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {name} >>{folder}/asked\nexec cat {folder}/said\n")
        program.chmod(0o755)
    return jobs


def launcher_of(reactor: Any, state_dir: Path, **settings: Any) -> SlurmLauncher:
    """Return a launcher that asks at every look."""
    made = SlurmSettings(poll_every=0.0, accounting=False, **settings)
    context = Context("slurm", reactor, time.time, state_dir, state_dir)
    return SlurmLauncherFactory().make(made, context)


def recorded_case(reactor: Any, folder: Path, count: int, query: str) -> Case:
    """Return a look at the recorded jobs, which have to run all."""
    jobs = recorded(folder, count, as_json=query == "json")
    settings = {"folder": str(folder / "jobs"), "bin_dir": str(folder), "query": query}
    launcher = launcher_of(reactor, folder, **settings)
    refs = [f"{number}:{job_id}" for job_id, number in jobs.items()]

    async def look() -> None:
        seen = await launcher.poll(refs)
        assert all(s.phase is Phase.RUNNING and len(s.endpoints) == 2 for s in seen.values())

    return Case(f"recorded, {query}", look)


async def driver_case(reactor: Any, folder: Path, count: int) -> Case:
    """Return a pass of the driver over the recorded jobs."""
    jobs = recorded(folder, count, as_json=False)
    launcher = launcher_of(reactor, folder, folder=str(folder / "jobs"), bin_dir=str(folder))
    store = MemoryStore(time.time)
    await store.open()
    for job_id, number in jobs.items():
        ref = f"{number}:{job_id}"
        job = Job(job_id, "ada", USECASE, time.time(), State.QUEUED, engine_ref=ref)
        await store.add(job, Quota(), None)
    book = JobBook(store)
    await book.load()
    driver = Driver("slurm", launcher, lambda job: None, book, JobsConfig(), reactor, time.time)

    async def look() -> None:
        await driver._tick()
        assert all(job.state is State.RUNNING for job in book.live())

    return Case("driver's pass, recorded, format", look)


# -- real ------------------------------------------------------------------------------


async def real_cases(reactor: Any, cluster: SlurmCluster, folder: Path, count: int) -> list[Case]:
    """Return looks at jobs that wait in a real Slurm, both ways."""
    token = str(write_token(cluster))
    url = cluster.start_rest()
    rest = RestSettings(url, "root", token, cluster.rest_versions[-1], allow_http=True)
    by_commands = launcher_of(reactor, folder, conf=str(cluster.conf))
    by_rest = launcher_of(reactor, folder, rest=rest)
    refs = []
    for _ in range(count):
        job_id = new_job_id()
        # More nodes than there are: they wait for ever.
        options = ("--nodes=3", "--time=480")
        order = Order(tag_of(job_id), options, "#!/bin/sh\n", "/dev/null", "", None)
        refs.append(f"{await by_rest._slurm.submit(order)}:{job_id}")

    def case(name: str, launcher: SlurmLauncher) -> Case:
        async def look() -> None:
            seen = await launcher.poll(refs)
            assert all(s.phase is Phase.QUEUED for s in seen.values()), next(
                s for s in seen.values() if s.phase is not Phase.QUEUED
            )

        return Case(name, look)

    return [case("real, squeue", by_commands), case("real, slurmrestd", by_rest)]


@click.command()
@click.option("--jobs", default=1000, show_default=True, help="Live jobs.")
@click.option("--rounds", default=9, show_default=True)
@click.option("--real/--no-real", default=True, help="Ask a real Slurm too, where it can run.")
@click.option("--strict", is_flag=True, help="Status 1 when a goal is missed.")
def engines(jobs: int, rounds: int, real: bool, strict: bool) -> None:
    """Measure a look at many Slurm jobs; the goals are 50 ms, and no stall above 20 ms."""
    good: list[bool] = []

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="vsmgate-bench-") as name:
            folders = (Path(name) / str(number) for number in range(9))
            cases = [
                recorded_case(reactor, next(folders), jobs, "format"),
                recorded_case(reactor, next(folders), jobs, "json"),
                await driver_case(reactor, next(folders), jobs),
            ]
            with _cluster(real) as cluster:
                if cluster is not None:
                    place = next(folders)
                    place.mkdir()
                    cases += await real_cases(reactor, cluster, place, jobs)
                click.echo(f"{jobs:,} live jobs, {rounds} rounds; goals: {BUSY:g} and {STALL:g} ms")
                good.append(await table(reactor, cases, rounds))

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit as ended:
        if ended.code:
            raise
    if strict and good != [True]:
        sys.exit(1)


@contextlib.contextmanager
def _cluster(wanted: bool) -> Iterator[SlurmCluster | None]:
    if absent := missing() if wanted else "not wanted":
        click.echo(f"skipped the real Slurm: {absent}", err=True)
        yield None
        return
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
