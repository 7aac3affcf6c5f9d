"""``[launchers.NAME]`` with ``kind = "unicore"``, and what can be wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from vsmgate.errors import Problem
from vsmgate.launchers.job_report import wrong_places
from vsmgate.model import Port, Seconds

__all__ = ["PREFERENCES", "UnicoreSettings", "settings_problems"]

#: What the header X-UNICORE-User-Preferences can choose.
PREFERENCES = ("uid", "group", "role", "supgids")
_PREFERENCE = re.compile(r"[A-Za-z0-9_.+-]*(\{owner\})?[A-Za-z0-9_.+-]*", re.ASCII)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class UnicoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]`` with ``kind = "unicore"``; docs/engines/unicore.md explains each.

    ``url``: of the site's core services, ``https://GATEWAY/SITE/rest/core``. The credential is
    a bearer token (``token_file`` or ``token_env``), or ``user`` with a password.
    ``preferences``: as whom jobs run, where the credential may act as several. ``address``:
    what is dialled for a node, ``{node}`` being its name. ``nodes``: a regular expression for
    the names of nodes that may be dialled.
    """

    url: str
    token_file: str | None = None
    token_env: str | None = None
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    ca_file: str | None = None
    preferences: dict[str, str] = {}
    bind: str = "0.0.0.0"
    address: str = "{node}"
    nodes: str = r"[A-Za-z0-9][A-Za-z0-9.-]*"
    ports: tuple[Port, Port] = (20000, 29999)
    python: str = "python3"
    poll_every: Annotated[float, Meta(ge=0)] = 2.0
    timeout: Seconds = 20.0

    @property
    def per_owner(self) -> bool:
        """Whether jobs run as their owners."""
        return any("{owner}" in value for value in self.preferences.values())


def settings_problems(settings: UnicoreSettings, where: str, config_dir: Path) -> list[Problem]:
    """Return everything that keeps settings from being used on this machine."""
    from vsmgate.hands.http_client import wrong_with_authorities

    wrong = [*_wrong_site(settings), *_wrong_credential(settings, config_dir), *_wrong(settings)]
    if settings.ca_file and (why := wrong_with_authorities(config_dir / settings.ca_file)):
        wrong.append(("ca_file", f"{settings.ca_file!r} {why}"))
    return [Problem(f"{where}.{key}", why) for key, why in wrong]


def _wrong_site(settings: UnicoreSettings) -> Iterator[tuple[str, str]]:
    example = "such as https://unicore.example.org/SITE/rest/core"
    try:
        parts = urlsplit(settings.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        yield "url", f"is no address; write one {example}"
        return
    if parts.username is not None or parts.password is not None:
        yield "url", "must not have a user or a password in it; see user and password_file"
    elif parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        yield "url", f"{settings.url!r} is not the address of a site; write one {example}"
    elif parts.scheme == "http" and host not in _LOOPBACK:
        yield "url", "must be https: the credential would go over the network in clear"


def _wrong_credential(settings: UnicoreSettings, config_dir: Path) -> Iterator[tuple[str, str]]:
    token = [key for key in ("token_file", "token_env") if getattr(settings, key)]
    password = [key for key in ("password_file", "password_env") if getattr(settings, key)]
    if len(token) + len(password) != 1:
        keys = "token_file, token_env, or user with password_file or password_env"
        yield "token_file", f"one credential is needed: {keys}"
        return
    if password and (not settings.user or ":" in settings.user or not settings.user.isprintable()):
        yield "user", "is required with a password, and has no colon"
    if token and settings.user:
        yield "user", "goes with a password, not with a token"
    for key in (*token, *password):
        name = getattr(settings, key)
        if key.endswith("_env") and not os.environ.get(name):
            yield key, f"the environment variable {name} is not set"
        if key.endswith("_file") and not (config_dir / name).is_file():
            yield key, f"{name!r} is no file"


def _wrong(settings: UnicoreSettings) -> Iterator[tuple[str, str]]:
    for key, value in settings.preferences.items():
        if key not in PREFERENCES:
            yield f"preferences.{key}", f"is unknown; known: {', '.join(PREFERENCES)}"
        elif not value or not _PREFERENCE.fullmatch(value):
            yield f"preferences.{key}", f"{value!r} must be a name, or '{{owner}}'"
    yield from wrong_places(settings.address, settings.nodes, settings.ports)
