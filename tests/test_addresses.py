"""Which addresses a configuration may have."""

from __future__ import annotations

import pytest

from vsmgate.addresses import (
    wrong_with_base_path,
    wrong_with_host,
    wrong_with_origin,
    wrong_with_public_base,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost", "node-1.x.org"])
def test_hosts(host: str) -> None:
    assert wrong_with_host(host) == ""


@pytest.mark.parametrize("host", ["", "http://x", "x:80", "[::1]", "x/y", "-x", "x\n"])
def test_what_is_no_host(host: str) -> None:
    assert "is no address to listen at" in wrong_with_host(host)


@pytest.mark.parametrize("path", ["", "/vsm", "/vsm/proxy", "/a.b/~c/d-e_f"])
def test_base_paths(path: str) -> None:
    assert wrong_with_base_path(path) == ""


@pytest.mark.parametrize(
    "path", ["vsm", "/", "/vsm/", "/a//b", "/a/../b", "/.", "/a?b", "/a b", "/\n"]
)
def test_what_is_no_base_path(path: str) -> None:
    assert "must be empty or like '/vsm/proxy'" in wrong_with_base_path(path)


@pytest.mark.parametrize(
    "base", ["vis.example.org", "vis.example.org:8443", "[::1]:8888/x", "10.0.0.1/vsm/proxy"]
)
def test_public_bases(base: str) -> None:
    assert wrong_with_public_base(base) == ""


@pytest.mark.parametrize(
    "base", ["https://x", "x/", "x:0", "x:99999", "x:", "x?y", "u@x", "/x", "x/../y", "x y"]
)
def test_what_is_no_public_base(base: str) -> None:
    assert "without scheme" in wrong_with_public_base(base)


@pytest.mark.parametrize(
    "origin", ["https://x.org", "http://localhost:3000", "https://[::1]:8443", "app://main"]
)
def test_origins(origin: str) -> None:
    assert wrong_with_origin(origin) == ""


@pytest.mark.parametrize(
    ("origin", "wrong"),
    [
        ("*", "is no origin"),
        ("https://*.x.org", "is no origin"),
        ("https://x.org/", "is no origin"),
        ("https://x.org/app", "is no origin"),
        ("x.org", "is no origin"),
        ("https://x.org:0", "is no origin"),
        ("null", "is no origin"),
        ("https://X.org", "must be in lower case, as browsers send it: 'https://x.org'"),
        ("https://x.org:443", "must leave out the port 443"),
        ("http://x.org:80", "must leave out the port 80"),
    ],
)
def test_what_is_no_origin(origin: str, wrong: str) -> None:
    assert wrong in wrong_with_origin(origin)
