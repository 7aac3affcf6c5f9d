"""What the addresses of the relay mean, and which pages may use them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from vsmgate.config import RelayConfig
from vsmgate.errors import NoSuchJob, OriginRefused

__all__ = ["check_origin", "origins_of", "route_of"]

# Upper case is tolerated in a job id: one web page changes the case of its addresses.
_ROUTE = re.compile(r"/([A-Za-z2-7]{26})/([a-z0-9][a-z0-9_-]{0,62})(?:/ws)?", re.ASCII)


def route_of(path: str, base_path: str = "") -> tuple[str, str]:
    """Return the job id and the service in ``/{job_id}/{service}``, below ``base_path``.

    A trailing ``/ws`` is tolerated (older viewers append it). Everything else is
    `NoSuchJob`, the same answer as for a job that does not exist.
    """
    match = _ROUTE.fullmatch(path.removeprefix(base_path)) if path.startswith(base_path) else None
    if match is None:
        raise NoSuchJob
    return match.group(1).lower(), match.group(2)


def origins_of(config: RelayConfig, port: int) -> frozenset[str]:
    """Return the origins whose pages may connect: the configured ones, and our own.

    ``port``: where the listener listens. Our own origin comes from the configuration,
    never from a request's Host header, which the page's owner can choose.
    """
    scheme, default = ("https", "443") if config.tls_public else ("http", "80")
    host = f"[{config.host}]" if ":" in config.host else config.host
    authority = (config.public_base or f"{host}:{port}").partition("/")[0].lower()
    return frozenset(
        {*config.allowed_origins, f"{scheme}://{authority.removesuffix(f':{default}')}"}
    )


def check_origin(origin: str | None, allowed: Collection[str]) -> None:
    """Fail with `OriginRefused` unless ``origin`` is absent (no browser) or allowed."""
    if origin is not None and origin not in allowed:
        raise OriginRefused("Pages of this origin may not connect; see allowed_origins.")
