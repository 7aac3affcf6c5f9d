"""A service for tests: ``echo.py PORT`` sends every message back."""

# ruff: noqa: T201
from __future__ import annotations

import sys

from websockets.sync.server import ServerConnection, serve


def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    for message in connection:
        connection.send(message)


with serve(echo, "127.0.0.1", int(sys.argv[1])) as server:
    print("hello", flush=True)
    server.serve_forever()
