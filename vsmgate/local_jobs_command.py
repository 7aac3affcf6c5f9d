"""``vsmgate local-jobs``: what the local launcher runs, whether a gateway knows of it or not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from vsmgate.errors import EngineUnreachable
from vsmgate.launchers.local_ports import Ports
from vsmgate.launchers.local_table import JobTable, Known

__all__ = ["local_jobs"]


@click.command("local-jobs")
@click.argument("state_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--end", "ends", metavar="JOB", multiple=True, help="End this job; may be repeated.")
def local_jobs(state_dir: Path, ends: tuple[str, ...]) -> None:
    """Show the jobs of the local launcher that run, by their folders in STATE_DIR.

    A gateway ends its jobs itself: use --end for those that no gateway looks after, because
    the store was lost, the launcher is not configured any more, or STATE_DIR was moved.
    """
    table = JobTable(state_dir / "jobs", Ports("127.0.0.1"))
    try:
        running = {known.folder.job_id: known for known in table.running()}
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be read: {error.strerror}") from None
    except EngineUnreachable as error:
        raise click.ClickException(error.detail) from None
    unknown = [job for job in ends if job not in running]
    if unknown:
        raise click.ClickException(f"these do not run: {', '.join(unknown)}; nothing was ended")
    for job, known in running.items():
        if job in ends:
            table.end(*known)
        if job in ends or not ends:
            click.echo(f"{job}  {_told(known)}{'  is being ended' if job in ends else ''}")
    if not running:
        click.echo("no job runs", err=True)


def _told(known: Known) -> str:
    record = known.record
    until = datetime.fromtimestamp(record.started_at + record.lifetime, UTC)
    services = ",".join(sorted(record.services))
    return f"pid {record.pid}  {services}  until {until.isoformat(timespec='seconds')}"
