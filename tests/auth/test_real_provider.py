"""The authenticators with a real OpenID provider: users, rotation, revocation, outage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests import nanoidp
from tests.nanoidp import AUDIENCE, CLIENT, SECRET, NanoIdp
from vsmgate.auth.openid import IntrospectionFactory, JwtFactory, UserinfoFactory
from vsmgate.errors import AuthenticatorUnavailable, Unauthenticated
from vsmgate.interfaces import Context
from vsmgate.model import Identity, Secret
from vsmgate.settings import read

FACTORIES: dict[str, Any] = {
    "jwt": JwtFactory(),
    "userinfo": UserinfoFactory(),
    "introspection": IntrospectionFactory(),
}
KINDS = list(FACTORIES)
JWKS = "/.well-known/jwks.json"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NanoIdp]:
    """One for all tests: each leaves it running, with whatever keys."""
    nanoidp.require()
    with nanoidp.running(tmp_path_factory.mktemp("nanoidp")) as found:
        yield found


class Wall:
    """The wall's clock, moved on by what a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Clock:
    """The reactor, with seconds that a test can skip: only the authenticators' ages see it."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.ahead = 0.0
        self._reactor: Any = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        return float(self._reactor.seconds()) + self.ahead


class House:
    """Makes authenticators for one provider."""

    def __init__(self, provider: NanoIdp, folder: Path) -> None:
        self.wall = Wall()
        self.clock = Clock()
        self._provider = provider
        self._folder = folder
        (folder / "client-secret").write_text(SECRET + "\n")

    def make(self, kind: str, **settings: Any) -> Any:
        table: dict[str, Any] = {
            "issuer": self._provider.issuer,
            "allow_http": True,
            "subject": "sub" if kind != "userinfo" else "email",
            "groups": ["groups"],
            "timeout": 30.0,  # a slow machine is not what is tested
        }
        if kind == "jwt":
            table["audiences"] = [AUDIENCE]
        if kind == "introspection":
            table |= {"client_id": CLIENT, "client_secret_file": "client-secret"}
        factory = FACTORIES[kind]
        found = read(factory.settings, {**table, **settings}, source="conf")
        # `Clock` is all of the reactor, for who does not ask for its interfaces.
        context = Context("sso", self.clock, self.wall, self._folder, self._folder)  # type: ignore[arg-type]
        return factory.make(found, context)


@pytest.fixture
def house(provider: NanoIdp, tmp_path: Path) -> House:
    return House(provider, tmp_path)


async def who(sso: Any, token: str) -> Identity:
    found = await sso.authenticate(Secret(token))
    assert isinstance(found, Identity)
    return found


async def nobody(sso: Any, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await sso.authenticate(Secret(token))
    return caught.value.detail


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_two_users_and_what_is_no_token(kind: str, provider: NanoIdp, house: House) -> None:
    sso = house.make(kind)
    alice = await who(sso, provider.token("alice"))
    assert alice.subject == ("alice@example.org" if kind == "userinfo" else "alice")
    assert alice.expires_at is not None
    assert 0 < alice.expires_at - house.wall() <= 3600
    bob = await who(sso, provider.token("bob"))
    assert bob.subject == alice.subject.replace("alice", "bob")
    assert bob.groups == ()
    if kind != "introspection":  # nanoidp's answer there has no groups
        assert set(alice.groups) == {"viz", "lab"}
    good = provider.token("alice")
    await nobody(sso, "garbage")
    await nobody(sso, good[:-6] + "AAAAAA")
    await nobody(sso, provider.token("alice", kind="id_token"))
    await nobody(sso, provider.token("alice", kind="refresh_token"))


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_a_token_made_for_another_application(
    kind: str, provider: NanoIdp, house: House
) -> None:
    sso = house.make(kind, audiences=[], clients=[CLIENT])
    await who(sso, provider.token("alice"))
    assert "client" in await nobody(sso, provider.token("alice", client="mail"))


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_a_token_ends(kind: str, provider: NanoIdp, house: House) -> None:
    sso = house.make(kind, leeway=0.0)
    token = provider.short_token("alice", 600.0)
    found = await who(sso, token)
    assert found.expires_at is not None
    house.wall.ahead = found.expires_at - house.wall() + 1.0
    assert "expired" in await nobody(sso, token)


@pytest.mark.criterion("S-17")
@pytest_twisted.ensureDeferred
async def test_s17_rotation(provider: NanoIdp, house: House) -> None:
    sso = house.make("jwt")
    before = provider.questions(JWKS)
    old = provider.token("alice")
    await who(sso, old)
    provider.rotate()
    new = provider.token("alice")
    house.clock.ahead += 60.0
    assert (await who(sso, new)).subject == "alice"
    assert (await who(sso, old)).subject == "alice"  # its key is still published
    assert provider.questions(JWKS) == before + 2
    for _ in range(3):  # nanoidp publishes the two keys before the present one
        provider.rotate()
    house.clock.ahead += 600.0
    await nobody(sso, old)
    assert provider.questions(JWKS) == before + 3


@pytest.mark.parametrize("kind", ["userinfo", "introspection"])
@pytest_twisted.ensureDeferred
async def test_revocation_counts_within_a_minute(
    kind: str, provider: NanoIdp, house: House
) -> None:
    sso = house.make(kind)
    token = provider.token("alice")
    await who(sso, token)
    provider.revoke(token)
    await who(sso, token)
    house.clock.ahead += 60.0
    await nobody(sso, token)


@pytest_twisted.ensureDeferred
async def test_an_outage_with_keys(provider: NanoIdp, house: House) -> None:
    sso = house.make("jwt")
    old = provider.token("alice")
    provider.rotate()
    new = provider.token("bob")
    await who(sso, old)
    provider.stop()
    house.clock.ahead += 3599.0
    assert (await who(sso, old)).subject == "alice"
    assert (await who(sso, new)).subject == "bob"
    await nobody(sso, new[:-6] + "AAAAAA")
    provider.start()
    provider.rotate()
    newest = provider.token("bob")
    house.clock.ahead += 60.0
    assert (await who(sso, newest)).subject == "bob"


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_an_outage_from_the_start(kind: str, provider: NanoIdp, house: House) -> None:
    sso = house.make(kind)
    token = provider.token("alice")
    provider.stop()
    for _ in range(3):
        with pytest.raises(AuthenticatorUnavailable) as caught:
            await sso.authenticate(Secret(token))
        assert caught.value.retry_after
        assert "127.0.0.1" not in caught.value.detail
    provider.start()
    house.clock.ahead += 60.0
    assert (await who(sso, token)).subject.startswith("alice")


@pytest_twisted.ensureDeferred
async def test_many_at_once_are_one_question(provider: NanoIdp, house: House) -> None:
    sso = house.make("userinfo")
    before = provider.questions("/userinfo")
    token = provider.token("alice")
    found = await gatherResults([Deferred.fromCoroutine(who(sso, token)) for _ in range(50)])
    assert {one.subject for one in found} == {"alice@example.org"}
    assert provider.questions("/userinfo") == before + 1
