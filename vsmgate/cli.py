"""The ``vsmgate`` command: check a configuration, look after tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from twisted.internet.task import react
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogBeginner

from vsmgate import __version__, config_file
from vsmgate.config import Config
from vsmgate.draft import Draft, Part, draft, registry_of
from vsmgate.engines import try_engines
from vsmgate.errors import ConfigError
from vsmgate.local_jobs_command import local_jobs
from vsmgate.token_command import token

__all__ = ["main"]

_FILE = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="vsmgate %(version)s")
def main() -> None:
    """Look after a vsmgate gateway; `twistd -n vsmgate` runs it."""


@main.command()
@click.argument("file", type=_FILE)
@click.option("--state-dir", type=_FILE, help="Check with this state directory.")
@click.option("--engines", is_flag=True, help="Try each engine too; no job is started.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    help="Seconds that an engine may take.",
)
def check(file: Path, state_dir: Path | None, engines: bool, timeout: float) -> None:
    """Check the configuration FILE as a start of the gateway would, and change nothing.

    Plugins, their settings, use cases and their plans are read too. Every error is told
    at once, and then the exit status is 1; so it is when an engine fails.
    """
    from twisted.internet import reactor

    # Twisted logs a plugin file that cannot be imported; here it is told in one line.
    heard: list[LogEvent] = []
    keep: Any = heard.append
    globalLogBeginner.beginLoggingTo([keep], discardBuffer=True, redirectStandardIO=False)
    try:
        read = config_file.override(
            config_file.load(file), state_dir=None if state_dir is None else str(state_dir)
        )
        config_dir = file.resolve().parent
        registry = registry_of(read, config_dir)
        drafted = draft(
            read,
            config_dir,
            Path(read.state_dir),
            registry=registry,
            reactor=reactor,
            wall=time.time,  # noqa: TID251  # an edge: plugins get the wall clock from here
            source=str(file),
        )
    except ConfigError as error:
        lines = str(error).splitlines()
        click.echo("\n".join(lines), err=True)
        noun = "error" if len(lines) == 1 else "errors"
        click.echo(f"{len(lines)} {noun}; the gateway would not start", err=True)
        raise SystemExit(1) from None
    for plugin, trouble in sorted(registry.broken.items()):
        click.echo(f"warning: {plugin} cannot be used: {trouble}", err=True)
    _show(file, read, drafted)
    if engines and read.role != "relay":  # a relay asks no engine
        heard.clear()
        _try_engines(drafted, timeout, heard)


def _try_engines(drafted: Draft, timeout: float, heard: Sequence[LogEvent]) -> None:
    """Print how each engine is, with what the log would say meanwhile; end the process."""

    async def work(reactor: Any) -> None:
        failed = False
        click.echo("  engines")
        usecases = drafted.usecases.values()
        async for name, problems in try_engines(drafted.launchers, timeout, reactor, usecases):
            failed |= bool(problems)
            for said in problems or ("ok",):
                click.echo(f"    {name:<14}{said}")
        for event in heard:
            if event["log_level"] >= LogLevel.warn:
                click.echo(f"  log: {formatEvent(event)}", err=True)
        if failed:
            click.echo("not every engine would take jobs", err=True)
            raise SystemExit(1)

    react(work)


main.add_command(token)
main.add_command(local_jobs)


def _show(file: Path, read: Config, drafted: Draft) -> None:
    """Print what the gateway would be."""
    rows = {
        "state": read.state_dir,
        "store": drafted.store.factory.kind,
        "launchers": _kinds(drafted.launchers),
        "authenticators": _kinds(drafted.authenticators),
        "use cases": ", ".join(sorted(drafted.usecases)) or "none",
    }
    if read.role != "master":
        scheme = "wss" if read.relay.tls else "ws"
        rows = {"relay": f"{scheme}://{_authority(read.relay.host, read.relay.port)}", **rows}
    if read.role != "relay":
        scheme = "https" if read.master.tls else "http"
        rows = {"master": f"{scheme}://{_authority(read.master.host, read.master.port)}", **rows}
    click.echo(f"{file} is good")
    for noun, value in rows.items():
        click.echo(f"  {noun:<16}{value}")


def _kinds(parts: Mapping[str, Part]) -> str:
    return ", ".join(f"{name} ({part.factory.kind})" for name, part in parts.items()) or "none"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    main(prog_name="vsmgate")
