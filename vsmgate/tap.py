"""What ``twistd vsmgate`` runs: its options, and the service made from them."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.python.usage import Options as TwistedOptions

from vsmgate import __version__, assembly, config_file, shipped
from vsmgate.errors import ConfigError
from vsmgate.gateway import Gateway, WorkerCommand

__all__ = ["Options", "makeService", "steady"]


def _port(value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise ValueError("a port is a number from 0 to 65535 (0: any free one)")
    return number


def _refusal(error: ConfigError) -> SystemExit:
    """Return what ends the process with ``error`` on stderr, and status 1.

    A `UsageError` would bury it below all options, or in a traceback.
    """
    return SystemExit(f"vsmgate: {error}")


class Options(TwistedOptions):
    """The options of ``twistd vsmgate`` and ``bin/run``."""

    longdesc = "A proxy gateway for interactive visualisation on clusters and clouds."
    optParameters = [  # noqa: RUF012  # twisted.python.usage reads this class attribute
        ["config", "c", None, "Configuration file (TOML) [default: the embedded one]"],
        ["state-dir", None, None, "Directory of the gateway's state [default: var]"],
        ["master-port", None, None, "Port of the REST face [default: 4444]", _port],
        ["relay-port", None, None, "Port of the WebSocket relay [default: 8888]", _port],
        ["role", None, None, "all, master or relay [default: all]"],
    ]

    def getSynopsis(self) -> str:
        return "Usage: bin/run [options], or twistd -n vsmgate [options]"

    def opt_version(self) -> None:
        """Display the version and exit."""
        sys.stdout.write(f"vsmgate {__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the configuration, and send the log to stderr unless told otherwise."""
        path = Path(self["config"]) if self["config"] else shipped.conf_folder() / "vsmgate.toml"
        try:
            self.config = config_file.override(
                config_file.load(path),
                state_dir=self["state-dir"],
                role=self["role"],
                master_port=self["master-port"],
                relay_port=self["relay-port"],
            )
        except ConfigError as error:
            raise _refusal(error) from None
        self.config_path, self.config_dir = path, path.resolve().parent
        twistd: Any = self.parent
        if twistd is not None and not (twistd.get("logger") or twistd.get("logfile")):
            twistd["logger"] = f"vsmgate.logs.{self.config.log.level}"


def steady(reactor: Any) -> None:
    """Let ``reactor`` keep time by a clock that nobody sets; not once it runs.

    Twisted takes `time.time`: when the machine's clock is set back by an hour, every timer
    comes an hour late, and when it is set forward, every timeout comes at once. Nor does a full
    garbage collection stop it for long: what was loaded until then is never looked through.
    """
    if not reactor.running and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic  # the one clock for timers
    reactor.callWhenRunning(gc.freeze)


def makeService(options: Options, reactor: Any = None, listener: int | None = None) -> Gateway:
    """Return the gateway for ``options``; end the process with all that is wrong, status 1.

    ``listener``: of a worker, see `Gateway`.
    """
    if reactor is None:
        from twisted.internet import reactor as running_reactor

        reactor = running_reactor
        steady(reactor)
    wall = time.time  # noqa: TID251  # the one wall clock, handed to everything below
    settings = options.config
    state_dir = Path(settings.state_dir).absolute()  # jobs start elsewhere
    try:
        made = assembly.assemble(
            settings,
            options.config_dir,
            state_dir,
            reactor=reactor,
            wall=wall,
            source=str(options.config_path),
        )
    except ConfigError as error:
        raise _refusal(error) from None
    command = [sys.executable, "-m", "vsmgate.worker", "--role", "relay"]
    command += ["--config", str(options.config_path.resolve())]
    command += ["--state-dir", str(state_dir.resolve())]
    # A worker finds the modules that this process found, plugins of a checkout included.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    worker = WorkerCommand(command, environment)
    return Gateway(settings, made, state_dir, reactor, wall, worker, listener)
