"""The demo renderer: a small stand-in for ``braynsService`` 3.10.

``python -m vsmgate.demo.renderer --uri 127.0.0.1:5000 --max-clients 2 --log-level info``
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from vsmgate.demo.core_methods import (
    VERSION,
    add_camera_methods,
    add_core_methods,
    add_style_methods,
)
from vsmgate.demo.engine import Engine
from vsmgate.demo.entrypoints import Registry
from vsmgate.demo.image_methods import add_image_methods
from vsmgate.demo.poco import RendererFactory
from vsmgate.demo.program import LEVELS, DemoReactor, Worker, begin_log, serve
from vsmgate.demo.scene_methods import add_scene_methods
from vsmgate.demo.tasks import TaskQueue

__all__ = ["main"]

# The plugins of Brayns 3.10. The demo has none of their methods, but takes their names.
PLUGINS = (
    "braynsCircuitExplorer",
    "braynsAtlasExplorer",
    "braynsCylindricCamera",
    "braynsDTI",
    "braynsMoleculeExplorer",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the renderer; the exit code."""
    options = _parser().parse_args(arguments)
    host, port = options.uri
    # Imported here, as everywhere: a program chooses its reactor, a module does not.
    from twisted.internet import reactor as default_reactor

    reactor: DemoReactor = default_reactor  # type: ignore[assignment]
    begin_log(options.log_level)
    log = Logger(namespace="vsmgate.demo.renderer")
    log.info("Starting Brayns service.")
    unknown = [name for name in options.plugin if name not in PLUGINS]
    if unknown:
        log.critical(
            "Cannot load plugin '{plugin}'; known: {known}.",
            plugin=unknown[0],
            known=", ".join(PLUGINS),
        )
        return 1

    engine, registry, worker = Engine(), Registry(), Worker(reactor, 1)
    add_core_methods(
        registry,
        engine,
        options.plugin,
        # Late enough for the reply to leave.
        lambda: worker.report(reactor.callLater, 0.1, reactor.stop),
    )
    add_camera_methods(registry, engine)
    add_style_methods(registry, engine)
    add_scene_methods(registry, engine)
    add_image_methods(registry, engine)
    queue = TaskQueue(registry, worker, reactor)

    def started(address: IAddress) -> None:
        place = f"{address.host}:{address.port}"  # type: ignore[attr-defined]
        log.info("Server started on '{place}'.", place=place)
        log.info("Brayns service started.")

    def ended() -> None:
        queue.close()
        worker.close()
        log.info("Brayns service stopped.")

    factory = RendererFactory(queue, options.max_clients, reactor, os.environ.get("VSMGATE_SECRET"))
    return serve(reactor, factory, host, port, started, ended)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="braynsService", description=__doc__)
    version = ".".join(str(part) for part in VERSION)
    parser.add_argument("--version", action="version", version=f"{version} (vsmgate demo)")
    parser.add_argument("--uri", required=True, type=_uri, help="HOST:PORT to listen on")
    parser.add_argument("--max-clients", type=_count, default=2, help="clients served at a time")
    parser.add_argument("--log-level", choices=[*LEVELS, "off"], default="info")
    parser.add_argument("--plugin", action="append", default=[], help="may be given repeatedly")
    return parser


def _uri(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
