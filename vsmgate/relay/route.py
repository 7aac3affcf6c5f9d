"""What the addresses of the relay mean, and which pages may use them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from msgspec import Struct

from vsmgate.config import RelayConfig
from vsmgate.errors import NoSuchJob, OriginRefused
from vsmgate.model import Prefix, Service

__all__ = ["Route", "check_origin", "origins_of", "route_of"]

# Upper case is tolerated in a job id: one web page changes the case of its addresses.
_ROUTE = re.compile(r"(/([A-Za-z2-7]{26})/([a-z0-9][a-z0-9_-]{0,62}))(/.*)?", re.ASCII)


class Route(Struct, frozen=True):
    """Where a request's path leads.

    ``public``: ``/JOB/SERVICE`` as browsers see it, with what the gateway's public address
    has before it. ``inner``: what follows in the request; empty, or with its slash.
    """

    job_id: str
    service: str
    public: str = ""
    inner: str = ""

    def path_in(self, spec: Service) -> str:
        """Return the path at which the service is asked, with its own query if it has one.

        Fails with `NoSuchJob` for an address below a service without pages of its own,
        but for a trailing ``/ws``, which older viewers append.
        """
        if not spec.http:
            if self.inner not in ("", "/ws"):
                raise NoSuchJob
            return spec.path
        inner = self.inner or spec.path
        return inner if spec.prefix is Prefix.STRIP else self.public + inner


def route_of(path: str, config: RelayConfig) -> Route:
    """Return the route of ``/{job_id}/{service}...`` below the base path.

    Everything else is `NoSuchJob`, the same answer as for a job that does not exist.
    """
    base = config.base_path
    match = _ROUTE.fullmatch(path.removeprefix(base)) if path.startswith(base) else None
    if match is None:
        raise NoSuchJob
    place, job_id, service, inner = match.groups()
    if config.public_base:  # a front may show another path than it asks the gateway for
        base = "".join(config.public_base.rstrip("/").partition("/")[1:])
    return Route(job_id.lower(), service, base + place, inner or "")


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
