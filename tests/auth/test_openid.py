"""The settings of the OpenID kinds, and the factories that read them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from vsmgate.auth.anonymous import AnonymousAuthenticatorFactory
from vsmgate.auth.openid import IntrospectionFactory, JwtFactory, UserinfoFactory
from vsmgate.errors import ConfigError
from vsmgate.interfaces import Context, IAuthenticator, IAuthenticatorFactory, ISettingsChecker
from vsmgate.settings import read

ISSUER = "https://sso.example.org/realms/vis"
FACTORIES: dict[str, Any] = {
    "jwt": JwtFactory(),
    "userinfo": UserinfoFactory(),
    "introspection": IntrospectionFactory(),
}
GOOD: dict[str, dict[str, Any]] = {
    "jwt": {"issuer": ISSUER, "audiences": ["vsmgate"]},
    "userinfo": {"issuer": ISSUER},
    "introspection": {"issuer": ISSUER, "client_id": "vsm", "client_secret_file": "secret"},
}

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "nothing").write_text("\n")

    def made(kind: str, **settings: Any) -> Any:
        factory = FACTORIES[kind]
        table = {name: v for name, v in {**GOOD[kind], **settings}.items() if v is not None}
        where = "authenticators.sso"
        found = read(factory.settings, table, source="conf", where=where)
        context = Context("sso", MemoryReactorClock(), lambda: 0.0, tmp_path, tmp_path)
        factory.inspect(found, context)
        return factory.make(found, context)

    return made


@pytest.mark.parametrize("kind", FACTORIES)
def test_interfaces(kind: str, make: Make) -> None:
    verifyObject(IAuthenticatorFactory, FACTORIES[kind])
    verifyObject(ISettingsChecker, FACTORIES[kind])
    verifyObject(IAuthenticator, make(kind))


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"issuer": "sso.example.org"}, r"sso\.issuer: .* is not a URL"),
        ({"issuer": "http://sso.example.org"}, r"sso\.issuer: .* must be https"),
        ({"issuer": "https://me:pw@sso.example.org"}, "neither a user nor a fragment"),
        ({"issuer": "https://sso.example.org:99999"}, "is not a URL"),
        ({"issuer": "https://sso.example.org/a b"}, "is not a URL"),
        ({"issuer": None}, r"sso\.issuer"),
        ({"subject": "a..b"}, r"sso\.subject: 'a\.\.b' is not a claim"),
        ({"groups": ["groups", ""]}, r"sso\.groups\[1\]: '' is not a claim"),
        ({"leeway": 31.0}, r"sso\.leeway"),
        ({"ca_file": "nowhere.pem"}, r"sso\.ca_file: .*nowhere\.pem cannot be read: no such file"),
        ({"ca_file": "secret"}, r"sso\.ca_file: .*secret holds no certificate"),
        ({"client_secret": "x"}, r"client_secret"),
        ({"verify": False}, r"sso\.verify: unknown key"),
    ],
)
def test_settings_that_are_wrong(
    kind: str, settings: dict[str, Any], problem: str, make: Make
) -> None:
    with pytest.raises(ConfigError, match=problem):
        make(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        ("jwt", {"audiences": None}, r"sso\.audiences: is required, or clients"),
        ("jwt", {"algorithms": ["HS256"]}, r"sso\.algorithms"),
        ("jwt", {"algorithms": ["none"]}, r"sso\.algorithms"),
        ("jwt", {"algorithms": []}, r"sso\.algorithms"),
        ("jwt", {"stale_ttl": 60.0}, r"sso\.stale_ttl: is less"),
        ("jwt", {"jwks_url": "http://sso.example.org/certs"}, r"sso\.jwks_url: .*https"),
        ("userinfo", {"cache_ttl": 61.0}, r"sso\.cache_ttl"),
        ("userinfo", {"userinfo_url": "ftp://x"}, r"sso\.userinfo_url"),
        ("introspection", {"client_secret_file": None}, "give one of"),
        ("introspection", {"client_secret_env": "X"}, "give one of"),
        ("introspection", {"client_secret_file": "no"}, "no cannot be read: no such file"),
        ("introspection", {"client_secret_file": "nothing"}, "nothing is empty"),
        (
            "introspection",
            {"client_secret_file": None, "client_secret_env": "VSMGATE_TEST_UNSET"},
            "VSMGATE_TEST_UNSET is not set",
        ),
    ],
)
def test_settings_of_one_kind_that_are_wrong(
    kind: str, settings: dict[str, Any], problem: str, make: Make
) -> None:
    with pytest.raises(ConfigError, match=problem):
        make(kind, **settings)


def test_a_secret_of_the_environment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSMGATE_TEST_SECRET", "s3cret")
    make("introspection", client_secret_file=None, client_secret_env="VSMGATE_TEST_SECRET")


def test_plain_http_must_be_asked_for(make: Make) -> None:
    make("jwt", issuer="http://127.0.0.1:9/", allow_http=True)


def test_importing_the_plugins_imports_no_heavy_library() -> None:
    code = (
        "import sys, vsmgate.auth.openid, vsmgate.auth.anonymous;"
        "print([m for m in ('jwt', 'cryptography', 'treq', 'twisted.web.client')"
        " if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert said.stdout == b"[]\n"


def test_every_key_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/identity.md").read_text()
    documented = set()
    for line in page.partition('with `kind = "jwt"')[2].splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 3:
            documented.add((cells[0].strip("| `"), cells[1]))
    expected = set()
    factories = [*FACTORIES.values(), AnonymousAuthenticatorFactory()]
    for field in [f for made in factories for f in msgspec.structs.fields(made.settings)]:
        default = field.default
        if default is msgspec.NODEFAULT:
            shown = "required"
        elif default is None or default == ():
            shown = "none"
        elif isinstance(default, tuple):
            shown = ", ".join(default)
        else:
            shown = msgspec.json.encode(default).decode()
        expected.add((field.name, shown))
    assert documented == expected


def test_the_documented_examples_are_good(make: Make, tmp_path: Path) -> None:
    (tmp_path / "keycloak-secret").write_text("s3cret")
    page = (Path(__file__).parents[2] / "docs/identity.md").read_text()
    kinds = []
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        for table in tomllib.loads(block).get("authenticators", {}).values():
            kinds.append(table.pop("kind"))
            lacking = dict.fromkeys(GOOD[kinds[-1]].keys() - table.keys())
            make(kinds[-1], **{**lacking, **table})
            assert len(block.strip().splitlines()) <= 10
    assert kinds == ["jwt", "userinfo", "introspection"]
