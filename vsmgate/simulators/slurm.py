"""bin/simulate slurm: a real Slurm of two nodes, for as long as the command runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import click

from vsmgate.simulators import told
from vsmgate.simulators.slurm_cluster import PACKAGES, SlurmCluster, missing

__all__ = ["configuration", "main"]

CONFIGURATION = """\
[launchers.cluster]
kind = "slurm"
conf = {conf}
bind = "127.0.0.1"
address = "127.0.0.1"
nodes = "n[12]"
targets = ["127.0.0.0/8"]
python = {python}
#rest = {{ url = {url}, user = "root", token_file = {token}, version = {version}, \
allow_http = true }}
"""


def configuration(cluster: SlurmCluster) -> str:
    """Return the lines of ``vsmgate.toml`` for a cluster that runs, with its slurmrestd."""
    url = cluster.start_rest()
    return CONFIGURATION.format(
        conf=json.dumps(str(cluster.conf)),
        python=json.dumps(sys.executable),
        url=json.dumps(url),
        version=json.dumps(cluster.rest_versions[-1]),
        token=json.dumps(str(write_token(cluster))),
    )


def write_token(cluster: SlurmCluster) -> Path:
    """Write a token for slurmrestd into the cluster's folder; return the file."""
    path = cluster.folder / "token"
    path.touch(0o600)
    path.write_text(cluster.token() + "\n")
    return path


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Keep everything here: a new folder."
)
@click.option("--install", is_flag=True, help="Install Debian's packages if they are missing.")
def slurm(folder: Path | None, install: bool) -> None:
    """Run a Slurm of two nodes until Ctrl-C; print the lines for vsmgate.toml."""
    if missing() and install:
        _install()
    if absent := missing():
        raise click.ClickException(
            f"needs {absent} which is not here; Debian and Ubuntu: apt-get install {PACKAGES}"
        )
    if folder is not None:
        folder = folder.absolute()
        try:
            folder.mkdir(mode=0o755, parents=True)
        except OSError as error:
            raise click.ClickException(f"{folder}: {error.strerror}; name a new one") from None
    signal.signal(signal.SIGTERM, _interrupt)
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        what = "A Slurm of two nodes of 4 CPUs, n1 and n2, which both are this machine."
        look = f"To look into it: SLURM_CONF={cluster.conf} squeue"
        click.echo(told(what, "cluster", configuration(cluster), look), nl=False)
        signal.pause()
    except KeyboardInterrupt:
        click.echo("ends", err=True)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from None
    finally:
        cluster.stop()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _install() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise click.ClickException("only root can install packages, and only with apt-get")
    click.echo(f"installs {PACKAGES}", err=True)
    # Debian's way to forbid that installed services start (invoke-rc.d(8)) is RUNLEVEL.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in ("update", f"install -y --no-install-recommends {PACKAGES}"):
        done = subprocess.run(
            ["apt-get", "-qq", *command.split()], env=environment, stdout=sys.stderr, check=False
        )
        if done.returncode:
            raise click.ClickException("apt-get failed, see above")


def main(arguments: list[str]) -> None:
    """Run the command."""
    slurm(arguments, prog_name="bin/simulate slurm")
