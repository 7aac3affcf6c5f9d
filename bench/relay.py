"""``bin/bench relay``: the gateway's relay and others under the same load, in turns.

The relay under test has one core, the load generator (with the services) the other. Rounds
are interleaved: within one, each relay does the same work once, so that what the machine
does besides meets all of them.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import click
import psutil

from bench.certificate import make_certificate
from bench.gateway import configure, fill, gateway
from bench.generator import Generator, Refused, request_head
from bench.goals import verdicts
from bench.machine import Cores, Unavailable, generator_program, raise_descriptors
from bench.rivals import RIVALS, Ground, Running
from bench.table import Table
from bench.works import WORKS, Pace, Work

__all__ = ["relay"]


def _names(known: list[str]) -> click.Choice[str]:
    return click.Choice(known)


@click.command()
@click.option("--quick", is_flag=True, help="The main works, in about two minutes.")
@click.option("--full", is_flag=True, help="Memory at 5,000 relays too.")
@click.option("--peer", "peers", multiple=True, type=_names(list(RIVALS)), help="Only these.")
@click.option("--work", "works", multiple=True, type=_names(list(WORKS)), help="Only these.")
@click.option("--rounds", type=click.IntRange(1), help="Default 5; 2 with --quick.")
@click.option("--seconds", type=click.FloatRange(0.1), help="Of one measurement. Default 1.")
@click.option("--no-install", is_flag=True, help="Skip what is not installed, even as root.")
@click.option("--strict", is_flag=True, help="Status 1 when a goal is missed.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/bench"),
    show_default=True,
    help="Where relay.json and relay.svg go.",
)
def relay(
    quick: bool,
    full: bool,
    peers: tuple[str, ...],
    works: tuple[str, ...],
    rounds: int | None,
    seconds: float | None,
    no_install: bool,
    strict: bool,
    out: Path,
) -> None:
    """Measure the relay beside nginx, HAProxy and others."""
    chosen = [WORKS[name] for name in works] or [
        work for work in WORKS.values() if (full or not work.full) and (work.quick or not quick)
    ]
    names = [name for name in RIVALS if name in (peers or RIVALS)]
    pace = Pace(0.1 if quick else 0.2, seconds or (0.4 if quick else 1.0))
    table = Table([work.name for work in chosen], names)
    with contextlib.ExitStack() as on:
        try:
            bench = Bench(on, install=not no_install)
        except Unavailable as missing:
            raise click.ClickException(str(missing)) from None
        click.echo(
            f"relay on core {bench.cores.relay}, load on core {bench.cores.load};"
            f" {bench.descriptors} descriptors"
        )
        if bench.cores.shared:
            click.echo("this machine has one core for both: figures say little", err=True)
        count = rounds or (2 if quick else 5)
        bench.measure(chosen, names, count, pace, table)
    click.echo(table.text())
    found = list(verdicts(table.results))
    for verdict in found:
        click.echo(str(verdict))
    click.echo(table.headroom())
    out.mkdir(parents=True, exist_ok=True)
    (out / "relay.json").write_text(table.json(found))
    (out / "relay.svg").write_text(table.svg())
    click.echo(f"wrote {out / 'relay.json'} and {out / 'relay.svg'}")
    if strict and not all(verdict.met for verdict in found):
        raise SystemExit(1)


class Bench:
    """The generator and the ground; relays are started when first needed."""

    def __init__(self, on: contextlib.ExitStack, install: bool) -> None:
        self._on = on
        self.cores = Cores()
        self.descriptors = raise_descriptors()
        self.generator = Generator(generator_program(install), self.cores.load)
        on.callback(self.generator.close)
        folder = Path(on.enter_context(tempfile.TemporaryDirectory(prefix="vsmgate-bench-")))
        master = folder / "state-of-all"
        master.mkdir()
        configure(master, self.generator.port)
        job_id = fill(master, 1, self.generator.port)
        with gateway(master):  # makes the token
            token = (master / "state" / "token").read_text().strip()
        head = request_head(f"/{job_id}/renderer", token)
        self.generator.ask("head", len(head), raw=head)
        certificate, key = make_certificate(folder)
        rooms = folder / "rooms"
        rooms.mkdir()
        self._ground = Ground(
            rooms, master / "state", self.cores.relay, self.generator.port, install,
            self.descriptors, certificate, key,
        )  # fmt: skip
        self._running: dict[tuple[str, bool], Running | str] = {}

    def measure(
        self, works: list[Work], names: list[str], rounds: int, pace: Pace, table: Table
    ) -> None:
        """Fill the table; ``names`` are the relays'."""
        for work in works:
            began = time.monotonic()
            for _ in range(1 if work.fresh else rounds):
                for name in names:
                    self._once(work, name, pace, table)
            click.echo(f"  {work.name}: {time.monotonic() - began:.0f} s", err=True)

    def _once(self, work: Work, name: str, pace: Pace, table: Table) -> None:
        if (work.name, name) in table.skipped:
            return
        if work.tls and not self.generator.tls:
            table.skip(work, name, "the load generator was built without TLS")
            return
        try:
            if work.fresh:
                if name == "direct":
                    raise Unavailable("there is no relay")
                with RIVALS[name](self._ground, work.tls) as running:
                    sample = work.measure(self.generator, running, work.tls, pace)
            else:
                running = self._relay(name, work.tls)
                sample = work.measure(self.generator, running, work.tls, pace)
                self._rest(running)
        except (Refused, Unavailable, psutil.Error) as why:
            table.skip(work, name, str(why))
            with contextlib.suppress(Refused):
                self.generator.ask("close")
        else:
            table.add(work, name, sample, running.version)

    def _relay(self, name: str, tls: bool) -> Running:
        key = (name, tls)
        if key not in self._running:
            try:
                self._running[key] = self._on.enter_context(RIVALS[name](self._ground, tls))
            except Unavailable as missing:
                self._running[key] = str(missing)
        found = self._running[key]
        if isinstance(found, str):
            raise Unavailable(found)
        return found

    def _rest(self, running: Running) -> None:
        """Wait until the relay is done with what the last measurement left behind."""
        if running.process is None:
            return
        for _ in range(20):
            before = running.process.cpu_times()
            time.sleep(0.05)
            after = running.process.cpu_times()
            if after.user + after.system - before.user - before.system < 0.02:
                return
