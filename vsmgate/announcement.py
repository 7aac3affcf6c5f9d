"""What the gateway says to the people who start it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError

from vsmgate import __version__
from vsmgate.config import Config
from vsmgate.errors import ConfigError, GatewayError

__all__ = ["announcement", "leave", "say", "why_not"]


def announcement(
    config: Config, state_dir: Path, master_port: int | None, relay_port: int | None
) -> str:
    """Return where the gateway listens, and what to try; None: that face is not here."""
    lines = [f"vsmgate {__version__} ({config.role})"]
    master, relay = config.master, config.relay
    if master_port is not None:
        scheme = "https" if master.tls else "http"
        base = f"{scheme}://{_authority(master.host, master_port)}"
        lines.append(f"  master  {base}")
    if relay_port is not None:
        scheme = "wss" if relay.tls else "ws"
        lines.append(f"  relay   {scheme}://{_authority(relay.host, relay_port)}")
    token = state_dir / "token"
    here = Path.cwd()
    if token.is_relative_to(here):
        token = token.relative_to(here)
    if master_port is not None and token.exists():
        lines.append(f"  token   {token}")
        lines.append(
            f'  try     curl -H "Authorization: Bearer $(cat {token})"'
            " -H 'Content-Type: application/json'"
            f""" -d '{{"usecase": "{config.jobs.default_usecase}"}}' {base}/start"""
        )
    return "\n".join(lines)


def why_not(config: Config, error: BaseException | None) -> str:
    """Return why the gateway cannot start, and what helps."""
    if isinstance(error, ConfigError | GatewayError):
        return str(error)
    if not isinstance(error, CannotListenError):
        return f"cannot start: {error}"
    place = (error.interface, error.port)
    face = "relay" if place == (config.relay.host, config.relay.port) else "master"
    why = getattr(error.socketError, "strerror", None) or str(error.socketError)
    return (
        f"{face}.port: nobody can listen on {_authority(error.interface, error.port)}:"
        f" {why.lower()}; end what listens there, or choose another {face}.port or"
        f" {face}.host (--{face}-port N)"
    )


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def say(text: str, stream: Any) -> None:
    """Write for people, past the log (which has taken over `sys.stdout`)."""
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()


def leave(status: int) -> None:
    """End the process with ``status``: twistd has no other way to."""
    sys.stdout.flush()
    os._exit(status)
