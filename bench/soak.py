"""``bin/soak``: relays opened, used and aborted at random; afterwards nothing may be left.

A real gateway in a process of its own (twistd, SQLite, static token), with services and
clients that misbehave (`bench.troublemakers`) in this one. What the gateway holds is
counted before and after, at rest; a warm-up goes first, because memory that every process
takes once is no leak.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
import psutil
import treq
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import deferLater, react

from bench.machine import ROOT, raise_descriptors
from bench.process import own_memory, serve
from bench.troublemakers import SERVICES, ServiceFactory, visit

__all__ = ["Census", "leaks", "soak"]

CONFIG = """
plugin_folders = ["{plugins}"]
[master]
port = 0
[relay]
port = {port}
engine = "{engine}"
head_timeout = 4.0
dial_timeout = 1.0
handshake_timeout = 1.0
dead_peer_timeout = 4.0
stall_timeout = 4.0
linger = 2.0
drain = 0.0
max_per_user = 100000
max_unauthenticated = 100000
max_unauthenticated_per_address = 100000
[jobs]
default_usecase = "soak"
[authenticators.tokens]
kind = "static"
generate = true
[launchers.soak]
kind = "soak"
targets = ["127.0.0.0/8"]
[usecases.files]
kind = "toml"
folder = "usecases"
"""

#: Octets that memory may grow by beside `GROWTH`: the allocator's arenas come and go.
SLACK = 6 * 2**20
GROWTH = 0.05

#: Seconds in which all must be gone after the last client left.
REST = 40.0

Census = dict[str, int]
EXACT = ("descriptors", "timers", "readers", "relay objects", "connection objects")


def leaks(before: Census, after: Census) -> list[str]:
    """Return what is more than it was, for people; nothing if all is well."""
    allowed = {name: before[name] for name in EXACT}
    allowed["memory"] = int(before["memory"] * (1 + GROWTH)) + SLACK
    return [f"{n}: {before[n]} -> {after[n]}" for n, most in allowed.items() if after[n] > most]


@click.command()
@click.option("--seconds", default=600.0, show_default=True, help="How long relays come and go.")
@click.option("--relays", default=500, show_default=True, help="How many at a time.")
@click.option("--warm-up", default=90.0, show_default=True, help="Seconds before the first count.")
@click.option("--seed", type=int, help="Of the chance; printed where it is not given.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "sockets", "transports"]),
    default="auto",
    show_default=True,
)
def soak(seconds: float, relays: int, warm_up: float, seed: int | None, engine: str) -> None:
    """Open, use and abort relays at random; status 1 when the gateway keeps anything of them."""
    raise_descriptors()
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"{relays} relays at a time for {seconds:g} s, engine {engine}, seed {seed}")
    run = Soak(relays, random.Random(seed), engine)
    try:
        react(lambda reactor: Deferred.fromCoroutine(run.run(reactor, warm_up, seconds)))
    except SystemExit as done:
        if done.code:
            raise
    for name, count in sorted(run.counts.items()):
        click.echo(f"  {name:26}{count:9}")
    click.echo(f"\n  {'at rest':26}{'before':>12}{'after':>12}")
    for name, count in run.before.items():
        click.echo(f"  {name:26}{count:12}{run.after[name]:12}")
    found = leaks(run.before, run.after)
    if run.counts["101"] == 0 or run.counts["stuck in this process"]:
        found.append("the load itself did not work; see the counts")
    click.echo("\n" + ("LEFT BEHIND: " + "; ".join(found) if found else "Nothing is left."))
    sys.exit(1 if found else 0)


class Soak:
    """One run: the services, the gateway, and the visitors."""

    def __init__(self, relays: int, chance: random.Random, engine: str) -> None:
        self.counts: Counter[str] = Counter()
        self.before: Census = {}
        self.after: Census = {}
        self._relays = relays
        self._chance = chance
        self._engine = engine

    async def run(self, reactor: Any, warm_up: float, seconds: float) -> None:
        """Do it; `before` and `after` are set then."""
        self._reactor = reactor
        services = {
            kind: reactor.listenTCP(
                0, ServiceFactory(reactor, self._chance, kind), interface="127.0.0.1"
            )
            for kind in SERVICES
        }
        ports = {kind: port.getHost().port for kind, port in services.items()}
        with tempfile.TemporaryDirectory(prefix="vsmgate-soak-") as name:
            folder = Path(name)
            self._write(folder, ports)
            command = [sys.executable, str(ROOT / "bin" / "_twistd"), "-n", "--pidfile=", "vsmgate"]
            command += ["--config", "vsmgate.toml", "--state-dir", "state"]
            with serve(command, folder) as (process, base):
                await self._measure(folder, process, base, warm_up, seconds)
        for port in services.values():
            await port.stopListening()

    def _write(self, folder: Path, ports: dict[str, int]) -> None:
        (folder / "usecases").mkdir()
        (folder / "usecases" / "soak.toml").write_text(
            'launcher = "soak"\n'
            + "".join(f"[services.{kind}]\nidle_timeout = 6.0\n" for kind in ports)
            + "".join(
                f'[launch.soak.services.{kind}]\nhost = "127.0.0.1"\nport = {port}\n'
                for kind, port in ports.items()
            )
        )
        (folder / "vsmgate.toml").write_text(
            CONFIG.format(plugins=ROOT / "bench" / "plugins", engine=self._engine, port=0)
        )

    async def _measure(
        self, folder: Path, process: psutil.Process, base: str, warm_up: float, seconds: float
    ) -> None:
        token = (folder / "state" / "token").read_text().strip()
        self._process, self._base = process, base
        self._headers = {"Authorization": f"Bearer {token}"}
        job = await self._ready()
        authority = job["services"]["echo"]["url"].partition("://")[2].partition("/")[0]
        target = (int(authority.rpartition(":")[2]), f"/{job['id']}/", f"?token={token}")
        empty = await self._census(job["id"])
        await self._traffic(warm_up, *target)
        self.before = await self._at_rest(job["id"], empty)
        self.counts.clear()
        await self._traffic(seconds, *target)
        self.after = await self._at_rest(job["id"], self.before)

    async def _ready(self) -> Any:
        url = f"{self._base}/v1/jobs"
        answer = await treq.post(url, json={"usecase": "soak"}, headers=self._headers)
        job = await treq.json_content(answer)
        for _ in range(20):
            if job["state"] == "ready":
                return job
            answer = await treq.get(f"{url}/{job['id']}?wait=5", headers=self._headers)
            job = await treq.json_content(answer)
        raise click.ClickException(f"the job did not become ready: {job}")

    async def _traffic(self, seconds: float, port: int, head: str, tail: str) -> None:
        """Keep the relays coming and going for ``seconds``; then drop all clients at once."""

        async def slot() -> None:
            await deferLater(self._reactor, self._chance.random())
            while True:
                path = f"{head}{self._chance.choice(SERVICES)}{tail}"
                await visit(self._reactor, self._chance, port, path, self.counts)

        slots = [Deferred.fromCoroutine(slot()) for _ in range(self._relays)]
        for visiting in slots:
            visiting.addErrback(
                lambda failure: failure.trap(CancelledError, ConnectingCancelledError)
            )
        await deferLater(self._reactor, seconds)
        for visiting in slots:
            visiting.cancel()
        await gatherResults(slots)

    async def _at_rest(self, job_id: str, before: Census) -> Census:
        """Return the census once it is as before, or the last one in the time for that."""
        end = self._reactor.seconds() + REST
        while True:
            census = await self._census(job_id)
            if not leaks(before, {**census, "memory": 0}) or self._reactor.seconds() > end:
                return census
            await deferLater(self._reactor, 0.5)

    async def _census(self, job_id: str) -> Census:
        url = f"{self._base}/v1/jobs/{job_id}/logs"
        answer = await treq.get(url, headers=self._headers, persistent=False)
        text = await treq.text_content(answer)
        if answer.code != 200:
            raise click.ClickException(f"the census failed: {text}")
        census: Census = json.loads(text)
        return {
            "descriptors": self._process.num_fds(),
            **census,
            "memory": own_memory(self._process),
        }


if __name__ == "__main__":
    soak(prog_name="bin/soak")
