"""What the measurements need of the machine: cores, descriptors, programs, a compiler."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

__all__ = [
    "CACHE",
    "ROOT",
    "Cores",
    "Unavailable",
    "generator_program",
    "have",
    "node_program",
    "raise_descriptors",
]

ROOT = Path(__file__).resolve().parent.parent
#: What is built or installed for measurements; made again when it is missing.
CACHE = ROOT / ".venv" / "bench"


class Unavailable(Exception):
    """Something cannot be measured here; the text says why."""


class Cores:
    """One core for the relay under test, another for the load."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.relay, self.load = cores[0], cores[-1]
        self.shared = len(cores) < 2


def raise_descriptors() -> int:
    """Allow as many open descriptors as the system lets us; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def have(program: str, packages: Sequence[str], install: bool) -> str:
    """Return where ``program`` is; as root, install its Debian packages first if it is not."""
    if found := shutil.which(program, path=_PATH):
        return found
    wanted = " ".join(packages)
    if not install:
        raise Unavailable(f"{program} is not installed (Debian: {wanted})")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{program} is not installed, and only root may: apt install {wanted}")
    click.echo(f"installs {wanted} (apt-get)", err=True)
    _apt("update", "-qq")
    # Its service must not start: only the program is wanted.
    _apt("install", "-qq", "-y", "--no-install-recommends", *packages)
    if found := shutil.which(program, path=_PATH):
        return found
    raise Unavailable(f"{program} could not be installed: apt-get install {wanted} failed")


def node_program(package: str, install: bool) -> list[str]:
    """Return the command of an npm package's program of the same name, kept in the cache."""
    node = have("node", ["nodejs"], install)
    place = CACHE / "node_modules" / package / "bin" / package
    if not place.exists():
        if not install:
            raise Unavailable(f"{package} is not installed (npm)")
        npm = have("npm", ["npm"], install)
        click.echo(f"installs {package} (npm) into {CACHE.relative_to(ROOT)}", err=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        _run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(CACHE), package])
    if not place.exists():
        raise Unavailable(f"{package} could not be installed by npm")
    return [node, str(place)]


def generator_program(install: bool) -> Path:
    """Compile the load generator if its source has changed, with TLS where that is possible."""
    source = ROOT / "bench" / "generator.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    built = [CACHE / f"generator-{digest}-tls", CACHE / f"generator-{digest}"]
    if built[0].exists():
        return built[0]
    compiler = have("cc", ["gcc", "libc6-dev"], install)
    CACHE.mkdir(parents=True, exist_ok=True)
    base = [compiler, "-O2", str(source)]
    tls = ["-DWITH_TLS", "-lssl", "-lcrypto"]
    if _run([*base, "-o", str(built[0]), *tls]):
        return built[0]
    if install and os.geteuid() == 0 and shutil.which("apt-get"):
        click.echo("installs libssl-dev (apt-get)", err=True)
        _apt("install", "-qq", "-y", "--no-install-recommends", "libssl-dev")
        if _run([*base, "-o", str(built[0]), *tls]):
            return built[0]
    if _run([*base, "-o", str(built[1])]):
        return built[1]
    raise Unavailable("the load generator could not be compiled, see above")


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _apt(*arguments: str) -> bool:
    # Debian's way to forbid that an installed service starts (see invoke-rc.d(8)) is RUNLEVEL.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    return _run(["apt-get", *arguments], environment)


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> bool:
    """Run a command; show what it said if it fails."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        click.echo(f"{command[0]} took more than 300 s", err=True)
        return False
    if done.returncode:
        click.echo(f"{' '.join(command)}:\n{done.stdout}{done.stderr}", err=True)
    return done.returncode == 0
