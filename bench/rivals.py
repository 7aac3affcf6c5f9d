"""What is measured: the gateway's relay on each engine, and the relays it is compared with.

Each is a process (or a family) on one core that relays /JOB/renderer to the services of the
load generator; with ``tls`` the client leg is encrypted. Nothing of theirs is tuned away from
its documentation's WebSocket set-up, except that they write no access log.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import configurations
from bench.gateway import configure, gateway
from bench.machine import ROOT, Unavailable, have, node_program
from bench.process import free_port, run, serve
from vsmgate.config import RelayConfig

__all__ = ["RIVALS", "Ground", "Running"]


@dataclass(frozen=True)
class Ground:
    """What all rivals stand on. ``state``: a filled state directory, copied by each gateway."""

    folder: Path
    state: Path
    core: int
    service_port: int
    install: bool
    descriptors: int
    certificate: Path
    key: Path

    def room(self, name: str) -> Path:
        """Return a new empty folder."""
        number = len(list(self.folder.iterdir()))
        room = self.folder / f"{name}-{number}"
        room.mkdir()
        return room


@dataclass(frozen=True)
class Running:
    """A relay that listens on 127.0.0.1; ``process`` is None where there is none."""

    port: int
    process: psutil.Process | None
    version: str = ""


Start = Callable[[Ground, bool], contextlib.AbstractContextManager[Running]]


@contextlib.contextmanager
def _direct(ground: Ground, tls: bool) -> Iterator[Running]:
    if tls:
        raise Unavailable("the services speak plain TCP")
    yield Running(ground.service_port, None)


@contextlib.contextmanager
def _nginx(ground: Ground, tls: bool) -> Iterator[Running]:
    program = have("nginx", ["nginx-light"], ground.install)
    room, port = ground.room("nginx"), free_port()
    text = configurations.nginx(
        room, port, ground.service_port, _pair(ground, tls), ground.descriptors
    )
    (room / "nginx.conf").write_text(text)
    command = [program, "-p", str(room), "-e", str(room / "error"), "-c", str(room / "nginx.conf")]
    with run(command, room, ground.core, port) as process:
        yield Running(port, process, _version([program, "-v"]))


@contextlib.contextmanager
def _haproxy(ground: Ground, tls: bool) -> Iterator[Running]:
    program = have("haproxy", ["haproxy"], ground.install)
    room, port = ground.room("haproxy"), free_port()
    both = room / "both.pem"
    both.write_bytes(ground.certificate.read_bytes() + ground.key.read_bytes())
    text = configurations.haproxy(
        port, ground.service_port, both if tls else None, ground.descriptors
    )
    (room / "haproxy.cfg").write_text(text)
    command = [program, "-db", "-f", str(room / "haproxy.cfg")]
    with run(command, room, ground.core, port) as process:
        yield Running(port, process, _version([program, "-v"]))


@contextlib.contextmanager
def _caddy(ground: Ground, tls: bool) -> Iterator[Running]:
    program = have("caddy", ["caddy"], ground.install)
    room, port = ground.room("caddy"), free_port()
    text = configurations.caddy(port, ground.service_port, _pair(ground, tls))
    (room / "Caddyfile").write_text(text)
    command = [program, "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    homes = {"HOME": str(room), "XDG_DATA_HOME": str(room), "XDG_CONFIG_HOME": str(room)}
    with run(command, room, ground.core, port, GOMAXPROCS="1", **homes) as process:
        yield Running(port, process, _version([program, "version"]))


@contextlib.contextmanager
def _chp(ground: Ground, tls: bool) -> Iterator[Running]:
    program = node_program("configurable-http-proxy", ground.install)
    room, port = ground.room("chp"), free_port()
    command = [*program, "--ip", "127.0.0.1", "--port", str(port)]
    command += ["--api-ip", "127.0.0.1", "--api-port", str(free_port())]
    command += ["--default-target", f"http://127.0.0.1:{ground.service_port}"]
    if tls:
        command += ["--ssl-cert", str(ground.certificate), "--ssl-key", str(ground.key)]
    with run(command, room, ground.core, port) as process:
        yield Running(port, process, _version([*program, "--version"]))


@contextlib.contextmanager
def _autobahn(ground: Ground, tls: bool) -> Iterator[Running]:
    room = ground.room("autobahn")
    command = [sys.executable, "-m", "bench.autobahn_relay", str(ground.service_port)]
    command += [str(path) for path in _pair(ground, tls) or ()]
    with serve(command, room, ground.core) as (process, base):
        version = _version([sys.executable, "-c", "import autobahn; print(autobahn.__version__)"])
        yield Running(int(base.rpartition(":")[2]), process, version)


def _vsmgate(engine: str | None) -> Start:
    """Return how to start the gateway with an engine; None: the one it has."""

    @contextlib.contextmanager
    def start(ground: Ground, tls: bool) -> Iterator[Running]:
        known = RelayConfig.__struct_fields__
        if engine == "sockets" and "engine" not in known:
            raise Unavailable("this vsmgate has one engine, the transport pair")
        if engine == "sockets" and tls:
            raise Unavailable("TLS legs stay on the transport pair")
        if tls and "tls" not in known:
            raise Unavailable("this vsmgate has no TLS on the client leg")
        room, port = ground.room("vsmgate"), free_port()
        lines = [f"port = {port}", "max_connections = 40000", "max_per_user = 20000"]
        lines.append("max_unauthenticated_per_address = 20000")
        if "engine" in known:
            lines.append(f'engine = "{engine}"')
        if tls:
            pair = {"certificate_file": ground.certificate, "key_file": ground.key}
            lines += ["[relay.tls]", *(f'{name} = "{path}"' for name, path in pair.items())]
        configure(room, ground.service_port, "\n".join(lines))
        shutil.copytree(ground.state, room / "state")
        with gateway(room, ground.core) as (process, _):
            yield Running(port, process, _version(["git", "-C", str(ROOT), "describe", "--always"]))

    return start


def _pair(ground: Ground, tls: bool) -> tuple[Path, Path] | None:
    return (ground.certificate, ground.key) if tls else None


def _version(command: list[str]) -> str:
    """Return the first line that a program says of its version."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return (said.stdout + said.stderr).strip().partition("\n")[0]
    return ""


#: name -> how to start it, in the order of the table.
RIVALS: dict[str, Start] = {
    "direct": _direct,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "chp": _chp,
    "caddy": _caddy,
    "autobahn": _autobahn,
    "transports": _vsmgate("transports"),
    "sockets": _vsmgate("sockets"),
}
