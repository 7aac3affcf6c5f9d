"""A scene to look at in a browser: a branching cell, drawn by viser, and a few controls.

::

    python -m vsmgate.demo.viser_scene --host 127.0.0.1 --port 8080

Page and WebSocket share the port. It needs the extra ``viser``.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["branches", "main"]

Point = tuple[float, float, float]


def branches(depth: int, spread: float) -> list[tuple[Point, Point]]:
    """Return the segments of a tree that forks ``depth`` times.

    ``spread``: how far the two parts of a fork lean to their sides, in radians.
    """
    segments: list[tuple[Point, Point]] = []

    def grow(start: Point, tilt: float, turn: float, length: float, left: int) -> None:
        flat = length * math.sin(tilt)
        end = (
            start[0] + flat * math.cos(turn),
            start[1] + flat * math.sin(turn),
            start[2] + length * math.cos(tilt),
        )
        segments.append((start, end))
        if left:
            for side in (0.0, math.pi):
                grow(end, tilt + spread, turn + side + 0.5 * left, 0.75 * length, left - 1)

    grow((0.0, 0.0, 0.0), 0.0, 0.0, 1.0, depth)
    return segments


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="vsmgate.demo.viser_scene", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--title", default="vsmgate")
    options = parser.parse_args(argv)
    try:
        import viser
    except ImportError as error:
        sys.exit(f"viser is missing ({error}): install it with pip install 'vsmgate[viser]'")
    server = viser.ViserServer(host=options.host, port=options.port, verbose=False)
    if server.get_port() != options.port:  # viser takes the next free one by itself
        sys.exit(f"port {options.port} is taken")
    _fill(server, options.title)
    print(f"listening on {options.host}:{options.port}", flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    while True:
        signal.pause()


def _fill(server: Any, title: str) -> None:
    """Put the cell and its controls there; every viewer sees the same."""
    import numpy

    server.gui.configure_theme(control_layout="fixed", dark_mode=False)
    server.scene.set_up_direction("+z")
    server.initial_camera.position = (3.5, 3.5, 2.5)
    server.initial_camera.look_at = (0.0, 0.0, 1.2)
    server.gui.add_markdown(f"**{title}**")
    depth = server.gui.add_slider("Forks", min=0, max=8, step=1, initial_value=5)
    spread = server.gui.add_slider("Spread", min=0.0, max=1.0, step=0.05, initial_value=0.4)
    soma = server.gui.add_slider("Soma", min=0.05, max=1.0, step=0.05, initial_value=0.25)
    color = server.gui.add_rgb("Colour", initial_value=(200, 60, 40))

    def draw(_: object = None) -> None:
        points = numpy.asarray(branches(depth.value, spread.value), dtype=numpy.float32)
        server.scene.add_line_segments("/cell/tree", points, colors=color.value, line_width=4.0)
        server.scene.add_icosphere("/cell/soma", radius=soma.value, color=color.value)

    for control in (depth, spread, soma, color):
        control.on_update(draw)
    draw()


if __name__ == "__main__":
    main()
