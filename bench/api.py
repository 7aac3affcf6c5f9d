"""``bin/bench api``: GET /status against a bare twisted.web resource of the same octets.

The gateway is the real one (twistd, SQLite, static token, access log to a file), with many
jobs in its store. Both servers are processes of their own, and measured in turns.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil

from bench.gateway import configure, fill
from bench.gateway import gateway as run_gateway
from bench.hammer import fetch, hammer
from bench.process import cpu_seconds, serve

TARGET = 0.4


@click.command()
@click.option("--jobs", default=1000, show_default=True, help="Jobs in the store.")
@click.option("--connections", default=16, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of one round, for each server.")
def api(jobs: int, connections: int, rounds: int, seconds: float) -> None:
    """Measure GET /status; status 1 when it is slower than it must be."""
    with tempfile.TemporaryDirectory(prefix="vsmgate-bench-") as name, contextlib.ExitStack() as on:
        folder = Path(name)
        configure(folder)
        job_id = fill(folder, jobs)
        gateway, base = on.enter_context(run_gateway(folder))
        token = (folder / "state" / "token").read_text().strip()
        path = f"/status/{job_id}"
        body = fetch(base, path, token)
        (folder / "body").write_bytes(body)
        bare, bare_base = on.enter_context(
            serve([sys.executable, "-m", "bench.bare", "body"], folder)
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
                before = cpu_seconds(process)
                rate = hammer(url, path, token, connections, seconds)
                rates[who].append(rate)
                costs[who].append((cpu_seconds(process) - before) / (rate * seconds) * 1e6)
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


def _at_rest(process: psutil.Process, seconds: float = 5.0) -> float:
    """Return how much of a core a server takes when nobody asks, in percent."""
    before = cpu_seconds(process)
    time.sleep(seconds)
    return (cpu_seconds(process) - before) / seconds * 100
