"""The shapes of the addresses in a configuration, and what is wrong with the others.

Each function returns the end of a sentence that starts with the value, or nothing when
the value is good.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = [
    "wrong_with_base_path",
    "wrong_with_host",
    "wrong_with_origin",
    "wrong_with_public_base",
    "wrong_with_url",
]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_HOST = rf"(?:\[[0-9A-Fa-f:.]+\]|{_NAME})"
_PATH = r"(?:/[A-Za-z0-9._~-]+)*"
_HOST_NAME = re.compile(_NAME, re.ASCII)
_BASE_PATH = re.compile(_PATH, re.ASCII)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://{_HOST}(?::(\d{{1,5}}))?", re.ASCII)
_PUBLIC_BASE = re.compile(rf"{_HOST}(?::(\d{{1,5}}))?({_PATH})", re.ASCII)
_URL = re.compile(r"https?://[\x21-\x7e]{1,2000}", re.ASCII)


def wrong_with_host(host: str) -> str:
    """Judge an address to listen at: an IP address or a host's name, without port."""
    if _HOST_NAME.fullmatch(host):
        return ""
    try:
        ip_address(host)
    except ValueError:
        return "is no address to listen at, such as '127.0.0.1' or '::'"
    return ""


def wrong_with_base_path(path: str) -> str:
    """Judge a path prefix: empty, or segments that each start with a slash."""
    if not _BASE_PATH.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
        return "must be empty or like '/vsm/proxy', without a slash at the end"
    return ""


def wrong_with_public_base(base: str) -> str:
    """Judge what clients put before ``/JOB/SERVICE``: ``host[:port][/path]``."""
    match = _PUBLIC_BASE.fullmatch(base)
    if match is None or wrong_with_base_path(match[2]) or not _is_port(match[1]):
        return "must be host[:port][/path], without scheme and without a slash at the end"
    return ""


def wrong_with_origin(origin: str) -> str:
    """Judge an origin: exactly as browsers send it (RFC 6454, section 6.2)."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None or not _is_port(match[2]):
        return "is no origin: scheme://host[:port], without path and without *"
    if origin != origin.lower():
        return f"must be in lower case, as browsers send it: {origin.lower()!r}"
    if match[2] and int(match[2]) == _DEFAULT_PORTS.get(match[1]):
        return f"must leave out the port {match[2]}, as browsers do for {match[1]}"
    return ""


def wrong_with_url(url: str, allow_http: bool) -> str:
    """Judge the URL of a service that this gateway asks, such as an identity provider."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not _URL.fullmatch(url):
        return "is not a URL such as 'https://sso.example.org/realms/vis'"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must have neither a user nor a fragment"
    if parts.scheme != "https" and not allow_http:
        return "must be https:// (allow_http = true takes http:// too, for tests)"
    return ""


def _is_port(port: str | None) -> bool:
    return port is None or 1 <= int(port) <= 65535
