"""``bin/load``: load real gateways with WebSocket sessions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.load.limits import Limit, read_limit
from bench.load.masters import Trouble
from bench.load.mixes import MIXES
from bench.load.report import page, told
from bench.load.run import Plan, load
from bench.load.tally import Tally


class _LimitType(click.ParamType):
    name = "NAME=NUMBER"

    def convert(self, value: Any, param: Any, ctx: Any) -> Limit:
        try:
            return read_limit(str(value))
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)


@click.command()
@click.option("--master", "masters", multiple=True, required=True, help="URL; may be repeated.")
@click.option(
    "--token-file",
    "token_files",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="One for all masters, or one for each.",
)
@click.option("--usecase", default="demo", show_default=True, help="What to start.")
@click.option("--jobs", default=1, show_default=True, help="How many to start on each master.")
@click.option("--job", "job_ids", multiple=True, help="A running job instead; may be repeated.")
@click.option("--service", default="renderer", show_default=True)
@click.option("--sessions", default=4, show_default=True, type=click.IntRange(1))
@click.option("--ramp", default=2, show_default=True, type=click.IntRange(0), help="Seconds.")
@click.option("--duration", default=10, show_default=True, type=click.IntRange(1))
@click.option("--mix", default="echo", show_default=True, type=click.Choice(MIXES))
@click.option("--size", type=click.IntRange(64, 1 << 24), help="Octets of a question.")
@click.option("--patience", default=120.0, show_default=True, help="Seconds to be ready.")
@click.option("--limit", "limits", multiple=True, type=_LimitType(), help="As p99=0.2, errors=0.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="An HTML file.")
def main(
    masters: tuple[str, ...],
    token_files: tuple[Path, ...],
    usecase: str,
    jobs: int,
    job_ids: tuple[str, ...],
    limits: tuple[Limit, ...],
    report: Path | None,
    **settings: Any,
) -> None:
    """Load gateways; status 1 when a limit is missed, 2 when the load cannot begin."""
    if len(token_files) not in (1, len(masters)):
        raise click.UsageError("give one --token-file, or one for each --master")
    tokens = [file.read_text().strip() for file in token_files] * len(masters)
    plan = Plan(
        masters=tuple(zip(masters, tokens, strict=False)),
        usecase=usecase,
        jobs=job_ids,
        starts=jobs,
        **settings,
    )
    tally = Tally(plan.ramp, plan.ramp + plan.duration)
    left = _run(plan, tally)
    summary = tally.summary()
    for name, value in told(summary):
        click.echo(f"  {name:22}{value:>14}")
    for kind, count in tally.errors.most_common():
        click.echo(f"    {count:6} x {kind}")
    for limit in limits:
        click.echo(f"  {'met   ' if limit.met(summary) else 'MISSED'} {limit}")
    for job_id in left:
        click.echo(f"  job {job_id} could not be stopped", err=True)
    if report is not None:
        report.write_text(page("Load of vsmgate", _setting(plan), tally, summary, limits))
        click.echo(f"wrote {report}")
    if not all(limit.met(summary) for limit in limits):
        raise SystemExit(1)


def _setting(plan: Plan) -> list[tuple[str, str]]:
    jobs = ", ".join(plan.jobs) or f"{plan.starts} of {plan.usecase} on each gateway"
    return [
        ("gateways", ", ".join(url for url, _ in plan.masters)),
        ("jobs", jobs),
        ("sessions", f"{plan.sessions} on {plan.service}"),
        ("ramp, duration", f"{plan.ramp:g} s, {plan.duration:g} s"),
        ("mix", plan.mix + (f", {plan.size} octets" if plan.size else "")),
    ]


def _run(plan: Plan, tally: Tally) -> list[str]:
    """Run it under the reactor, with a line that lives on a terminal."""
    console = Console(stderr=True)
    left: list[str] = []
    trouble: list[str] = []
    with Live("", console=console, transient=True, auto_refresh=False) as live:
        said = [0.0]

        def progress(now: float) -> None:
            line = _line(plan, tally, now)
            if console.is_terminal:
                live.update(line, refresh=True)
            elif now - said[0] >= 5:
                said[0] = now
                click.echo(line, err=True)

        async def work(reactor: Any) -> None:
            try:
                left.extend(await load(reactor, plan, tally, progress))
            except Trouble as why:
                trouble.append(str(why))

        try:
            react(lambda reactor: Deferred.fromCoroutine(work(reactor)))
        except SystemExit as done:
            if done.code:
                raise
    if trouble:
        click.echo(f"load: {trouble[0]}", err=True)
        raise SystemExit(2)
    return left


def _line(plan: Plan, tally: Tally, now: float) -> str:
    """Return what is going on: the last whole second."""
    last = tally.seconds[-2] if len(tally.seconds) > 1 else tally.seconds[-1]
    middle = sorted(last.times)[len(last.times) // 2] * 1000 if last.times else 0.0
    errors = sum(tally.errors.values())
    return (
        f"{now:5.0f} s of {plan.ramp + plan.duration:g}: {tally.open} of {plan.sessions} open,"
        f" {len(last.times)} answers/s, median {middle:.1f} ms,"
        f" {last.octets / 1e6:.1f} MB/s, {errors} errors"
    )


if __name__ == "__main__":
    sys.exit(main(prog_name="bin/load"))
