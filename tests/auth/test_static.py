"""Static tokens as an authenticator."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from vsmgate.auth.static import StaticAuthenticator, StaticAuthenticatorFactory, StaticSettings
from vsmgate.auth.tokens import Token, add_token, remove_token
from vsmgate.errors import ConfigError, Unauthenticated
from vsmgate.interfaces import (
    Context,
    IAuthenticator,
    IAuthenticatorFactory,
    IRevocable,
    ISettingsChecker,
)
from vsmgate.model import Identity, Secret

GOOD = Secret("a-good-token")
LATE = datetime(2030, 1, 1, tzinfo=UTC)


class Wall:
    """A clock on the wall that a test turns."""

    def __init__(self) -> None:
        self.now = LATE.timestamp() - 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    add_token(path, Token(GOOD.digest(), "ada", ("vis", "lab"), LATE))
    return path


@pytest.fixture
def static(file: Path, wall: Wall) -> StaticAuthenticator:
    return StaticAuthenticator(file, wall, "tokens")


@pytest.fixture
def logged(logged: list[LogEvent]) -> Any:
    return lambda level: [event for event in logged if event["log_level"].name == level]


async def unknown(static: StaticAuthenticator, token: Secret) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await static.authenticate(token)
    return caught.value.detail


def context(tmp_path: Path, wall: Wall) -> Context:
    state, conf = tmp_path / "state", tmp_path / "conf"
    for folder in (state, conf):
        folder.mkdir(exist_ok=True)
    return Context("tokens", MemoryReactorClock(), wall, state, conf)


def test_interfaces(static: StaticAuthenticator) -> None:
    verifyObject(IAuthenticator, static)
    verifyObject(IAuthenticatorFactory, StaticAuthenticatorFactory())
    verifyObject(ISettingsChecker, StaticAuthenticatorFactory())


@pytest_twisted.ensureDeferred
async def test_a_token_stands_for_its_subject(static: StaticAuthenticator) -> None:
    identity = await static.authenticate(GOOD)
    assert identity == Identity(
        "ada", ("vis", "lab"), LATE.timestamp(), "tokens", None, GOOD.digest()
    )


@pytest_twisted.ensureDeferred
async def test_a_token_tells_since_when_it_is(file: Path, wall: Wall) -> None:
    since = datetime(2026, 11, 22, 8, tzinfo=UTC)
    add_token(file, Token(Secret("new").digest(), "bob", created=since))
    identity = await StaticAuthenticator(file, wall, "tokens").authenticate(Secret("new"))
    assert identity.issued_at == since.timestamp()


@pytest_twisted.ensureDeferred
async def test_what_stands_for_nobody(static: StaticAuthenticator) -> None:
    for other in ("", "a-good-toke", GOOD.digest(), "a-good-token ", "\udcff"):
        assert "not known" in await unknown(static, Secret(other))


@pytest_twisted.ensureDeferred
async def test_a_token_ends(static: StaticAuthenticator, wall: Wall) -> None:
    wall.now = LATE.timestamp() - 0.001
    await static.authenticate(GOOD)
    wall.now = LATE.timestamp()
    assert "expired" in await unknown(static, GOOD)


@pytest_twisted.ensureDeferred
async def test_a_change_of_the_file_is_seen(
    static: StaticAuthenticator, wall: Wall, file: Path
) -> None:
    new = Secret("another")
    add_token(file, Token(new.digest(), "bob"))
    assert "not known" in await unknown(static, new)  # looked at within this second already
    wall.now += 1.0
    assert (await static.authenticate(new)).subject == "bob"
    file.write_text("")
    wall.now += 1.0
    await unknown(static, GOOD)


@pytest_twisted.ensureDeferred
async def test_a_file_is_looked_at_once_a_second(
    static: StaticAuthenticator, wall: Wall, file: Path
) -> None:
    wall.now += 1.0
    await static.authenticate(GOOD)
    file.write_text("")
    wall.now += 0.9
    await static.authenticate(GOOD)
    wall.now -= 500.0  # a clock that was set back must not stop the looking
    await unknown(static, GOOD)


@pytest_twisted.ensureDeferred
async def test_a_bad_change_keeps_the_tokens_and_is_logged_once(
    static: StaticAuthenticator,
    wall: Wall,
    file: Path,
    logged: Callable[[str], list[LogEvent]],
) -> None:
    good = file.read_text()
    for bad in ("[[token", "[[token]]\nsha256 = 'plain-token'\nsubject = 'x'\n", None):
        if bad is None:
            file.unlink()
        else:
            file.write_text(bad)
        for _ in range(3):
            wall.now += 1.0
            await static.authenticate(GOOD)
    errors = logged("error")
    assert len(errors) == 3
    assert str(file) in errors[0]["problems"]
    assert "plain-token" not in str(errors)
    file.write_text(good.replace("ada", "eve"))
    wall.now += 1.0
    assert (await static.authenticate(GOOD)).subject == "eve"


def test_a_file_that_others_may_read_is_told_of(
    file: Path, wall: Wall, logged: Callable[[str], list[LogEvent]]
) -> None:
    StaticAuthenticator(file, wall, "tokens")
    assert not logged("warn")
    file.chmod(0o644)
    StaticAuthenticator(file, wall, "tokens")
    assert len(logged("warn")) == 1


@pytest_twisted.ensureDeferred
async def test_the_first_start_makes_a_token(tmp_path: Path, wall: Wall) -> None:
    here = context(tmp_path, wall)
    factory, settings = StaticAuthenticatorFactory(), StaticSettings(generate=True)
    factory.inspect(settings, here)
    assert list(here.state_dir.iterdir()) == []  # looking makes nothing
    static = factory.make(settings, here)
    plain = here.state_dir / "token"
    for path in (plain, here.state_dir / "tokens.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    value = plain.read_text()
    identity = await static.authenticate(Secret(value.strip()))
    assert identity.subject == pwd.getpwuid(os.getuid()).pw_name
    assert value.strip() not in (here.state_dir / "tokens.toml").read_text()
    factory.inspect(settings, here)
    factory.make(settings, here)
    assert plain.read_text() == value  # a second start keeps it


def test_without_generate_there_must_be_a_file(tmp_path: Path, wall: Wall) -> None:
    here = context(tmp_path, wall)
    factory = StaticAuthenticatorFactory()
    for act in (factory.inspect, factory.make):
        with pytest.raises(ConfigError, match=r"state/tokens\.toml: is missing; make it with"):
            act(StaticSettings(), here)


def test_a_named_file_starts_at_the_configuration(tmp_path: Path, wall: Wall) -> None:
    here = context(tmp_path, wall)
    add_token(here.config_dir / "mine.toml", Token(GOOD.digest(), "ada"))
    StaticAuthenticatorFactory().make(StaticSettings("mine.toml", generate=True), here)
    assert not (here.state_dir / "token").exists()


@pytest_twisted.ensureDeferred
async def test_a_token_that_was_taken_away_is_not_valid_any_more(
    file: Path, static: StaticAuthenticator, wall: Wall
) -> None:
    verifyObject(IRevocable, static)
    identity = await static.authenticate(GOOD)
    assert GOOD.reveal() not in repr(identity)
    assert await static.still_valid(identity)
    add_token(file, Token("cd" * 32, "bob"))
    wall.now += 2.0
    assert await static.still_valid(identity)
    remove_token(file, identity.handle)
    wall.now += 2.0
    assert not await static.still_valid(identity)
    for other in (Identity("ada", authenticator="sso", handle="x"), Identity("ada")):
        assert await static.still_valid(other)
